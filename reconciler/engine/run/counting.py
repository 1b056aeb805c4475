"""Count a revision before anything of it is acted on: plan what it touches without asking any service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial

from reconciler.engine.apply.claims import Claims
from reconciler.engine.context import Revision
from reconciler.engine.decide.guard import makes, takes
from reconciler.engine.decide.planned import PlannedGrant
from reconciler.engine.decide.revision_count import Keys, Limits, RevisionCount
from reconciler.engine.decide.wanted import decide_unasked
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.run.grants import wanted_by
from reconciler.engine.run.planning import Planning
from reconciler.engine.run.renames import owner_of
from reconciler.ledger.ledger import Ledger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import ReadState
from reconciler.model.clock import first_moment
from reconciler.model.errors import RepositoryError
from reconciler.model.grant import Grant, Key, Phase, Record
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.settings import FEW
from reconciler.model.value import replace
from reconciler.repository.desired import Desired, touched
from reconciler.repository.git.trees import WORKTREE
from reconciler.requests.tasks import MAX_HIRES


async def count_revision(
    revision: Revision, state: ReadState, selections: Sequence[Selection] | None = None
) -> RevisionCount:
    """Count what a revision takes away and adds, by git and the ledger. Changes nothing.

    `selections` are what differs from the revision that was counted before, if that is known.
    """
    ledger, now, tree = state.ledger, revision.context.clock.now(), revision.tree
    before, own = await ledger.run(RevisionCount.read), Limits.of(revision.settings)
    due = frozenset[str]() if before is None else before.due_at(now)
    if before is not None and tree.revision != WORKTREE and before.revision == tree.revision and not due:
        return before
    desired = revision.desired
    manifests_differ: bool | None = None
    if selections is None:
        selections, manifests_differ = _touched_since(revision, desired, before)
    if before is not None and (before.leaving or before.arriving):
        before = await ledger.run(partial(_waiting, counted=before))
    if (
        before is not None
        and not (before.leaving or before.arriving or due)
        and _follows(revision, before)
        and await _few(selections, desired, ledger, own)
    ):
        return before
    differ = selections
    if manifests_differ is not False or await ledger.run(partial(_may_let_go, selections=selections, desired=desired)):
        selections = _with_others(selections)
    if due:
        selections = [*selections, Selection(hires=due)]
    counting = _Counting(revision, state, before, now)
    await counting.over(selections, alike=manifests_differ is False, new=before is not None or own.most_new is not None)
    adds, held = counting.adds or manifests_differ is True, await ledger.run(lambda reader: bool(reader.guard.held()))
    limits = own if before is None else before.limits_of(own, adds=adds, held=held)
    arriving = {
        name: keys
        for name, keys in counting.arriving.items()
        if limits.most_new is not None and len(keys) > limits.most_new
    }
    counted = RevisionCount(
        revision=tree.revision,
        counted_at=before.counted_at if before is not None and arriving == before.arriving else now,
        own=own,
        limits=limits,
        leaving={name: frozenset(keys) for name, keys in counting.leaving.items()},
        due=counting.due(),
        moved=counting.moved(),
        arriving={name: frozenset(keys) for name, keys in arriving.items()},
    )
    return counted if before is None else replace(counted, released=counted.alike(before, differ))


def _touched_since(
    revision: Revision, desired: Desired, before: RevisionCount | None
) -> tuple[Sequence[Selection], bool | None]:
    """Select what differs from the revision that was counted before, and say whether manifests do.

    Everything, and None, if that is not known.
    """
    checkout, tree = revision.context.checkout, revision.tree
    if before is None or WORKTREE in (before.revision, tree.revision) or not checkout.has(before.revision):
        return [Selection()], None
    try:
        was = checkout.at(before.revision)
        paths = checkout.changed(was, tree)
    except RepositoryError:
        return [Selection()], None
    return touched(paths, desired, was), any(path.startswith("manifests/") for path in paths)


def _follows(revision: Revision, before: RevisionCount) -> bool:
    """Whether a revision has the one that was counted before in its history.

    After a rewriting another member's clone may never have that one, and cannot tell that its own is newer.
    """
    checkout, mine = revision.context.checkout, revision.tree.revision
    if WORKTREE in (before.revision, mine):
        return True
    return checkout.has(before.revision) and checkout.descends(mine, before.revision)


async def _few(selections: Sequence[Selection], desired: Desired, ledger: Ledger[LedgerReader], limits: Limits) -> bool:
    """Whether so little is touched that it is within every limit, whatever it is; most commits are like that."""
    hires = {hire for each in selections for hire in each.hires or ()}
    if any(each.hires is None for each in selections) or len(hires) > FEW:
        return False
    records = await ledger.run(lambda reader: list(reader.grants.records(hires))) if hires else []
    rows = Counter(record.integration for record in records)
    wanted = sum(len(desired.grants(hire)) for hire in hires)
    return max(rows.values(), default=0) <= FEW and (limits.most_new is None or wanted <= limits.most_new)


def _waiting(ledger: LedgerReader, counted: RevisionCount) -> RevisionCount:
    """Return a count without accounts that were taken away since, and entries that were checked since and not held."""
    there = counted.standing(ledger, counted.leaving).keys()
    keys = frozenset[Key]().union(*counted.arriving.values())
    held = {key for _, key in ledger.guard.held_of({key.hire for key in keys})}
    done = ledger.guard.answered_since(keys, counted.counted_at) - held
    leaving = {name: left for name, keys in counted.leaving.items() if (left := keys & there)}
    arriving = {name: left for name, keys in counted.arriving.items() if (left := keys - done)}
    return replace(counted, leaving=leaving, arriving=arriving)


def _may_let_go(ledger: LedgerReader, selections: Iterable[Selection], desired: Desired) -> bool:
    """Whether files are gone of hires that the ledger does not know: files with an error may have held others' rows."""
    gone = {hire for each in selections for hire in each.hires or () if hire not in desired.hires}
    return bool(gone - {record.key.hire for record in ledger.grants.records(gone)})


def _with_others(selections: Sequence[Selection]) -> Sequence[Selection]:
    """Select all that files which differ may let go: a mended manifest held what its hires had of other ones, too."""
    names = frozenset(name for each in selections for name in each.integrations or ())
    if any(each.everything for each in selections):
        return selections
    return [Selection(without=names), *([Selection(integrations=names)] if names else [])]


class _Counting:
    """Who leaves and what arrives, by integration: as counted before, but for the hires that are counted anew."""

    def __init__(self, revision: Revision, state: ReadState, before: RevisionCount | None, now: datetime) -> None:
        self._revision = revision
        self._state = state
        self._before: tuple[Keys, Keys] = ({}, {}) if before is None else (before.leaving, before.arriving)
        self._renamed: dict[Key, Key] = {} if before is None else dict(before.moved)
        """The names now of what was counted before."""
        self.leaving, self.arriving = ({name: {*keys} for name, keys in each.items()} for each in self._before)
        noted = () if before is None else before.due
        self._due = {hire: moment for moment, hires in noted if moment > now for hire in hires}

    async def over(self, selections: Iterable[Selection], *, alike: bool, new: bool) -> None:
        """Count what selections cover. With `alike`, or where a selection is without others, manifests are as before.

        Hires of whom the ledger has nothing lose nothing: what arrives of them is told without a plan, if `new` counts.
        """
        for selection in selections:
            planning = Planning(self._revision, self._state, PassRequest(selection), blind=True)
            await planning.begin()
            self._forget(selection)
            for part in await planning.parts(MAX_HIRES):
                await self._part(planning, part, alike=alike or bool(selection.without), new=new)

    async def _part(self, planning: Planning, part: Selection, *, alike: bool, new: bool) -> None:
        await planning.yielder.pause()
        rows, planned = await planning.rows(part), set[str]()
        rows_of: dict[str, dict[Key, Record]] = {}
        for row in rows.values():
            rows_of.setdefault(row.key.hire, {})[row.key] = row
        owners = {key: owner_of(row, planning.desired) for key, row in rows.items()}
        known = {*rows_of, *owners.values()}
        for hire in part.hires or ():
            await planning.yielder.pause()
            if hire not in known:
                if new:
                    self._add_new(planning, part, hire)
            elif not alike or hire not in rows_of or _differs(planning, hire, rows_of[hire]):
                planned.add(hire)
        if not planned:
            return
        planned |= {owner for key, owner in owners.items() if owner is not None and key.hire in planned}
        plan = await planning.part(replace(part, hires=frozenset(planned)), rows, Claims().begin())
        self._renamed |= plan.renamed
        former = {new: old for old, new in plan.renamed.items()}
        for item in plan.grants:
            key = item.grant.key
            self._add(item, planning.integrations.get(item.grant.integration))
            self._comes(planning, item.grant, rows.get(former.get(key, key)))  # a plan takes moved ends back

    def _forget(self, selection: Selection) -> None:
        for counted in (self.leaving, self.arriving):
            for name, keys in counted.items():
                keys.difference_update([key for key in keys if selection.covers(key, name)])

    def _add_new(self, planning: Planning, part: Selection, hire: str) -> None:
        """Add what a hire of whom the ledger has nothing is to be given, if its check does not find it.

        What a plan would block is among it, and is waited for as what is not checked yet.
        """
        policy, grants = planning.policy, planning.desired.grants(hire, once=True)
        for grant in wanted_by(grants, {}, policy.now):
            asked = decide_unasked(grant, None, policy) is None and planning.locks.of(hire, grant.email) is None
            if asked and part.covers(grant.key, grant.integration):
                self.arriving.setdefault(grant.integration, set()).add(grant.key)
            self._comes(planning, grant, None)

    def _comes(self, planning: Planning, grant: Grant, record: Record | None) -> None:
        """Note when time alone makes a grant arrive or leave: its day comes, or its end, as a revision moved it."""
        hire, moments = grant.key.hire, {first_moment(grant.begins, planning.settings.timezone)}
        if record is not None and record.acted_at is not None:
            ends = {grant.ends_at(record.acted_at), record.ends_at}
            moments |= ends if record.ends_moved else ends - {record.ends_at}
        ahead = [each for each in moments if each is not None and each > planning.policy.now]
        if ahead:
            self._due[hire] = min(*ahead, self._due.get(hire, ahead[0]))

    def _add(self, item: PlannedGrant, integration: Integration | None) -> None:
        if item.exempt:
            return
        name, key = item.grant.integration, item.grant.key
        if takes(item):
            self.leaving.setdefault(name, set()).add(key)
        elif makes(item) or (integration is not None and _may_be_updated(item, integration)):
            self.arriving.setdefault(name, set()).add(key)

    def due(self) -> tuple[tuple[datetime, frozenset[str]], ...]:
        """Return when which hires are to be counted again."""
        hires_at = dict[datetime, set[str]]()
        for hire, moment in self._due.items():
            hires_at.setdefault(moment, set()).add(hire)
        return tuple(sorted((moment, frozenset(hires)) for moment, hires in hires_at.items()))

    def moved(self) -> tuple[tuple[Key, Key], ...]:
        """Return the former and the new names of what leaves."""
        leaving = {key for keys in self.leaving.values() for key in keys}
        return tuple(sorted((old, new) for old, new in self._renamed.items() if new in leaving))

    @property
    def adds(self) -> bool:
        """Whether more leaves or arrives than was counted before, whatever it is called now."""
        return any(
            keys - {self._renamed.get(key, key) for key in before.get(name, ())}
            for now, before in zip((self.leaving, self.arriving), self._before, strict=True)
            for name, keys in now.items()
        )


def _differs(planning: Planning, hire: str, rows: Mapping[Key, Record]) -> bool:
    """Whether something of a hire may leave, arrive or be updated, if the manifests are those of before."""
    wanted = planning.desired.grants(hire, once=True)
    return rows.keys() != {grant.key for grant in wanted} or not all(
        _alike(planning, rows[each.key], each) for each in wanted
    )


def _alike(planning: Planning, row: Record, grant: Grant) -> bool:
    """Whether a grant was provided as it is wanted, and does not end."""
    integration = planning.integrations.get(grant.integration)
    return (
        integration is not None
        and row.integration == grant.integration
        and row.phase in (Phase.CONFIRMED, Phase.EXECUTED, Phase.DONE)
        and grant.over_at is None
        and grant.lasts is None
        and row.ends_at is None
        and not grant.choices
        and row.snapshot == integration.snapshot(grant)
    )


def _may_be_updated(item: PlannedGrant, integration: Integration) -> bool:
    """Whether a check of an account that was provided may find it as it was wanted before."""
    record, prepared = item.record, item.prepared
    if record is None or prepared is None or not (item.wanted and record.provided and integration.manifest.updates):
        return False
    assert item.verdict is not None
    wants = record.as_wanted_at is not None and {**prepared.wants} != {**record.wants}
    return wants or bool(integration.changes(prepared, record, item.verdict))
