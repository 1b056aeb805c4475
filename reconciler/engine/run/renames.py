"""Rows under a new name: a hire's file was renamed, or an entry is about another thing or address now.

See docs/design/states.md.

If a hire's old id is given to another person at the same time, even if two people swap ids, each person's rows move to
the id that has their address now. No account is forgotten: if an entry is about another account than before, the row
of the former one moves to `<access>~<former value>`, and back if the value is changed back. That is so at once for an
`identity` field and for a login or a form value that the check uses; for an address only if an account is there under
both, an invitation to the former one may be open, or somebody runs the entry.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any

from reconciler.engine.decide.existing import as_shown
from reconciler.engine.decide.planned import NOTHING_STORED, DependencyOutputs
from reconciler.engine.observe.checker import Checker, NotOffered
from reconciler.engine.observe.integrations import Integration
from reconciler.ledger.reading import without_nul
from reconciler.model.base import one_or_more
from reconciler.model.decision_inputs import Policy, spent, still_wanted
from reconciler.model.errors import Blocked, RepositoryError
from reconciler.model.grant import APART, Grant, Key, Over, Phase, Record, all_needed
from reconciler.model.hire import NamedChoice
from reconciler.model.lock import Locks
from reconciler.model.selection import Selection
from reconciler.model.text import same_text
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import Invited, Missing, Present, Unknown, is_off
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE
from reconciler.repository.hire_index import stem_of
from reconciler.requests.accounts import as_compared

ROUNDS = 3
"""A row that is set apart makes room for another hire's that follows, as if an earlier pass had set it apart."""


def hires_at(checkout: Checkout, revision: str | None) -> frozenset[str] | None:
    """Return the hires who had a file at a revision; None for a worktree, and where git does not have it."""
    if revision in (None, WORKTREE):
        return None
    try:
        return frozenset(stem_of(file.path) for file in checkout.at(str(revision)).files("hires"))
    except RepositoryError:
        return None


def owner_of(record: Record, desired: Desired) -> str | None:
    """Return whose a row is now: who has its address, or the one that its hire had when git last had it; or None.

    What is over stays with its entry, whose hire's address says where that is.
    """
    addresses, over = [record.email], record.over is Over.REACHED
    if over or record.orphaned_at is None:
        addresses.insert(0 if over else 1, record.hire_email)
    return next((owner for each in addresses if (owner := desired.owner(each)) is not None), None)


def readdressed(record: Record, desired: Desired) -> bool:
    """Whether its hire's file has another address than a row and its hire had, and it was not set apart for its own."""
    file = desired.hires.file(record.key.hire)
    if file is None or file.email is None or not _elsewhere(record, file.email) or not record.leaves_something:
        return False
    apart = record.key.access.endswith(f"{APART}{_address(record)}")
    return not apart and not same_text(record.hire_email, file.email)


class Renamer(Frozen, kw_only=True):
    """Finds the rows that move, in a pass over a selection.

    With `asks` it may be asked what is there under an address of before. `by_hand` says what somebody asked to run,
    `hires_at` who had a file at a revision.
    """

    desired: Desired
    integrations: Mapping[str, Integration]
    checker: Checker
    hires_at: Callable[[str | None], frozenset[str] | None]
    policy: Policy
    locks: Locks
    selection: Selection
    by_hand: Mapping[Key, str]
    asks: bool

    async def moved(self, found: Mapping[Key, Record]) -> tuple[dict[Key, Record], dict[Key, Key]]:
        """Return the rows under their current names, and where each row moves from."""
        moves: dict[Key, Key] = {}
        for _ in range(ROUNDS):
            more = await self._moves(_under(moves, found), frozenset(moves.values()))
            if not more:
                break
            moves = _then(moves, more)
        return _under(moves, found), moves

    async def _moves(self, found: Mapping[Key, Record], moved: Container[Key]) -> dict[Key, Key]:
        """Decide which rows move, of those found and of those that have `moved` to their names before."""
        moves = self._follow(found)
        left = {key: record for key, record in found.items() if key not in moves and key not in moved}
        apart = self._strangers(left, found.keys() | moves.values())
        if apart:  # they make room
            moves = {**self._follow(found, apart), **apart}
        moves = _then(moves, await self._former_accounts(_under(moves, found)))
        return _then(moves, await self._former_addresses(_under(moves, found)))

    def _follow(self, found: Mapping[Key, Record], leaving: Collection[Key] = ()) -> dict[Key, Key]:
        """Decide which rows move, and where to. A row whose new place is occupied by one that stays does not move."""
        desired, moves = self.desired, dict[Key, Key]()
        # What git wanted until now takes the place, not what a leaver of the same address left.
        for key, record in sorted(found.items(), key=lambda item: item[1].orphaned_at is not None):
            owner = owner_of(record, desired)
            if owner not in (None, key.hire) and key.hire not in desired.broken_hires:
                place = Key(str(owner), key.access)
                if place not in moves.values():
                    moves[key] = place
        moves |= self._left_behind(found, moves)
        while stuck := [key for key, to in moves.items() if to in found and to not in moves and to not in leaving]:
            for key in stuck:
                del moves[key]
        return moves

    def _left_behind(self, found: Mapping[Key, Record], moves: Mapping[Key, Key]) -> dict[Key, Key]:
        """Decide which rows move with the others of a renamed hire, though no hire has their address any more.

        Only the hire's file says under which address the account is now, if it was renamed at the service. A row that
        is no orphan was not planned since the address changed.
        """
        successors: dict[str, set[str]] = {}
        for old, new in moves.items():
            successors.setdefault(old.hire, set()).add(new.hire)
        more: dict[Key, Key] = {}
        for key, record in found.items():
            followed = successors.get(key.hire, set())
            if (
                len(followed) != 1
                or not self.desired.vanished(key.hire)
                or self.desired.owner(record.email) is not None
                or key in moves
            ):
                continue
            (hire,) = followed
            to = Key(hire, key.access)
            wanted = {grant.key for grant in self.desired.grants(hire)} if record.orphaned_at is not None else set()
            if to not in (*moves.values(), *more.values(), *wanted):
                more[key] = to
        return more

    def _strangers(self, found: Mapping[Key, Record], named: Iterable[Key]) -> dict[Key, Key]:
        """Decide which rows are of somebody who had a hire's id before, and move away from it.

        A file with another address is a renaming, unless another file has the former address, or there was no file at
        the revision that one of the hire's rows was last planned for.
        """
        moves: dict[Key, Key] = {}
        former = [record for record in found.values() if readdressed(record, self.desired)]
        gone = {each.key.hire for each in former if each.phase is not Phase.REVOKED and self._was_gone(each)}
        for record in former:
            key, address = record.key, _address(record)
            if self.desired.owner(address) is not None or key.hire in gone or self._was_gone(record):
                taken = {each.access for each in named}
                moves[key] = Key(key.hire, _free(f"{key.access}{APART}{address}", taken))
        return moves

    def _was_gone(self, record: Record) -> bool:
        """Whether a row's hire had no file at the revision of the row's last pass; False if that is not known."""
        hires = self.hires_at(record.revision)
        return hires is not None and record.key.hire not in hires

    async def _former_accounts(self, found: Mapping[Key, Record]) -> dict[Key, Key]:
        """Decide which rows move because their entries are about another thing, or another account, than before.

        A row that leaves nothing, or was revoked, stays: the entry begins with it. So does one whose time is over: its
        entry is about nothing else for that. Where it cannot be said what an entry is about, because a choice cannot be
        looked up, nothing moves.
        """
        about = {name: item for name, item in self.integrations.items() if item.names.about}
        if not about:
            return {}
        of_hire: dict[str, list[Record]] = {}
        for record in found.values():
            if record.integration in about:
                of_hire.setdefault(record.key.hire, []).append(record)
        moves: dict[Key, Key] = {}
        for hire, records in of_hire.items():
            names = {grant.key.access for grant in self.desired.grants(hire)}
            left = [record for record in records if record.key.access not in names]
            for grant in self.desired.grants(hire):
                integration = about.get(grant.integration)
                wanted = await self._resolved(integration, grant) if integration is not None else None
                if integration is None or wanted is None:
                    continue
                now = integration.snapshot(wanted)
                mine = [each for each in left if each.key.access.startswith(f"{grant.key.access}{APART}")]
                back = next((each for each in mine if _is_about(each, integration, now)), None)
                own = found.get(grant.key)
                former = None if own is None else _former(own, integration, now)
                if own is not None and former is not None:
                    if not still_wanted(grant, own, self.policy.now):
                        continue
                    if back is None and not own.may_remain:
                        continue
                    taken = names | {each.key.access for each in records if each is not back}
                    moves[grant.key] = Key(hire, _free(f"{grant.key.access}{APART}{as_shown(former)}", taken))
                if back is not None and (own is None or grant.key in moves):
                    moves[back.key] = grant.key
            moves |= self._with_what_they_need(self.desired.grants(hire), found, moves)
        return moves

    def _with_what_they_need(
        self, grants: Collection[Grant], found: Mapping[Key, Record], moves: Mapping[Key, Key]
    ) -> dict[Key, Key]:
        """Decide which of a hire's rows move because their checks ask with what a row that moves has stored."""
        more, needs = dict[Key, Key](), {grant.key.access: grant.needs for grant in grants}
        for grant in grants:
            integration, own, (hire, access) = self.integrations.get(grant.integration), found.get(grant.key), grant.key
            if integration is None or grant.key in moves or not still_wanted(grant, own, self.policy.now):
                continue
            for need in sorted(all_needed(access, needs)):
                lender, place = found.get(Key(hire, need)), moves.get(Key(hire, need))
                lent = None if lender is None else self.integrations.get(lender.integration)
                if place is None or lent is None or lent.service != integration.service:
                    continue
                if not lent.manifest.stored & integration.names.asked_with:
                    continue
                theirs = [each for each in found.values() if each.key.hire == hire]
                back = next((each.key for each in theirs if _goes_with(each, access, need, moves)), None)
                if own is not None and (back is not None or own.may_remain):
                    taken = {each.key.access for each in theirs if each.key != back}
                    more[grant.key] = Key(hire, _free(f"{access}{place.access.removeprefix(need)}", taken))
                if back is not None:
                    more[back] = grant.key
                break
        return more

    async def _former_addresses(self, found: Mapping[Key, Record]) -> dict[Key, Key]:
        """Decide which rows move because an account, or an invitation, may be left at an address of before.

        Else the entry would go on with them for the new address, and nothing would know of the former account any more.
        """
        moves: dict[Key, Key] = {}
        for key, record in found.items():
            integration = self.integrations.get(record.integration)
            if integration is None or "email" not in integration.names.asked_with or not record.may_remain:
                continue
            entry, file = self._entry_again(record, found), self.desired.hires.file(key.hire)
            if entry is None and (file is None or file.email is None or not _elsewhere(record, file.email)):
                continue
            grant, now = self.desired.grant(key), self.policy.now
            if spent(record, now) if grant is None else not still_wanted(grant, record, now):
                continue
            if entry is not None:
                moves[key] = entry
                continue
            if grant is None or grant.hold is not None or grant.integration != record.integration:
                continue
            theirs = [each for each in found.values() if each.key.hire == key.hire]
            back = next((each.key for each in theirs if _was(each, grant)), None)
            if back is not None or await self._is_left(integration, record, grant):
                taken = {each.key.access for each in theirs if each.key != back}
                moves[key] = Key(key.hire, _free(f"{key.access}{APART}{_address(record)}", taken))
                if back is not None:
                    moves[back] = key
        return moves

    def _entry_again(self, record: Record, found: Mapping[Key, Record]) -> Key | None:
        """Return the entry without a row that a record of a former address is about again; or None."""
        hire, access = record.key
        entry = Key(hire, access.removesuffix(f"{APART}{_address(record)}")) if APART in access else record.key
        if entry in found:
            return None
        wanted = self.desired.grant(entry)
        return entry if wanted is not None and _was(record, wanted) else None

    async def _is_left(self, integration: Integration, record: Record, grant: Grant) -> bool:
        """Whether the account of before is one of its own: it stays, and the entry is about a new one."""
        locked = self.locks.of(record.key.hire, record.email) is not None
        held = not locked and self.policy.suspended(record.key.hire, record.integration) is not None
        if not self.asks or not self.selection.covers(record.key, record.integration) or held:
            return False
        wanted = await self._resolved(integration, grant)
        try:
            if wanted is None:
                return False
            prepared = integration.prepare(wanted, NOTHING_STORED, kind=None, outputs=self._may_be_stored(grant))
            pair = await self.checker.both(integration, prepared, record)
        except Blocked:
            return False
        new, old = pair
        # Beside one that a lock has to switch off, the one that it switched off is there: both are locked.
        gone = isinstance(old, Missing) or (is_off(old) and (not locked or is_off(new)))
        runs = self.by_hand.get(record.key) == "run"
        if runs and (not gone or (is_off(old) and isinstance(new, Missing))):
            return True
        if not gone:
            return isinstance(new, Present) and isinstance(old, Present)
        if not _may_be_invited(record) or (record.phase.unsettled and isinstance(new, Present)):
            return False
        if integration.manifest.pending is None:
            return True
        before = await self.checker.invited_before(integration, record, grant.email)
        return isinstance(before, Invited) or (runs and before is not None)

    def _may_be_stored(self, grant: Grant) -> DependencyOutputs:
        """Return what other entries may store for a grant's requests: a check asks for none of it."""
        beside = (each for each in self.desired.grants(grant.key.hire) if each.service == grant.service)
        manifests = (each.manifest for each in beside if each.manifest is not None)
        return DependencyOutputs(names=frozenset(name for each in manifests for name in each.stored))

    async def _resolved(self, integration: Integration, grant: Grant) -> Grant | None:
        """Return a grant whose choices are looked up, if they say what it is about; None if that cannot be told."""
        if grant.hold is not None:
            return None
        if not any(_by_name(value) for name, value in grant.choices if name in integration.names.about):
            return grant
        try:
            integration.ready(grant)
            resolved = await self.checker.resolved(integration, grant)
        except (Blocked, NotOffered):
            return None
        return None if isinstance(resolved, Unknown) else resolved


def _then(first: Mapping[Key, Key], second: Mapping[Key, Key]) -> dict[Key, Key]:
    """Compose two renamings."""
    followed = {old: second.get(new, new) for old, new in first.items()}
    return {**{old: new for old, new in second.items() if old not in first.values()}, **followed}


def _under(moves: Mapping[Key, Key], found: Mapping[Key, Record]) -> dict[Key, Record]:
    if not moves:
        return dict(found)
    return {
        moves.get(key, key): replace(record, key=moves.get(key, key), needs=_needs(record, moves, found))
        for key, record in found.items()
    }


def _needs(record: Record, moves: Mapping[Key, Key], found: Container[Key]) -> tuple[str, ...]:
    """Return the names that the rows have now which a row needed.

    Under the name of what was set apart there may be another account, of which something else is stored.
    """
    (hire, access), to = record.key, moves.get(record.key, record.key)
    suffix = f"{APART}{_address(record)}" if to.access.startswith(f"{access}{APART}") else ""

    def now(need: str) -> str:
        moved = moves.get(Key(hire, need))
        if moved is not None:
            return moved.access if moved.hire == to.hire else need
        return f"{need}{suffix}" if Key(hire, f"{need}{suffix}") in found else need

    return tuple(map(now, record.needs))


def _former(record: Record, integration: Integration, now: Mapping[str, Any]) -> list[Any] | None:
    """Return the values by which a record's account was another one; None if it is the one that is wanted now."""
    if record.integration != integration.name:
        return None
    then, fields = record.values, integration.manifest.identity
    about = _about([then.get(name) for name in fields])
    wanted = _about([now.get(name) for name in fields])
    if fields and None not in (about, wanted) and about != wanted:
        return [then[name] for name in fields]
    changed = [
        then[name]
        for name in integration.names.told_by
        if None not in (then.get(name), now.get(name)) and as_compared(then[name]) != as_compared(now[name])
    ]
    return changed or None


def _is_about(record: Record, integration: Integration, now: Mapping[str, Any]) -> bool:
    """Whether a record's account is the one that is wanted now, as far as its values say."""
    known = all(record.values.get(name) is not None for name in integration.names.about)
    same = record.integration == integration.name and known and not _elsewhere(record, now["email"])
    return same and _former(record, integration, now) is None


def _was(record: Record, grant: Grant) -> bool:
    """Whether a record is of the account of before that a grant is about again."""
    apart = record.key.access.startswith(f"{grant.key.access}{APART}") and record.integration == grant.integration
    return apart and record.may_remain and not _elsewhere(record, grant.email)


def _goes_with(record: Record, access: str, need: str, moves: Mapping[Key, Key]) -> bool:
    """Whether a row that was set apart from an entry needs one that is about what it was about again."""
    hire, name = record.key
    again = any(moves.get(Key(hire, each)) == Key(hire, need) for each in record.needs)
    return name.startswith(f"{access}{APART}") and record.may_remain and again


def _may_be_invited(record: Record) -> bool:
    """Whether an invitation that was sent for a row may still be open."""
    begun = record.phase.unsettled and not record.run.kind.updates
    waits = record.phase is Phase.EXECUTED or begun or record.invitations > 0  # a person may have vouched for it
    return waits and not record.revoking and record.leaves_something


def _address(record: Record) -> str:
    """Return the address that an account was last requested with."""
    return str(record.values.get("email", record.email))


def _elsewhere(record: Record, email: str) -> bool:
    return not same_text(_address(record), email)


def _about(values: list[Any]) -> tuple[str, ...] | None:
    """Return what an entry with these values is about, to compare; None if one is not known.

    Several choices are the same in any order: else a hire whose file lists them anew would lose what they have.
    """
    if None in values:
        return None
    return tuple(as_shown(sorted(value, key=as_shown) if isinstance(value, list) else value) for value in values)


def _by_name(value: Any) -> bool:
    return any(isinstance(item, NamedChoice) for item in one_or_more(value))


def _free(name: str, taken: Container[str]) -> str:
    """Return a name that no entry and no other row has, as the ledger writes it."""
    name = without_nul(name)
    while name in taken:
        name += APART
    return name


def stored_under(moves: Mapping[Key, Key], stored: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """Return what `store_data` saved, by hire and entry, after the rows have moved."""
    if not moves:
        return stored
    found: dict[str, dict[str, Any]] = {}
    for hire, entries in stored.items():
        for access, values in entries.items():
            to = moves.get(Key(hire, access), Key(hire, access))
            found.setdefault(to.hire, {})[to.access] = values
    return found
