"""The guard: it trips if a pass would revoke, heal or make too many grants (docs/design/rules.md, "The guard").

It counts an integration's grants since the last full resync: those revoked or healed are compared with its confirmed
ones, those made or, by a commit, updated with `max_new`. Grants that it suspended in an earlier pass count, too,
whatever part of the integration this pass covers: it stays tripped until the count falls or somebody overrides it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from reconciler.engine.planned import PlannedGrant
from reconciler.engine.wanted import OFF, by_commit
from reconciler.ledger.entries import Event, Kept
from reconciler.ledger.reader import LedgerReader
from reconciler.model.grant import Decision, Key, Record
from reconciler.model.settings import Settings
from reconciler.model.status import Action, EventType, Status

__all__ = ["events_of", "judge", "judge_changes", "judge_new", "suspend"]

FEW = 5
"""The most changes that never trip the guard."""

HELD = "held"
"""The name of the note that has the tripped integrations."""

NEXT = "look why, then let it through once with `reconcile --yes-really`"


def judge_changes(
    wanting: Mapping[str, Collection[Key]],
    done: Mapping[str, Collection[Key]],
    confirmed: Mapping[str, int],
    percent: float,
) -> dict[str, str]:
    """Return the integrations whose guard trips, with the reason and its numbers.

    `wanting` are the grants that this pass would revoke or heal, and those that wait since an earlier one; `done` are
    those changed since the last full resync; `confirmed` is the number of grants confirmed at it.
    """
    tripped = {}
    for integration, grants in wanting.items():
        changes = len(set(grants) | set(done.get(integration, ())))
        total = max(confirmed.get(integration, 0), changes)
        if grants and changes > FEW and changes * 100 > percent * total:
            share = f"{changes * 100 / total:.2f} % is over {percent:g} % ({changes}/{total})"
            tripped[integration] = (
                f"held by the guard: {share} of the confirmed grants would be revoked or healed; {NEXT}"
            )
    return tripped


def judge_new(making: Mapping[str, Collection[Key]], done: Mapping[str, Collection[Key]], most: int) -> dict[str, str]:
    """Return the integrations of which more than `most` accounts would be made or updated, with the reason.

    `making` and `done` are like `wanting` and `done` of `judge_changes`.
    """
    tripped = {}
    for integration, grants in making.items():
        count = len(set(grants) | set(done.get(integration, ())))
        if grants and count > most:
            tripped[integration] = (
                f"held by the guard: {count} accounts would be made or updated, max_new is {most}; {NEXT}"
            )
    return tripped


def judge(
    planned: Iterable[PlannedGrant],
    ledger: LedgerReader,
    settings: Settings,
    *,
    everything: bool,
    renamed: Mapping[Key, Key],
) -> dict[str, str]:
    """Return the integrations of a plan whose guard trips, with the reason. A full resync (`everything`) counts anew.

    `renamed` maps the keys of renamed hires in the ledger to those in the plan.
    """
    taken, made = defaultdict[str, set[Key]](set), defaultdict[str, set[Key]](set)
    met: dict[str, set[Key]] = {}
    for item in planned:
        seen = met.setdefault(item.grant.integration, set())
        if item.by_hand:
            continue  # a person named this grant: it neither counts nor overrides
        seen.add(item.grant.key)
        if item.decision.heals or (not item.wanted and item.decision.action.acts):
            taken[item.grant.integration].add(item.grant.key)
        elif _makes(item):
            made[item.grant.integration].add(item.grant.key)
    for record in ledger.guarded():
        key = renamed.get(record.key, record.key)
        if record.integration in met and key not in met[record.integration]:  # it waits since an earlier pass
            (taken if _takes(record) else made)[record.integration].add(key)
    since = ledger.newest_attempt() if everything else ledger.resync()
    tripped: dict[str, str] = {}
    if made and settings.max_new is not None:
        tripped |= judge_new(made, _followed(ledger.made_since(since), renamed), settings.max_new)
    if taken:
        done = _followed(ledger.changes_since(since), renamed)
        tripped |= judge_changes(taken, done, ledger.confirmed(since), settings.max_change_percent)
    return tripped


def _makes(item: PlannedGrant) -> bool:
    """Whether an account would be made or updated; a retry and a fresh start by a person were let through before."""
    asked_again = item.record is not None and item.record.fresh
    return item.wanted and item.decision.action in (Action.EXECUTE, Action.UPDATE) and not asked_again


def _takes(record: Record) -> bool:
    """Whether the guard keeps a grant from being revoked or healed, and not from being made or updated."""
    drifted = record.as_wanted_at is not None and not by_commit(record, record.differs)
    return record.lost or record.orphaned_at is not None or drifted


def _followed(found: Mapping[str, set[Key]], renamed: Mapping[Key, Key]) -> dict[str, set[Key]]:
    return {integration: {renamed.get(key, key) for key in keys} for integration, keys in found.items()}


def suspend(planned: Iterable[PlannedGrant], tripped: Mapping[str, str]) -> list[PlannedGrant]:
    """Suspend the grants of tripped integrations, and let grants that need one of those wait for it."""
    found: dict[Key, PlannedGrant] = {}
    for item in planned:
        reason = tripped.get(item.grant.integration)
        revoked_by_hand = item.by_hand and not item.wanted
        if item.decision.action.acts and reason is not None and not revoked_by_hand:
            changed, differs = item.decision.changed, item.decision.differs  # to be counted, and accepted, by
            if OFF in item.decision.reason:
                reason = f"{reason}; it is {OFF}"
            held = Decision(Status.SUSPENDED, Action.NONE, reason, changed=changed, guarded=True, differs=differs)
            found[item.grant.key] = replace(item, decision=held)
        elif item.decision.action.acts and item.wanted and (why := _waits(item, found)) is not None:
            found[item.grant.key] = replace(item, decision=Decision(Status.SCHEDULED, Action.WAIT, why))
        else:
            found[item.grant.key] = item
    return list(found.values())


def _waits(item: PlannedGrant, before: Mapping[Key, PlannedGrant]) -> str | None:
    """Say why an entry waits for one that is suspended or waits itself; needed entries come first in a plan."""
    if item.record is not None and item.record.provided:
        return None
    for need in item.grant.needs:
        other = before.get(Key(item.grant.key.hire, need))
        if other is not None and other.decision.status in (Status.SUSPENDED, Status.SCHEDULED):
            return f"needs {need}, which is {other.decision.status}: {other.decision.reason}"
    return None


def events_of(
    ledger: LedgerReader, planned: Iterable[PlannedGrant], tripped: Mapping[str, str], now: datetime, revision: str
) -> tuple[list[Event], Kept]:
    """Make the events for integrations whose guard trips or is reset, and the note to store with them."""
    noted = ledger.note(HELD)
    before = set(json.loads(noted)) if noted else set()
    met = {item.grant.integration for item in planned if not item.by_hand}
    after = {*tripped, *(before - met)}
    if after == before:
        return [], {}
    no_grant = Key("", "")
    begun = [
        Event(now, no_grant, name, EventType.HELD, tripped[name], revision=revision) for name in sorted(after - before)
    ]
    ended = [Event(now, no_grant, name, EventType.RELEASED, "", revision=revision) for name in sorted(before - after)]

    def note(current: bytes | None) -> bytes:
        """Update the note, keeping what other members noted of their integrations meanwhile."""
        others = set(json.loads(current)) if current else set()
        return json.dumps(sorted((others - (before - after)) | (after - before))).encode()

    return begun + ended, {HELD: note}
