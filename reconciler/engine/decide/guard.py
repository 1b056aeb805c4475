"""The guard: it trips if a revision or a pass would revoke, heal or make too many grants (docs/design/rules.md).

It counts an integration's grants: those revoked or healed are compared with its confirmed ones, those made or, by a
commit, updated with `max_new`. What a revision takes away counts as a whole, whatever part of it a pass covers: the
ledger has the revision's count. Grants that it suspended in an earlier pass count, too: it stays tripped until the
count falls or somebody overrides it.

What git takes away or adds counts also where the check failed: a service that answers for a few at a time must not let
a mistake through in small parts.

A pass that does not see all of what only checks show, losses and differences, heals a few at once. More waits until all
was checked, and so does what a revision adds where more of it is new than may be made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime

from reconciler.engine.decide.existing import OFF
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.revision_count import Keys, Limits, RevisionCount
from reconciler.ledger.entries import Event, ValueChanges
from reconciler.ledger.guard_counts import Since
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import APART, Decision, Key, Phase, Record
from reconciler.model.selection import Selection
from reconciler.model.settings import FEW, Settings
from reconciler.model.status import Action, EventType, ReasonCode, Status
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import is_off

HELD = "held"
"""The name of the note that has the tripped integrations."""

Why = tuple[ReasonCode, str]
"""Why a grant is held."""

COUNTING: Why = (ReasonCode.COUNTING, "held by the guard until all that it counts was checked")

NEVER = datetime.min.replace(tzinfo=UTC)
"""When a revision was counted of which there is no count: it takes nothing away, and adds nothing."""

NONE: Keys = {}
NOBODY = frozenset[Key]()

NEXT = "look why, then let it through once with `reconcile --yes-really`"


class Judgement(Frozen, kw_only=True):
    """What the guard says of a pass: which integrations it trips for, with the reason and its numbers.

    Of a pass by which a person `released` what was counted then, it says what later revisions add. `confirmed` are the
    grants that what trips is compared with.
    """

    tripped: Mapping[str, str] = {}
    confirmed: Mapping[str, int] = {}
    released: str | None = None

    def events(
        self,
        ledger: LedgerReader,
        planned: Sequence[PlannedGrant],
        dropped: Sequence[Record],
        *,
        now: datetime,
        revision: str,
    ) -> tuple[list[Event], ValueChanges]:
        """Make the events for integrations whose guard trips or is reset, and the note to store with them.

        A released pass resets one once the guard holds no other grants of it.
        """
        before = {*_held_since(ledger.notes.get(HELD))}
        met = {item.grant.integration for item in planned if not item.by_hand} | {each.integration for each in dropped}
        if before and self.released:
            met -= _held_elsewhere(ledger, {item.grant.key for item in planned} | {each.key for each in dropped})
        after = {*self.tripped, *(before - met)}
        if after == before:
            return [], {}
        begun, ended = after - before, before - after

        def note(current: bytes | None) -> bytes:
            """Update the note, keeping what other members noted of their integrations meanwhile."""
            others = {name: count for name, count in _held_since(current).items() if name not in ended}
            return json.dumps(others | {name: self.confirmed.get(name) for name in begun}, sort_keys=True).encode()

        no_grant = Key("", "")
        events = [
            Event(now, no_grant, name, EventType.HELD, self.tripped[name], revision=revision) for name in sorted(begun)
        ]
        freed = [Event(now, no_grant, name, EventType.RELEASED, revision=revision) for name in sorted(ended)]
        events += freed if self.released is None else [each.asked(self.released) for each in freed]
        return events, {HELD: note}


def _held_since(note: bytes | None) -> dict[str, int | None]:
    """Read which integrations are held, and how many confirmed grants each had then, if that is known."""
    found = json.loads(note or b"{}")
    return found if isinstance(found, dict) else dict.fromkeys(found)  # as earlier versions wrote it


def _held_elsewhere(ledger: LedgerReader, own: Collection[Key]) -> set[str]:
    """Return the integrations that the guard holds grants of beside these."""
    held = Counter(ledger.guard.held())
    held.subtract(each.integration for each, key in ledger.guard.held_of({key.hire for key in own}) if key in own)
    return {integration for integration, count in held.items() if count > 0}


class Changes:
    """What a pass would change, counted part by part as it is planned: the keys of all of it may be millions.

    With `everything`, a full resync, it restarts its counts, but of what revisions took away since the last one. The
    ledger counts the grants that are held since an earlier pass; those that this pass plans are counted by what is
    decided now. `revision` is the one that is planned.
    """

    def __init__(
        self,
        ledger: LedgerReader,
        settings: Settings,
        revision: str,
        *,
        everything: bool,
        counted: RevisionCount | None = None,
    ) -> None:
        self._own = own = Limits.of(settings)
        self._revision = revision
        self.counted = counted or RevisionCount.read(ledger) or RevisionCount(revision, NEVER, own, own)
        self._seen: set[Key] = set()
        """The grants that the counted revision takes away or adds, and that this pass covers."""
        self._ended = Counter[str]()
        """How many of what the revision takes away ended by a person or by themselves, while others of it are held."""
        self._adds = False
        since = ledger.guard.counted_since()
        self._since = Since(ledger.guard.newest_attempt(), since.began) if everything else since
        self._met: set[str] = set()
        self._renamed: dict[Key, Key] = {}
        self._taken = _Counted(lambda ledger: ledger.guard.changes_since(self._since))
        limited = own.most_new is not None or self.counted.limits.most_new is not None
        self._made = _Counted(lambda ledger: ledger.guard.made_since(self._since) if limited else {})
        held = ledger.guard.held_alike(self._since)
        for each, count, taken, made in held:
            if each.takes:
                self._taken.hold(each.integration, count, taken)
            else:
                self._made.hold(each.integration, count, made)
        self._any_held = bool(held)

    def add(
        self,
        ledger: LedgerReader,
        planned: Iterable[PlannedGrant],
        renamed: Mapping[Key, Key],
        dropped: Iterable[Record] = (),
    ) -> None:
        """Count a part. `renamed` maps the keys of renamed hires in the ledger to those in the plan.

        What is `dropped` from the ledger is held no longer.
        """
        self._renamed |= renamed
        covered = {(record.integration, record.key) for record in dropped}
        self._met.update(integration for integration, _ in covered)
        moved = set(renamed.values())
        for item in planned:
            key, integration = item.grant.key, item.grant.integration
            self._met.add(integration)
            leaves = key in self.counted.leaving.get(integration, NOBODY)
            arrives = key in self.counted.arriving.get(integration, NOBODY)
            if leaves and not item.exempt and item.decision.status is Status.SUSPENDED:
                continue  # until that ends, it counts as if this pass were not about it
            if leaves or arrives:
                self._seen.add(key)
            if item.exempt:
                continue  # nor does what a person named override anything
            covered.add((integration, key))
            if takes(item):
                self._taken.add(ledger, integration, key, moved=key in moved)
                self._adds |= not (leaves or item.wanted)
            elif makes(item):
                self._made.add(ledger, integration, key, moved=key in moved)
                self._adds |= not arrives
        if self._any_held:
            self._no_longer_held(ledger, covered)

    def _no_longer_held(self, ledger: LedgerReader, covered: Collection[tuple[str, Key]]) -> None:
        """Take the grants that a plan covers from those that are held since an earlier pass."""
        former = {new: old for old, new in self._renamed.items()}
        for each, key in ledger.guard.held_of({former.get(key, key).hire for _, key in covered}):
            if (each.integration, self._renamed.get(key, key)) in covered:
                (self._taken if each.takes else self._made).no_longer_held(ledger, each.integration, key)

    def add_others(self, ledger: LedgerReader, planned: Iterable[PlannedGrant]) -> None:
        """Count what other passes are about to change of the integrations that were counted so far."""
        self.add(ledger, [item for item in planned if item.grant.integration in self._met], {})

    def tripped(self, ledger: LedgerReader) -> dict[str, str]:
        """Return the integrations whose guard trips, with the reason and its numbers."""
        tripped: dict[str, str] = {}
        limits = self._limits
        if limits.most_new is not None:
            tripped |= _too_many_new(self._made.counts(ledger, self._met, self._renamed), limits.most_new)
        standing = self.counted.standing(ledger, self._met)
        self._ended = Counter(each.integration for each in standing.values() if each.phase is Phase.REVOKED)
        if taken := self._taken.counts(ledger, self._met, self._renamed, self._elsewhere(standing)):
            tripped |= _too_many_changes(taken, self._confirmed(ledger), limits.percent)
        return tripped

    def _confirmed(self, ledger: LedgerReader) -> dict[str, int]:
        """Count the confirmed grants, no more than when the guard began to hold: what is found since releases none."""
        held = _held_since(ledger.notes.get(HELD))
        now = Counter(ledger.guard.confirmed(self._since)) + self._ended
        return {name: min(count, held.get(name) or count) for name, count in now.items()}

    @property
    def _limits(self) -> Limits:
        """Return the limits that the revision is judged by."""
        if self.counted.revision == self._revision:
            return self.counted.limits
        return self.counted.limits_of(self._own, adds=self._adds, held=self._any_held)

    def _elsewhere(self, standing: Mapping[Key, Record]) -> Keys:
        """Return whose accounts revisions take away beside those that this pass covers, and that still count."""
        leaving = self.counted.leaving
        there = {
            key
            for key, each in standing.items()
            if each.phase is Phase.REVOKED or not (key in self._seen or each.revoking or (each.guarded and each.takes))
        }
        return {name: leaving[name] & there for name in self._met & leaving.keys()}

    def judged(
        self, ledger: LedgerReader, planned: Iterable[PlannedGrant], *, partial: bool
    ) -> tuple[list[PlannedGrant], Judgement]:
        """Suspend what must not be executed now, and return the judgement that it follows from.

        A `partial` pass does not see all of what only checks show: a few grants are healed at once, as a few never trip
        it, and more wait until all are checked. So does what a revision adds, if others of it may not be made.
        """
        tripped = self.tripped(ledger)
        taken = self._taken.counts(ledger, self._met, self._renamed) if partial else {}
        unchecked = self._unchecked(ledger) if partial else set()

        def why(item: PlannedGrant) -> Why | None:
            integration = item.grant.integration
            if integration in tripped:
                return ReasonCode.TRIPPED, tripped[integration]
            if item.exempt:
                return None
            waits = taken.get(integration, 0) > FEW and (item.decision.heals or self._only_found(item))
            adds = makes(item) or APART in item.grant.key.access  # a former account goes once another may come
            return COUNTING if waits or (integration in unchecked and adds) else None

        return _held(planned, why), Judgement(tripped=tripped, confirmed=self._confirmed(ledger) if tripped else {})

    def _only_found(self, item: PlannedGrant) -> bool:
        """Whether only checks show that an account is a former one: it is there beside one under the new address."""
        key, counted = item.grant.key, self.counted.leaving.get(item.grant.integration, NOBODY)
        return not item.wanted and APART in key.access and key not in counted

    def _unchecked(self, ledger: LedgerReader) -> set[str]:
        """Return the integrations of which other entries of the revision were not checked yet."""
        names = self._met & self.counted.arriving.keys()
        return {name for name in names if unanswered(ledger, self.counted, name, self._seen)}


def judge_released(
    ledger: LedgerReader, planned: Iterable[PlannedGrant], by: str
) -> tuple[list[PlannedGrant], Judgement]:
    """Suspend only what revisions add that came after somebody overrode the guard, if it is too much by itself."""
    counted, tripped = RevisionCount.read(ledger), dict[str, str]()
    later = None if counted is None else counted.unreleased
    if later is None or not (later.leaving or later.arriving):
        return [*planned], Judgement(released=by)
    if later.limits.most_new is not None:
        tripped |= _too_many_new({name: len(keys) for name, keys in later.arriving.items()}, later.limits.most_new)
    taken = {name: len(keys) for name, keys in later.leaving.items()}
    tripped |= _too_many_changes(taken, ledger.guard.confirmed(ledger.guard.counted_since()), later.limits.percent)
    planned, added = [*planned], later.keys(Selection())
    met = {item.grant.integration for item in planned if item.grant.key in added}
    tripped = {name: reason for name, reason in tripped.items() if name in met}  # of others, this pass knows nothing

    def why(item: PlannedGrant) -> Why | None:
        name = item.grant.integration
        return (ReasonCode.TRIPPED, tripped[name]) if item.grant.key in added and name in tripped else None

    return _held(planned, why), Judgement(tripped=tripped, released=by)


def unanswered(ledger: LedgerReader, counted: RevisionCount, integration: str, seen: AbstractSet[Key] = NOBODY) -> bool:
    """Whether entries that a revision adds, beside those `seen` or let through, were not checked since."""
    keys = counted.arriving.get(integration, NOBODY) - seen - counted.released
    return bool(keys) and not keys <= ledger.guard.answered_since(keys, counted.counted_at)


class _Counted:
    """Grants of one kind of change, by integration. `read` gives those changed since the last full resync.

    Only keys that may be among these are kept, so that a grant that is changed twice counts once.
    """

    def __init__(self, read: Callable[[LedgerReader], Mapping[str, set[Key]]]) -> None:
        self._held: Counter[str] = Counter()
        """How many are held since an earlier pass."""
        self._held_again: Counter[str] = Counter()
        """How many of these were changed since the last full resync as well."""
        self._read = read
        self._done: Mapping[str, set[Key]] | None = None
        self._keys: dict[str, set[Key]] = {}
        self._others: Counter[str] = Counter()

    def add(self, ledger: LedgerReader, integration: str, key: Key, *, moved: bool) -> None:
        """Count a grant; with `moved`, the ledger may have it under another key."""
        keys = self._keys.setdefault(integration, set())
        if moved or key in self._changed(ledger).get(integration, ()):
            keys.add(key)
        else:
            self._others[integration] += 1

    def hold(self, integration: str, count: int, changed: int) -> None:
        """Count grants that are held since an earlier pass; so many of them are among those changed."""
        self._held[integration] += count
        self._held_again[integration] += changed

    def no_longer_held(self, ledger: LedgerReader, integration: str, key: Key) -> None:
        """Take a grant from those that are held, by its key in the ledger."""
        self.hold(integration, -1, -(key in self._changed(ledger).get(integration, ())))

    def _changed(self, ledger: LedgerReader) -> Mapping[str, set[Key]]:
        if self._done is None:
            self._done = self._read(ledger)
        return self._done

    def counts(
        self, ledger: LedgerReader, integrations: Iterable[str], renamed: Mapping[Key, Key], elsewhere: Keys = NONE
    ) -> dict[str, int]:
        """Count each integration's grants, those changed already included; without those of which none is changed.

        What is changed `elsewhere` counts, too, and what was changed before it was `renamed`, under its new name.
        """
        counts = {}
        for integration in integrations:
            keys, held = self._keys.get(integration), self._held[integration]
            others = elsewhere.get(integration, frozenset())
            if keys is not None or held > 0 or others:
                changed = {renamed.get(key, key) for key in self._changed(ledger).get(integration, ())}
                uncounted = self._others[integration] + held - self._held_again[integration]
                counts[integration] = uncounted + len(changed.union(keys or (), others))
        return counts


def _too_many_changes(counts: Mapping[str, int], confirmed: Mapping[str, int], percent: float) -> dict[str, str]:
    """`counts` are the grants that are or were revoked or healed, `confirmed` those confirmed at the last resync."""
    tripped = {}
    for integration, changes in counts.items():
        total = max(confirmed.get(integration, 0), changes)
        if changes > FEW and changes * 100 > percent * total:
            share = f"{changes * 100 / total:.2f} % is over {percent:g} % ({changes}/{total})"
            tripped[integration] = (
                f"held by the guard: {share} of the confirmed grants would be revoked or healed; {NEXT}"
            )
    return tripped


def _too_many_new(counts: Mapping[str, int], most: int) -> dict[str, str]:
    """`counts` are the grants that are or were made or updated."""
    return {
        integration: f"held by the guard: {count} accounts would be made or updated, max_new is {most}; {NEXT}"
        for integration, count in counts.items()
        if count > most
    }


def takes(item: PlannedGrant) -> bool:
    """Whether an account would be revoked or healed, or would if its check had found it."""
    decision = item.decision
    return decision.heals or (not item.wanted and (decision.action.acts or decision.pending))


def makes(item: PlannedGrant) -> bool:
    """Whether an account would be made or updated, or would if its check had not found it.

    A retry and a fresh start by a person were let through before.
    """
    asked_again, decision = item.record is not None and item.record.fresh, item.decision
    makes = decision.action in (Action.EXECUTE, Action.UPDATE) or decision.pending
    return item.wanted and makes and not asked_again


def suspend(planned: Iterable[PlannedGrant], tripped: Mapping[str, str]) -> list[PlannedGrant]:
    """Suspend the grants of tripped integrations, and let grants that need one of those wait for it."""
    why = {integration: (ReasonCode.TRIPPED, reason) for integration, reason in tripped.items()}
    return _held(planned, lambda item: why.get(item.grant.integration))


def _held(planned: Iterable[PlannedGrant], why: Callable[[PlannedGrant], Why | None]) -> list[PlannedGrant]:
    found: dict[Key, PlannedGrant] = {}
    for item in planned:
        acts = item.decision.action.acts
        exempt = item.lock is not None or (item.exempt and not item.wanted)
        if acts and not exempt and (held := why(item)) is not None:
            code, reason = held
            if is_off(item.verdict):
                reason = f"{reason}; it is {OFF}"
            suspended = Decision(Status.SUSPENDED, Action.NONE, reason, guarded=True, takes=takes(item), code=code)
            changed, differs = item.decision.changed, item.decision.differs  # to be accepted by
            found[item.grant.key] = replace(item, decision=replace(suspended, changed=changed, differs=differs))
        elif item.decision.pending and not item.exempt and why(item) is not None:
            # What it is does not change; the ledger notes it, so that later passes count it too.
            found[item.grant.key] = replace(item, decision=replace(item.decision, guarded=True, takes=takes(item)))
        elif acts and item.wanted and item.lock is None and (needed := _waits(item, found)) is not None:
            found[item.grant.key] = replace(item, decision=waiting(needed))
        else:
            found[item.grant.key] = item
    return list(found.values())


def waiting(why: str) -> Decision:
    """Decide that a grant waits for one that it needs."""
    return Decision(Status.SCHEDULED, Action.WAIT, why)


def _waits(item: PlannedGrant, before: Mapping[Key, PlannedGrant]) -> str | None:
    """Say why an entry waits for one that is suspended or waits itself; needed entries come first in a plan."""
    if item.record is not None and item.record.provided:
        return None
    for need in item.grant.needs:
        other = before.get(Key(item.grant.key.hire, need))
        if other is not None and other.decision.status in (Status.SUSPENDED, Status.SCHEDULED):
            return f"needs {need}, which is {other.decision.status}: {other.decision.reason}"
    return None
