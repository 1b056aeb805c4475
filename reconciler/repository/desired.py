"""The desired state: hires × access entries × manifests, joined into grants.

Grants are joined hire by hire when they are needed, never all at once, and some are cached. The grants of a broken
hire's or sequence's file are unknown here; the engine keeps those that the ledger has.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from datetime import date, datetime
from functools import cached_property
from pathlib import PurePosixPath

from reconciler.model.clock import FIRST, first_moment
from reconciler.model.errors import Problem, Severity, shortened
from reconciler.model.grant import Grant, Key
from reconciler.model.hire import Entry, Hire, HireRef
from reconciler.model.lock import Lock, Locks
from reconciler.model.manifest import Manifest
from reconciler.model.near import near
from reconciler.model.scope import Layer
from reconciler.model.sequence import Sequence
from reconciler.model.status import Status
from reconciler.model.value import Frozen
from reconciler.repository.documents.loaded import Loaded
from reconciler.repository.files import Files
from reconciler.repository.form_values import BEFORE_SUGGESTION
from reconciler.repository.hires import Hires
from reconciler.repository.joining import Join
from reconciler.repository.naming import is_cases
from reconciler.repository.requestable import Offers

__all__ = ["NO_SERVICE", "Desired", "Service"]

NO_SERVICE = ""
"""Of what belongs to no service that can be read: broken manifests, entries whose integration is missing."""

MAX_KEPT = 16_384
"""How many hires and grants are remembered for good: the first ones.

A pass goes over all hires in turn, and with the oldest evicted each pass would miss them all.
"""

MAX_LATEST = 24_576
"""How many of the others are: the last ones, for every service's pass asks for the same hires, some before others."""


class Service(Frozen):
    """Manifests that share initial data, an OAuth connection and limits: file and manifest by integration."""

    name: str
    manifests: Mapping[str, tuple[str, Manifest]]


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
        self._join = Join(files, now or first_moment(today, files.settings.timezone) or FIRST)
        self._kept: dict[str, tuple[Grant, ...]] = {}
        self._kept_room = MAX_KEPT
        self._latest: dict[str, tuple[Grant, ...]] = {}
        self._latest_room = MAX_LATEST

    @property
    def revision(self) -> str:
        """Return the full commit id, or `worktree`."""
        return self.files.revision

    @property
    def hires(self) -> Hires:
        """Return every hire whose file can be read."""
        return self.files.hires

    @property
    def broken_hires(self) -> Mapping[str, list[Problem]]:
        """Return the hires whose file cannot be read: their grants in the ledger are kept."""
        return self.files.broken["hires"]

    def changed_since(self, before: Desired) -> set[str] | None:
        """Return the hires whose grants may differ from those at another revision; None if everybody's may.

        A hire's grants follow from its file, from those that it names, and from whether another has its id or address.
        """
        paths = self.hires.changed_paths(before.hires)
        if paths is None or self.today != before.today:
            return None
        hires = {*(self.broken_hires.keys() ^ before.broken_hires.keys())}
        for path in map(PurePosixPath, paths):
            match path.parts:
                case ("hires", *_):
                    hires.add(path.stem)
                case ("manifests", *_) if not is_cases(path.name):
                    return None
                case ("config", "requests", *_):
                    hires |= {*self.requesting(path.stem), *before.requesting(path.stem)}
                case ("config", folder, *_) if folder != "reviews":
                    return None
                case _:
                    pass
        return hires | self.hires.referrers(hires)

    def owner(self, email: str) -> str | None:
        """Return the id of the hire that has an address, without regard to case; None if the file cannot be read."""
        hire = self.hires.owner(email)
        return None if hire in self.broken_hires else hire

    def locks(self, locks: Iterable[Lock], now: datetime) -> Locks:
        """Return who is locked out, by the files' addresses."""

        def address(hire: str) -> str | None:
            file = self.hires.file(hire)
            return None if file is None else file.email

        return Locks(locks, now, owner=self.hires.owner, address=address)

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
        return self._service_names.get(integration, NO_SERVICE)

    @cached_property
    def _service_names(self) -> Mapping[str, str]:
        return {integration: name for name, service in self.services.items() for integration in service.manifests}

    @cached_property
    def unreadable_files(self) -> bool:
        """Whether git cannot say of any grant whether its hire keeps it."""
        return bool(
            self.broken_hires
            or self.files.broken["sequences"]
            or any(name not in self.files.sequences for name in self._mentioned_sequences | self.once_assigned)
        )

    @cached_property
    def _mentioned_sequences(self) -> frozenset[str]:
        """Return the sequences that a hire names or a sequence includes."""
        return self._included | {*self.hires.named_sequences()}

    @cached_property
    def _included(self) -> frozenset[str]:
        return frozenset(name for loaded in self.files.sequences.values() for name in loaded.model.include)

    def unreadable(self, key: Key, email: str, sequence: str | None, since: str | None = None) -> str | None:
        """Return why git cannot say whether a hire keeps a grant, from a sequence or of its own; or None.

        The hire's file cannot be read, or stands broken under another name: it has the address, or git sees it as the
        file that the hire had at the revision `since`, when the grant was last planned. Or the sequence is broken, or
        somebody names it and it is not there. Where the hire names one that is not there, that may be any sequence that
        it had. Or a request of the entry's name cannot be read.
        """
        hire, access = key
        if problems := self.files.broken["requests"].get(access):
            return problems[0].clause
        for named in (hire, self.hires.owner(email), self._renamed_to(hire, since)):
            if named is not None and (problems := self.broken_hires.get(named)):
                return problems[0].clause
        if sequence is None:
            return None
        if problems := self.files.broken["sequences"].get(sequence):
            return f"config/sequences/{sequence}.yaml cannot be read: {problems[0].clause}"
        missing = next(self._missing_sequences(hire), None)
        if missing is not None and sequence not in self._join.sequences(self.hires[hire].model):
            return str(missing)
        if sequence not in self.files.sequences and sequence in self._mentioned_sequences:
            return f"there is no config/sequences/{sequence}.yaml, and it is named"
        if sequence not in self.files.sequences and sequence in self.once_assigned:
            ways = "bring it back, or, to take away what it gave, with an empty `access`"
            return f"there is no config/sequences/{sequence}.yaml, which was assigned: {ways}"
        return None

    def vanished(self, hire: str) -> bool:
        """Whether a hire has no file, not even one that cannot be read."""
        return hire not in self.hires and hire not in self.broken_hires

    def _renamed_to(self, hire: str, since: str | None) -> str | None:
        if since is None or not self.broken_hires or not self.vanished(hire):
            return None
        return self.hires.renamed_since(since).get(hire)

    def over(self, hire: str, access: str, now: datetime | None = None, acted_at: datetime | None = None) -> str | None:
        """Return why an entry that git has counts as removed: its `until`, its `for`, or the hire's `end`; or None.

        `for` counts from `acted_at`, when it was first acted on.
        """
        return self._join.over(self.hires[hire], access, now, acted_at) if hire in self.hires else None

    def has(self, hire: str, access: str) -> bool:
        """Whether git has an entry of this name, over or not."""
        return hire in self.hires and self._join.has(self.hires[hire], access)

    def first_error(self, hire: str) -> str | None:
        """Return an error in a hire's files, or None; meanwhile nothing of the hire is revoked automatically."""
        if hire in self.hires:
            for name in self._join.mentioned(self.hires[hire].model):
                if broken := self.files.broken["sequences"].get(name):
                    return str(broken[0])
        own = [grant for grant in self.grants(hire) if grant.requested is None]
        errors = (each for each in self._problems_of_hire(hire, own) if each.severity is Severity.ERROR)
        return next(map(str, errors), None)

    def _missing_sequences(self, hire: str) -> Iterator[Problem]:
        """Return the sequences that a hire names or gets by `include`, and that do not exist."""
        file = self.hires.file(hire)
        if file is None or not (file.sequences or self._included):
            return
        loaded = self.hires[hire]
        for index, name in enumerate(file.sequences):
            if self._is_missing(name):
                yield self._missing(loaded, ("sequences", index), name)
        for sequence in self._join.sequences(loaded.model) if self._included else ():
            yield from self.missing_includes(self.files.sequences[sequence])

    def missing_includes(self, loaded: Loaded[Sequence]) -> Iterator[Problem]:
        """Return the sequences that a sequence includes and that do not exist."""
        for index, name in enumerate(loaded.model.include):
            if self._is_missing(name):
                yield self._missing(loaded, ("include", index), name)

    def _is_missing(self, name: str) -> bool:
        return name not in self.files.sequences and name not in self.files.broken["sequences"]

    def _missing(self, loaded: Loaded[Hire] | Loaded[Sequence], place: tuple[str, int], name: str) -> Problem:
        meant = near(name, self.files.sequences, BEFORE_SUGGESTION)
        message = f"{place[0]}: there is no config/sequences/{name}.yaml{meant}"
        return Problem(loaded.path, loaded.document.line(place), message)

    def problems(self) -> list[Problem]:
        """Return the problems of joining files, of all hires: entries that do not fit, missing sequences."""
        found = [problem for hire in self.hires for problem in self.problems_of(hire, self.grants(hire))]
        return sorted(set(found))

    def problems_of(self, hire: str, grants: Iterable[Grant], acted_on: Container[Key] = ()) -> Iterator[Problem]:
        """Return the problems of one hire's entries and requests; `grants` are its own.

        A request that was acted on already, and would not be allowed any more, is a warning.
        """
        grants = list(grants)
        yield from self._problems_of_hire(hire, grants)
        for grant in grants:
            if grant.requested is not None and grant.requested.refusal is not None:
                runs = grant.key in acted_on
                text = f"{grant.requested.refusal}{'; what was given by it runs to its end' if runs else ''}"
                yield _of_entry(grant, text, Severity.WARNING if runs else Severity.ERROR)
        for loaded in self._join.nameless(self.hires[hire]) if self._join.requests(hire) and hire in self.hires else ():
            text = f"access {loaded.stem}: the hire has an entry of this name: rename the file"
            yield Problem(loaded.path, None, text)

    def refused_by(self, offers: Offers, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        """Return the requests of a hire that another revision's requestable.yaml does not allow."""
        for grant in grants:
            if grant.requested is not None and grant.requested.refusal is None:
                refusal = self._join.refusal(self.hires[hire], grant.key.access, offers)
                if refusal is not None:
                    yield _of_entry(grant, f"before this change, {refusal}", Severity.ERROR)

    def requesting(self, name: str) -> list[str]:
        """Return the hire that a request is for; none where there is no such request."""
        loaded = self.files.requests.get(name)
        return [] if loaded is None else [loaded.model.hire]

    def _problems_of_hire(self, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        missing = [*self._missing_sequences(hire)]
        yield from missing
        loaded = self.hires.get(hire)
        if loaded is not None:
            if not missing and not self.files.broken["sequences"]:
                yield from self._unused_without(loaded)
            yield from self._doubts(loaded)
        for grant in grants:
            if grant.hold is not None and grant.hold.status is Status.INVALID:
                message = f"access {grant.key.access}: {grant.hold.reason}"
                if grant.hold.personal and grant.origin is not None and loaded is not None:
                    yield Problem(loaded.path, loaded.document.line(("sequences",)), message)
                else:
                    yield _of_entry(grant, grant.hold.reason, Severity.ERROR)

    def _doubts(self, loaded: Loaded[Hire]) -> Iterator[Problem]:
        """Warn of a manager or buddy without a file, an end before the start, and entries whose `until` is over."""
        found: list[tuple[tuple[str | int, ...], str]] = []
        model = loaded.model
        for role, person in (("manager", model.manager), ("buddy", model.buddy)):
            if isinstance(person, HireRef) and person.hire not in self.hires and person.hire not in self.broken_hires:
                text = f"{role}: there is no hires/{person.hire}.yaml{near(person.hire, self.hires, BEFORE_SUGGESTION)}"
                found.append(((role,), text))
        if model.start is not None and model.end is not None and model.end < model.start:
            found.append((("end",), f"end {model.end} is before start {model.start}"))
        if model.end is None or model.end >= self.today:
            for place, entry in enumerate(model.access):
                if entry.until is not None and self.over(loaded.stem, entry.access) is not None:
                    found.append((("access", place, "until"), _over(entry)))
        for where, text in found:
            yield Problem(loaded.path, loaded.document.line(where), text, Severity.WARNING)

    def has_ended(self, hire: str) -> bool:
        """Whether a hire's `end` is over."""
        end = self.hires[hire].model.end if hire in self.hires else None
        return end is not None and end < self.today

    def _unused_without(self, loaded: Loaded[Hire]) -> Iterator[Problem]:
        for place in self._join.unused_without(loaded.model):
            message = f"without: no sequence of this hire gives {loaded.model.without[place]}"
            yield Problem(loaded.path, loaded.document.line(("without", place)), message, Severity.WARNING)

    def unfitting(self) -> Iterator[Problem]:
        """Return the problems of sequences' entries and what they include, whether a hire has them or not."""
        for loaded in self.files.sequences.values():
            yield from self.missing_includes(loaded)
            for place, (entry, line) in enumerate(zip(loaded.model.access, loaded.lines, strict=True)):
                if self._join.over_for_all(entry):
                    where = loaded.document.line(("access", place, "until"))
                    yield Problem(loaded.path, where, _over(entry), Severity.WARNING)
                try:
                    self._join.fitted(entry)
                except ValueError as error:
                    yield Problem(loaded.path, line, f"access {entry.access}: {shortened(str(error))}")

    @property
    def assigned(self) -> frozenset[str]:
        """Return the sequences that are assigned, and those that were and are gone since, or cannot be read."""
        now = {name for name, loaded in self.files.sequences.items() if loaded.model.assign is not None}
        return frozenset(now | (self.once_assigned - self.files.sequences.keys()))

    def assigned_to(self, hire: str) -> list[str]:
        """Return the sequences whose `assign` matches a hire, whether it names them or not."""
        if not self._assigns:
            return []
        model = self.hires[hire].model
        return [name for name in self.files.sequences if self._join.assigns(name, model)]

    def sequences_of(self, hire: str) -> list[str]:
        """Return the sequences that a hire has, named, assigned or included; none if its file cannot be read."""
        return self._join.sequences(self.hires[hire].model) if hire in self.hires else []

    def includer(self, hire: str, sequence: str) -> str | None:
        """Return the sequence by whose `include` a hire has another; None if it names it or is assigned it."""
        file = self.hires.file(hire)
        if sequence not in self._included or file is None or sequence in file.sequences:
            return None
        model = self.hires[hire].model
        if self._join.assigns(sequence, model):
            return None
        has = self._join.sequences(model)
        return next((name for name in has if sequence in self.files.sequences[name].model.include), None)

    def unassigned(self, given: Collection[str]) -> Iterator[Problem]:
        """Warn of each sequence whose `assign` matches no hire; not while a hire cannot be read.

        `given` are those that match one, of all hires.
        """
        if self.broken_hires:
            return
        for name, loaded in self.files.sequences.items():
            if loaded.model.assign is not None and name not in given:
                line = loaded.document.line(("assign",))
                yield Problem(loaded.path, line, "assign: it matches no hire, so nobody is given it", Severity.WARNING)

    def ends(self, hire: str) -> bool:
        """Whether a hire or one of its entries ends, so that its grants may differ on another day."""
        return self._join.ends(hire, self.hires[hire].model)

    def integrations(self, hire: str) -> Collection[str]:
        """Return the integrations that a hire uses, including those of entries that are over.

        Nearly always this is known without parsing the hire's file.
        """
        file = self.hires.file(hire)
        if file is None:
            return ()
        if self._assigns:
            return {grant.integration for grant in self.grants(hire)}
        asked = [each.model.access.integration for each in self._join.requests(hire)]
        named = [self._join.gives[name] for name in file.sequences if name in self.files.sequences]
        if not (named or asked):
            return file.integrations
        return {*file.integrations, *asked, *(item.entry.integration for given in named for item in given.values())}

    @cached_property
    def _assigns(self) -> bool:
        """Whether any sequence is assigned by hires' fields instead of by name."""
        return any(sequence.model.assign is not None for sequence in self.files.sequences.values())

    def grants(self, hire: str, *, once: bool = False) -> tuple[Grant, ...]:
        """Return a hire's grants, needed ones before those that need them; none if its file cannot be read.

        With `once` they are not remembered: a walk over all hires would evict those that passes are about.
        """
        known = self._kept.get(hire)
        if known is None:
            known = self._latest.get(hire)
        if known is None:
            loaded = self.hires.get(hire)
            known = self._join.grants(loaded) if loaded is not None else ()
            if not once:
                self._remember(hire, known)
        return known

    def layers(self, hire: str) -> tuple[Layer, ...]:
        """Return the variables that a hire gives, whatever the entry; none if there is no file that can be read."""
        loaded = self.hires.get(hire)
        return () if loaded is None else self._join.hire_layers(loaded)

    def _remember(self, hire: str, grants: tuple[Grant, ...]) -> None:
        size = 1 + len(grants)
        if size <= self._kept_room:
            self._kept[hire] = grants
            self._kept_room -= size
            return
        self._latest[hire] = grants
        self._latest_room -= size
        while self._latest_room < 0 and len(self._latest) > 1:
            self._latest_room += 1 + len(self._latest.pop(next(iter(self._latest))))


def _of_entry(grant: Grant, text: str, severity: Severity) -> Problem:
    file, _, line = grant.source.rpartition(":")
    return Problem(file, int(line), f"access {grant.key.access}: {text}", severity)


def _over(entry: Entry) -> str:
    return f"access {entry.access}: until {entry.until} is over: take the entry out, or move it"
