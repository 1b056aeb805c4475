"""What a pull request changes: two revisions, compared by what they want, not as text.

A file that cannot be read removes nothing, because a pass would keep its grants (docs/design/rules.md, "Source of
truth"): the file's problem is shown instead, or a warning where such a file is gone. A hire whose file was
renamed is the same person (docs/design/states.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from reconciler.model.base import jsonable, spelled
from reconciler.model.errors import MissingVariable, Problem, Severity
from reconciler.model.grant import Grant
from reconciler.model.scope import Scope
from reconciler.model.status import Status
from reconciler.model.value import Frozen, fields, replace
from reconciler.repository.desired import Desired
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.files import Files
from reconciler.repository.policy import PolicyRules
from reconciler.requests.accounts import account
from reconciler.review.causes import (
    Causes,
    ChangeKind,
    Consequence,
    compared_manifests,
    compared_settings,
    different,
    touched_by,
)
from reconciler.review.consequences import (
    HELD,
    Applied,
    Change,
    HeldOffline,
    Leaving,
    Stays,
    applied_to,
    dates_of,
    ending_of,
    held_offline,
    leaving_of,
    over_before,
    privileges,
    summed_up,
)
from reconciler.review.problems import Host, Side


class Difference(Frozen, kw_only=True):
    """Everything that a pull request changes. `manifests` and `settings` are changes that name no grant.

    `comparable` is False if the settings of either revision cannot be read: then only problems are known.
    """

    base: str
    head: str
    problems_added: list[Problem]
    problems_fixed: list[Problem]
    grants: list[Change] = []
    hosts_added: list[Host] = []
    hosts_removed: list[Host] = []
    manifests: dict[ChangeKind, list[str]] = {}
    settings: dict[str, tuple[Any, Any]] = {}
    comparable: bool = True
    causes: list[Consequence] = []
    held: list[HeldOffline] = []

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            **fields(self, "base", "head"),
            "causes": [each.as_json() for each in self.causes],
            "held": [fields(each, "integration", "kind", "count", "of", "limit") for each in self.held],
            "grants": [change.as_json() for change in self.grants],
            "hosts": {
                "added": [host.host for host in self.hosts_added],
                "removed": [host.host for host in self.hosts_removed],
            },
            "problems": {
                "added": [problem.as_json() for problem in self.problems_added],
                "fixed": [problem.as_json() for problem in self.problems_fixed],
            },
            "manifests": {str(kind): list(found) for kind, found in self.manifests.items()},
            "settings": {name: list(pair) for name, pair in self.settings.items()},
        }


def compare(base: Side, head: Side, today: date) -> Difference:
    """Compare two revisions; `today` decides which entries have reached their `until`."""
    added, fixed = _new_problems(head.problems, base.problems), _new_problems(base.problems, head.problems)
    found = Difference(
        base=base.revision, head=head.revision, problems_added=added, problems_fixed=fixed, comparable=False
    )
    if base.files is None or head.files is None:
        return found
    hosts_added, hosts_removed = _hosts(base, head)
    before, after = Desired(base.files, today), Desired(head.files, today)
    after.once_assigned = before.assigned
    grants = changes(before, after)
    added += [*_unknown_before(before, after), *_assigned_before(before, after), *over_before(grants, before, after)]
    manifests = compared_manifests(base.files, head.files)
    settings = compared_settings(base.files.settings, head.files.settings)
    return replace(
        found,
        comparable=True,
        problems_added=added,
        grants=grants,
        hosts_added=hosts_added,
        hosts_removed=hosts_removed,
        manifests=manifests,
        settings=settings,
        causes=[*summed_up(grants), *touched_by(before, after, manifests[ChangeKind.CHANGED], settings)],
        held=held_offline(before, grants),
    )


def _unknown_before(before: Desired, after: Desired) -> Iterator[Problem]:
    """Warn of hires' files that had an error and are gone: passes kept what such a hire had, and this removes it."""
    index = before.files.hires.index
    for hire in sorted(before.broken_hires.keys() - after.broken_hires.keys()):
        email = index.file(hire).email if hire in index else None
        if after.hires.file(hire) is None and (email is None or after.owner(email) is None):
            (first, *_) = before.broken_hires[hire]
            unknown = "had an error in the base, and is gone: what it gave before goes too, and is not known here"
            yield Problem(first.file, None, unknown, Severity.WARNING)


def _assigned_before(before: Desired, after: Desired) -> Iterator[Problem]:
    """Warn of sequences that were assigned and are gone: passes keep what such a one gave."""
    for name in sorted(before.assigned - after.files.sequences.keys() - after.files.broken["sequences"].keys()):
        held = "was assigned, and is gone: what only it gave stays, and is `invalid`"
        ways = "bring it back, or, to take that away, with an empty `access`"
        yield Problem(before.files.sequences[name].path, None, f"{held}: {ways}", Severity.WARNING)


def changes(before: Desired, after: Desired) -> list[Change]:
    """List the grants that are added, changed and removed, sorted by hire and access."""
    touched = sorted({*_touched(before.files, after.files), *_judged_anew(before, after)})
    changed = _Changed(before, after, touched)
    moved = _moved(before, after, touched)
    came_from = {new: old for old, new in moved.items()}
    found = []
    for hire in touched:
        whose = came_from.get(hire, None if hire in moved else hire)
        old = {} if whose is None else {grant.key.access: grant for grant in before.grants(whose)}
        new = {grant.key.access: grant for grant in after.grants(hire)}
        for access in sorted(old.keys() | new.keys()):
            was, now = old.get(access), new.get(access)
            if now is None and was is not None:
                if not _is_held(was, before, after):
                    found.append(changed.removed(was, hire))
            elif was is None and now is not None:
                found.append(changed.added(now))
            elif was is not None and now is not None:
                held = changed.held(was, now)
                if held is not None or not _same(was, now, before, after):
                    change = changed.values(was, now, held)
                    if change.fields:
                        found.append(change)
    return found


class _Changed:
    """Makes the changes between two revisions, with what follows from each."""

    def __init__(self, before: Desired, after: Desired, touched: Iterable[str]) -> None:
        self._before, self._after, self._touched = before, after, touched
        self._accounts: dict[str, set[str]] = {}
        """Those that the touched hires are to have after, by service."""
        self._policy = PolicyRules(after, after.files.policy)
        self._former_policy = PolicyRules(before, before.files.policy)
        self._causes = Causes(before, after)

    def removed(self, was: Grant, hire: str) -> Change:
        """Make the change of a grant that is gone; `hire` is the id that its hire has now."""
        kept = bool(self._after.kept(hire, [was]))
        name = self._before.hires[was.key.hire].model.full_name
        change = _change(ChangeKind.REMOVED, was, _fields(self._before, was), {})
        return replace(
            change, name=name, cause=self._causes.of(was, None), leaving=self._leaving(replace(was, keep=kept))
        )

    def added(self, now: Grant) -> Change:
        change = self._dated(_change(ChangeKind.ADDED, now, {}, _fields(self._after, now)), now)
        return replace(change, cause=self._causes.of(None, now), privileged=privileges(now))

    def held(self, was: Grant, now: Grant) -> str | None:
        """Return why a grant was not to be given before, where it is after; None for others."""
        why = _held(was, self._former_policy)
        return None if why is None or _held(now, self._policy) is not None else why

    def values(self, was: Grant, now: Grant, held: str | None) -> Change:
        """Make the change of a grant that both revisions have; without fields where none of them concerns it."""
        names = _used(was) | _used(now)
        then, here = (
            {**_fields(side, grant), **_person(side, grant, names), "hire": grant.key.hire}
            for side, grant in ((self._before, was), (self._after, now))
        )
        if held is not None:
            then[HELD] = held
        change = _change(ChangeKind.CHANGED, now, then, here)
        if not change.fields:
            return change
        had = {} if held is not None else privileges(was)
        applied = applied_to(now, change.fields, self._after.files)
        another = applied is not None and (applied.leaves_one or applied is Applied.ANOTHER_ADDRESS)
        return replace(
            self._dated(change, now),
            applied=applied,
            cause=None if change.fields.keys() == {HELD} else self._causes.of(was, now),
            former=self._leaving(was) if another else None,
            privileged={name: value for name, value in privileges(now).items() if had.get(name) != value},
        )

    def _leaving(self, was: Grant) -> Leaving:
        leaving = leaving_of(was, self._before.hires[was.key.hire].model, self._after, self._policy)
        if leaving.stays is None and _account(self._after, was) in self._wanted(was.service):
            return Leaving(Stays.SAME_ACCOUNT)
        if leaving == Leaving() and any(_is_held(each, self._before, self._after) for each in self._gone(was)):
            return Leaving(Stays.ERRORS)
        return leaving

    def _gone(self, was: Grant) -> Iterator[Grant]:
        """Return what a grant's hire had and has no longer; a request's file holds nothing but itself."""
        hire = self._after.owner(was.email) or was.key.hire
        here = {grant.key.access for grant in self._after.grants(hire)}
        mine = self._before.grants(was.key.hire)
        return (each for each in mine if each.requested is None and each.key.access not in here)

    def _wanted(self, service: str) -> set[str]:
        """List the accounts of a service that the touched hires are to have: nobody else's can be among what leaves."""
        known = self._accounts.get(service)
        if known is None:
            grants = (grant for hire in self._touched for grant in self._after.grants(hire, once=True))
            found = (_account(self._after, grant) for grant in grants if grant.service == service)
            known = self._accounts[service] = {account for account in found if account is not None}
        return known

    def _dated(self, change: Change, now: Grant) -> Change:
        hire = self._after.hires[now.key.hire].model
        starts, ends = dates_of(now, hire, self._after.today)
        return replace(
            change,
            name=hire.full_name,
            starts=starts,
            first_day=None if hire.start is None else hire.start.isoformat(),
            ends=ends,
            leaving=None if ends is None else ending_of(now, self._after),
        )


def _held(grant: Grant, policy: PolicyRules) -> str | None:
    """Return why a grant would not be given: it does not fit, is a request that is refused, or breaks a rule."""
    if grant.hold is not None:
        return grant.hold.reason if grant.hold.status is Status.INVALID else None
    if grant.requested is not None and grant.requested.refusal is not None:
        return grant.requested.refusal
    return next(policy.breaches(grant), None)


def _is_held(was: Grant, before: Desired, after: Desired) -> bool:
    """Whether git cannot say after whether a hire keeps a grant, so that passes keep it as it is."""
    return after.unreadable(was.key, was.email, was.sequences, before.revision, source=was.source) is not None


def _account(after: Desired, grant: Grant) -> str | None:
    """Return which account a check means by the manifest after; None where git alone does not tell."""
    loaded = after.files.manifests.get(grant.integration)
    return None if loaded is None else account(loaded.model, grant.service, grant.layers)


def _touched(base: Files, head: Files) -> list[str]:
    """List the hires whose grants may differ, sorted.

    Those are the hires whose file differs, or that of their manager or buddy; all hires if a sequence differs. A
    manifest changes no grant: it is shown separately.
    """
    if _contents(base.sequences) != _contents(head.sequences) or base.broken["sequences"] != head.broken["sequences"]:
        return sorted({*base.hires.index, *head.hires.index})
    before, after = ({(path, each.blob) for path, each in side.hires.index.paths.items()} for side in (base, head))
    hires = {PurePosixPath(path).stem for path, _ in before ^ after}
    hires |= base.broken["hires"].keys() ^ head.broken["hires"].keys()
    asked = _contents(base.requests).items() ^ _contents(head.requests).items()
    hires |= {each.requests[name].model.hire for name, _ in asked for each in (base, head) if name in each.requests}
    return sorted(hires | base.hires.index.referrers(hires) | head.hires.index.referrers(hires))


def _judged_anew(before: Desired, after: Desired) -> Iterator[str]:
    """Yield hires whose files may be as they were, and whose grants may be given now where they were held before."""
    base, head = before.files, after.files
    if [rule for rule, _ in base.policy.entries] != [rule for rule, _ in head.policy.entries]:
        yield from head.hires.index
        return
    if base.offers != head.offers:
        yield from (loaded.model.hire for loaded in head.requests.values())
    forms = ({name: loaded.model.form for name, loaded in side.manifests.items()} for side in (base, head))
    if fitting := set(different(*forms)):
        yield from (hire for hire in after.hires if not fitting.isdisjoint(after.integrations(hire)))


def _contents(files: Mapping[str, Loaded[Any]]) -> dict[str, str]:
    return {name: loaded.blob for name, loaded in files.items()}


def _moved(before: Desired, after: Desired, hires: Iterable[str]) -> dict[str, str]:
    """Map the old id to the new one of hires whose address another file has: who has their id now is somebody else."""
    found = {}
    for hire in hires:
        file = before.hires.file(hire)
        owner = None if file is None or file.email is None else after.owner(file.email)
        if owner not in (None, hire) and hire not in after.broken_hires:
            found[hire] = str(owner)
    return {old: new for old, new in found.items() if new not in before.hires or new in found}


def _change(kind: ChangeKind, grant: Grant, then: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    fields = different(then, now)
    if kind is not ChangeKind.CHANGED:
        fields.pop("integration", None)
    return Change(grant.key, grant.integration, kind, fields, grant.email)


def _fields(side: Desired, grant: Grant) -> dict[str, Any]:
    """Write an access entry as JSON values, without the keys that it leaves out."""
    entry = side.entries.giving(grant)
    fields: dict[str, Any] = {"integration": entry.integration}
    fields |= {f"values.{name}": jsonable(value) for name, value in entry.values.items() if value is not None}
    if entry.at.kind != "commit":
        fields["at"] = str(entry.at)
    if entry.until is not None:
        fields["until"] = str(entry.until)
    if entry.for_ is not None:
        fields["for"] = spelled(entry.for_)
    if (end := side.hires[grant.key.hire].model.end) is not None:
        fields["end"] = end.isoformat()
    if entry.keep:
        fields["keep"] = True
    if grant.requested is not None:
        fields["reason"] = grant.requested.reason
        fields["requested_by"] = grant.requested.requested_by
    if entry.needs:
        fields["needs"] = list(entry.needs)
    return fields


def _same(was: Grant, now: Grant, before: Desired, after: Desired) -> bool:
    """Whether nothing differs at all: a quick check that is true for almost every grant."""
    then, here = before.entries.giving(was), after.entries.giving(now)
    layers = ([layer.values for layer in grant.layers] for grant in (was, now))
    return (
        was.key == now.key
        and was.ends == now.ends
        and was.requested == now.requested
        and (then is here or then == here)
        and next(layers) == next(layers)
    )


def _used(grant: Grant) -> frozenset[str]:
    return frozenset() if grant.manifest is None else grant.manifest.used


def _person(side: Desired, grant: Grant, used: frozenset[str]) -> dict[str, Any]:
    """Collect the hire's values that matter to a grant; those of `extra` are named `extra.NAME`.

    Those are the ones that its manifest uses, the address, and the first day if the entry's `at` counts from it.
    """
    names = used | ({"email", "start"} if side.entries.giving(grant).at.kind == "start" else {"email"})
    found = {}
    for layer in grant.layers:
        if layer.origin == grant.source:
            continue  # the form's values: `_fields` has them as the entry writes them
        scope, prefix = Scope((layer,)), "extra." if layer.origin.endswith("(extra)") else ""
        for name in sorted(names):
            try:
                found[prefix + name] = jsonable(scope.look_up(name).value)
            except MissingVariable:
                continue
    return found


def _hosts(base: Side, head: Side) -> tuple[list[Host], list[Host]]:
    """List the hosts that are new, also to one known manifest, and those that are no longer used."""
    known = {host.host: host.files for host in base.hosts}
    there = {file for host in base.hosts for file in host.files}
    added = [
        host
        for host in head.hosts
        if host.host not in known or any(file in there and file not in known[host.host] for file in host.files)
    ]
    left = {host.host for host in head.hosts}
    return added, [host for host in base.hosts if host.host not in left]


def _new_problems(problems: Iterable[Problem], others: Iterable[Problem]) -> list[Problem]:
    """List the problems that are not among the others; a problem whose line moved is the same."""
    known = Counter((other.file, other.severity, other.message) for other in others)
    found = []
    for problem in problems:
        what = (problem.file, problem.severity, problem.message)
        if known[what]:
            known[what] -= 1
        else:
            found.append(problem)
    return found
