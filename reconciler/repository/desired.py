"""The desired state: hires × access entries × manifests, joined into grants.

Grants are joined hire by hire when they are needed, never all at once, and some are cached. The grants of a broken
hire's or sequence's file are unknown here; the engine keeps those that the ledger has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import PurePosixPath
from typing import TypeVar

from reconciler.model.clock import FIRST, first_moment
from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.hire import Entry, Hire
from reconciler.model.lock import Lock, Locks
from reconciler.model.manifest import Manifest
from reconciler.model.selection import Selection
from reconciler.model.text import hint
from reconciler.model.value import Frozen
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.entries import BEFORE_SUGGESTION, Entries
from reconciler.repository.files import Files
from reconciler.repository.git.trees import WORKTREE, Tree
from reconciler.repository.hires import Hires
from reconciler.repository.joining import Join
from reconciler.repository.naming import is_cases
from reconciler.repository.parsing import REQUESTS, parse

NO_SERVICE = ""
"""Of what belongs to no service that can be read: broken manifests, entries whose integration is missing."""

MAX_KEPT = 40_960
"""How many hires and grants are remembered, the last ones: every service's pass asks for the same hires."""


_Known = TypeVar("_Known", Grant, Record)


class Service(Frozen):
    """Manifests that share initial data, an OAuth connection and limits: file and manifest by integration."""

    name: str
    manifests: Mapping[str, tuple[str, Manifest]]


@dataclass(slots=True)
class _Joined:
    """A hire's grants, and the problems of its file once somebody asked for them."""

    grants: tuple[Grant, ...]
    problems: tuple[Problem, ...] | None = None


class Desired:
    """A revision's desired state, on a day.

    Entries that are over when the day begins are in it no longer, or those that are over at `now` where that is given;
    `wanted` leaves out those that are over by another time.
    """

    def __init__(self, files: Files, today: date, now: datetime | None = None) -> None:
        self.files = files
        self.today = today
        self.once_assigned: frozenset[str] = frozenset()
        """The sequences that a revision acted on before assigned: what one gave that is gone since is not given up."""
        self.entries = Entries(files)
        self.join = Join(files, self.entries, now or first_moment(today, files.settings.timezone) or FIRST)
        self._joined: OrderedDict[str, _Joined] = OrderedDict()
        self._room = MAX_KEPT

    @property
    def revision(self) -> str:
        """Return the full commit id, or `worktree`."""
        return self.files.revision

    def rules_as(self, other: Desired, integration: str) -> bool:
        """Whether an integration is ruled as at another revision: by the same settings, policy and manifest."""
        if self.files is other.files:
            return True
        found = (each.files.manifests.get(integration) for each in (self, other))
        here, there = (None if loaded is None else loaded.model for loaded in found)
        ours, theirs = ((each.files.settings, each.files.policy) for each in (self, other))
        return ours == theirs and here == there

    @property
    def hires(self) -> Hires:
        """Return every hire whose file can be read."""
        return self.files.hires

    @property
    def broken_hires(self) -> Mapping[str, list[Problem]]:
        """Return the hires whose file cannot be read: their grants in the ledger are kept."""
        return self.files.broken["hires"]

    def owner(self, email: str) -> str | None:
        """Return the id of the hire that has an address, without regard to case; None if the file cannot be read."""
        hire = self.hires.index.owner(email)
        return None if hire in self.broken_hires else hire

    def locks(self, locks: Iterable[Lock], now: datetime) -> Locks:
        """Return who is locked out, by the files' addresses."""

        def address(hire: str) -> str | None:
            file = self.hires.file(hire)
            return None if file is None else file.email

        return Locks(locks, now, owner=self.hires.index.owner, address=address)

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """Return every service with a readable manifest."""
        found: dict[str, dict[str, tuple[str, Manifest]]] = {}
        for integration, loaded in self.files.manifests.items():
            service = loaded.model.service or integration
            found.setdefault(service, {})[integration] = (loaded.path, loaded.model)
        return {name: Service(name, manifests) for name, manifests in found.items()}

    def service_of(self, integration: str) -> str:
        """Return the service of an integration; `NO_SERVICE` if no readable manifest says."""
        loaded = self.files.manifests.get(integration)
        return NO_SERVICE if loaded is None else loaded.model.service or integration

    @cached_property
    def unreadable_files(self) -> bool:
        """Whether git cannot say of any grant whether its hire keeps it, but for what requests gave."""
        return bool(
            self.broken_hires
            or self.files.broken["sequences"]
            or any(name not in self.files.sequences for name in self._mentioned_sequences | self.once_assigned)
        )

    @cached_property
    def unreadable_requests(self) -> frozenset[str]:
        """The names of requests of which git cannot say whether somebody has what they gave."""
        nobody = (name for name, each in self.files.requests.items() if each.model.hire not in self.hires.index)
        return frozenset({*self.files.broken["requests"], *nobody})

    @cached_property
    def _mentioned_sequences(self) -> frozenset[str]:
        """Return the sequences that a hire names or a sequence includes."""
        return self.entries.included | {*self.hires.index.sequences}

    def unreadable(
        self,
        key: Key,
        email: str,
        sequences: Iterable[str],
        since: str | None = None,
        *,
        source: str = REQUESTS.folder,
    ) -> str | None:
        """Return why git cannot say whether a hire keeps a grant, from sequences or of its own; or None.

        The hire's file cannot be read, or stands broken under another name: it has the address, or git sees it as the
        file that the hire had at the revision `since`, when the grant was last planned. Or a sequence is broken, or
        somebody names it and it is not there. Where the hire names one that is not there, that may be any sequence that
        it had. Or the request that gave it, at `source`, cannot be read, or names a hire who is not there.
        """
        hire, access = key
        if source.startswith(REQUESTS.folder) and (why := self._unreadable_request(access, hire, email)) is not None:
            return why
        renamed_to = None
        if since is not None and self.broken_hires and self.vanished(hire):
            renamed_to = self.hires.renamed_since(since).get(hire)
        for named in (hire, self.hires.index.owner(email), renamed_to):
            if named is not None and (problems := self.broken_hires.get(named)):
                return problems[0].clause
        return next((why for each in sequences if (why := self._unreadable_sequence(hire, each)) is not None), None)

    def _unreadable_request(self, name: str, hire: str, email: str) -> str | None:
        """Return why a request does not say whether somebody who is there has what it gave; or None."""
        if problems := self.files.broken["requests"].get(name):
            return problems[0].clause
        loaded, there = self.files.requests.get(name), self.hires.index
        if loaded is None or loaded.model.hire in there or (hire not in there and there.owner(email) is None):
            return None
        return f"{loaded.path}: hire: there is no hires/{loaded.model.hire}.yaml"

    def _unreadable_sequence(self, hire: str, sequence: str) -> str | None:
        if problems := self.files.broken["sequences"].get(sequence):
            return f"config/sequences/{sequence}.yaml cannot be read: {problems[0].clause}"
        missing = next(self.entries.missing(hire), None)
        if missing is not None and sequence not in self.entries.sequences_of(hire):
            return str(missing)
        if sequence not in self.files.sequences and sequence in self._mentioned_sequences:
            return f"there is no config/sequences/{sequence}.yaml, and it is named"
        if sequence not in self.files.sequences and sequence in self.once_assigned:
            ways = "bring it back, or, to take away what it gave, with an empty `access`"
            return f"there is no config/sequences/{sequence}.yaml, which was assigned: {ways}"
        return None

    def holds(self, record: Record) -> str | None:
        """Return why git cannot say whether a hire keeps what the ledger has; or None."""
        return self.unreadable(record.key, record.email, record.sequences, record.revision, source=record.source)

    def vanished(self, hire: str) -> bool:
        """Whether a hire has no file, not even one that cannot be read."""
        return hire not in self.hires and hire not in self.broken_hires

    def over(self, hire: str, access: str, now: datetime | None = None, acted_at: datetime | None = None) -> str | None:
        """Return why an entry that git has counts as removed: its `until`, its `for`, or the hire's `end`; or None.

        `for` counts from `acted_at`, when it was first acted on.
        """
        return self.join.over(self.hires[hire], access, now, acted_at) if hire in self.hires else None

    def has(self, hire: str, access: str) -> bool:
        """Whether git has an entry of this name, over or not."""
        return hire in self.hires and access in self.entries.of(self.hires[hire])

    def kept(self, hire: str, known: Iterable[_Known]) -> list[_Known]:
        """Return what is only reported now that git no longer wants it: an entry that is over counts as git has it."""
        entries = self.entries.of(self.hires[hire]) if hire in self.hires else {}

        def keeps(each: _Known) -> bool:
            here = entries.get(each.key.access)
            return each.keep if here is None or here.entry.integration != each.integration else here.entry.keep

        return [each for each in known if keeps(each)]

    def requesting(self, name: str) -> list[str]:
        """Return the hire that a request is for; none where there is no such request."""
        loaded = self.files.requests.get(name)
        return [] if loaded is None else [loaded.model.hire]

    @property
    def assigned(self) -> frozenset[str]:
        """Return the sequences that are assigned, and those that were and are gone since, or cannot be read."""
        return self.entries.assigned | (self.once_assigned - self.files.sequences.keys())

    def integrations(self, hire: str) -> Collection[str]:
        """Return the integrations that a hire uses, including those of entries that are over.

        Nearly always this is known without parsing the hire's file.
        """
        file = self.hires.file(hire)
        if file is None:
            return ()
        if self.entries.assigned:
            return {grant.integration for grant in self.grants(hire)}
        asked = [each.model.access.integration for each in self.entries.requests(hire)]
        named = [self.entries.gives[name] for name in file.sequences if name in self.files.sequences]
        if not (named or asked):
            return file.integrations
        return {*file.integrations, *asked, *(item.entry.integration for given in named for item in given.values())}

    def grants(self, hire: str, *, once: bool = False) -> tuple[Grant, ...]:
        """Return a hire's grants, needed ones before those that need them; none if its file cannot be read.

        With `once` they are not remembered: a walk over all hires would evict those that passes are about.
        """
        known = self._joined.get(hire)
        if known is not None:
            return known.grants
        loaded = self.hires.get(hire)
        grants = self.join.grants(loaded) if loaded is not None else ()
        if not once:
            self._joined[hire] = _Joined(grants)
            self._room -= 1 + len(grants)
            while self._room < 0 and len(self._joined) > 1:
                self._room += 1 + len(self._joined.popitem(last=False)[1].grants)
        return grants

    def grant(self, key: Key) -> Grant | None:
        """Return one grant; None if there is none, or its hire's file cannot be read."""
        return next((grant for grant in self.grants(key.hire) if grant.key == key), None)

    def problems_of_file(self, hire: str) -> tuple[Problem, ...]:
        """Return what is wrong or doubtful in a hire's file, whatever its grants are: remembered with these."""
        known = self._joined.get(hire)
        if known is not None and known.problems is not None:
            return known.problems
        found = tuple(_problems_of_file(self, hire))
        if known is not None:
            known.problems = found
        return found


def _problems_of_file(desired: Desired, hire: str) -> Iterator[Problem]:
    missing = [*desired.entries.missing(hire)]
    yield from missing
    loaded = desired.hires.get(hire)
    if loaded is None:
        return
    if not missing and not desired.files.broken["sequences"]:
        for place in desired.entries.unused_without(loaded.model):
            message = f"without: no sequence of this hire gives {loaded.model.without[place]}"
            yield Problem(loaded.path, loaded.document.line(("without", place)), message, Severity.WARNING)
    for where, text in _doubts(desired, loaded):
        yield Problem(loaded.path, loaded.document.line(where), text, Severity.WARNING)


def _doubts(desired: Desired, loaded: Loaded[Hire]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Tell of a manager or buddy without a file, an end before the start, and entries whose `until` is over."""
    model, hires = loaded.model, desired.hires
    for role, named in model.references.items():
        if named not in hires and named not in desired.broken_hires:
            yield (role,), f"{role}: there is no hires/{named}.yaml{hint(named, hires, BEFORE_SUGGESTION)}"
    if model.start is not None and model.end is not None and model.end < model.start:
        yield ("end",), f"end {model.end} is before start {model.start}"
    if model.end is None or model.end >= desired.today:
        for place, entry in enumerate(model.access):
            if entry.until is not None and desired.over(loaded.stem, entry.access) is not None:
                yield ("access", place, "until"), over_by_itself(entry)


def over_by_itself(entry: Entry) -> str:
    """Say that an entry's own `until` is over."""
    return f"access {entry.access}: until {entry.until} is over: take the entry out, or move it"


# --- what files affect ------------------------------------------------------------------------------------------------


def touched(paths: frozenset[str], desired: Desired, before: Tree) -> list[Selection]:
    """The hires and the integrations that files affect which differ from a revision before; everything if one does all.

    A hire's file also affects the hires that name it as manager or buddy. What hires have of these integrations is left
    to the pass over all of them: alone, it could be within the guard's limits.
    """
    hires: set[str] = set()
    integrations: set[str] = set()
    for text in paths:
        path = PurePosixPath(text)
        match path.parts:
            case ("hires", *_):
                hires.add(path.stem)
            case ("manifests", *_) if not is_cases(path.name):
                integrations |= _siblings(path.stem, desired)
            case ("config", "initial_data", _):
                theirs = (each.manifests for name, each in desired.services.items() if path.name.startswith(f"{name}."))
                integrations.update(*theirs)
            case ("config", "requests", _) if asked := _requesters(text, desired, before):
                hires.update(asked)
            case ("config", "reviews", *_):
                pass  # reviewers may commit all day: no grant follows from their decisions
            case ("config", *_):
                return [Selection()]
            case _:
                pass
    hires |= desired.hires.index.referrers(hires)
    found = []
    if hires:
        found.append(Selection(hires=frozenset(hires), without=frozenset(integrations)))
    if integrations:
        found.append(Selection(integrations=frozenset(integrations)))
    return found


def _requesters(path: str, desired: Desired, before: Tree) -> set[str]:
    """Return the hires that a request's file is for, and was for; none where that cannot be told."""
    asked = {*desired.requesting(PurePosixPath(path).stem)}
    if before.revision == WORKTREE:
        return set()
    if (file := before.find(path)) is None:
        return asked
    was = parse(before, file, REQUESTS).loaded
    return set() if was is None else {*asked, was.model.hire}


def changed_hires(desired: Desired, before: Desired) -> set[str] | None:
    """Return the hires whose grants may differ from those at another revision; None if everybody's may.

    A hire's grants follow from its file, from those that it names, and from whether another has its id or address.
    """
    paths = desired.hires.changed_paths(before.hires)
    if paths is None or desired.today != before.today:
        return None
    hires = {*(desired.broken_hires.keys() ^ before.broken_hires.keys())}
    for each in touched(paths, desired, before.hires.tree):
        if each.hires is None:
            return None
        hires |= each.hires
    return hires | desired.hires.index.referrers(hires)


def _siblings(integration: str, desired: Desired) -> set[str]:
    """List the integrations of the same service: its allowed hosts come from all their manifests."""
    service = desired.services.get(desired.service_of(integration))
    return set(service.manifests) if service is not None else {integration}
