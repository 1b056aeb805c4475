"""Who should have what: hires × access entries × manifests, joined into grants.

Grants are made hire by hire as they are asked for, never all at once; those asked for last are remembered, since every
service's pass asks for the same hires. What does not fit holds one grant, with the
reason; a broken manifest holds the grants that use it; a hire's or a sequence's broken file holds what the ledger last
knew of it, which is for the engine to say, for here those grants cannot be known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import islice
from typing import Any

from reconciler.model.base import as_text
from reconciler.model.errors import Problem, Severity, shortened
from reconciler.model.grant import Grant, Hold, Key
from reconciler.model.hire import Entry, Hire, HireRef, NamedChoice, Sequence
from reconciler.model.manifest import FormField, Manifest
from reconciler.model.scope import Layer
from reconciler.model.status import Status
from reconciler.repository.documents.problems import near
from reconciler.repository.files import Files, Loaded
from reconciler.repository.hires import Hires
from reconciler.repository.needs import circular_among, needed_first

__all__ = ["Desired", "Service"]


REMEMBERED = 16_384
"""So many hires and grants are remembered."""

BEFORE = ": "
"""What stands before a suggestion in a grant's reason, where no sentence follows."""

SEVERAL = 30
"""So many of a choice's items are named where a value is none of them."""


@dataclass(frozen=True, slots=True)
class Service:
    """Manifests that share initial data, an OAuth connection and limits: (file, manifest) by integration."""

    name: str
    manifests: Mapping[str, tuple[str, Manifest]]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An access entry of a hire, and which file it stands in."""

    entry: Entry
    source: str
    origin: str | None
    rivals: tuple[str, ...] = ()


class Desired:
    """What a revision wants. `today` decides which entries have reached their `until`."""

    def __init__(self, files: Files, today: date) -> None:
        self.files = files
        self.today = today
        self._remembered: dict[str, tuple[Grant, ...]] = {}
        self._room = REMEMBERED

    @property
    def revision(self) -> str:
        """The full commit id, or `worktree`."""
        return self.files.revision

    @property
    def hires(self) -> Hires:
        """Every hire whose file can be read."""
        return self.files.hires

    @property
    def broken_hires(self) -> Mapping[str, list[Problem]]:
        """The hires whose file cannot be read: what the ledger has of them is held."""
        return self.files.broken["hires"]

    def owner(self, email: str) -> str | None:
        """Whose hire's id an address is, without regard to case."""
        hire = self.files.hires.index.owner(email)
        return hire if hire in self.hires else None

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """Every service that a readable manifest belongs to."""
        found: dict[str, dict[str, tuple[str, Manifest]]] = {}
        for integration, loaded in self.files.manifests.items():
            service = loaded.model.service or integration
            found.setdefault(service, {})[integration] = (loaded.path, loaded.model)
        return {name: Service(name, manifests) for name, manifests in found.items()}

    def held(self, hire: str, email: str, sequence: str | None) -> str | None:
        """Why what a hire once had from a sequence, or of its own, is held where it is, or None.

        The hire's file cannot be read, or stands broken under another name; the sequence is broken, or somebody names
        it and it is not there. Where the hire names one that is not there, that may be any sequence that it had.
        """
        named = hire if hire in self.hires.index else self.hires.index.owner(email)
        if named is not None and (problems := self.broken_hires.get(named)):
            return str(problems[0])
        if sequence is None:
            return None
        if problems := self.files.broken["sequences"].get(sequence):
            return f"config/sequences/{sequence}.yaml cannot be read: {problems[0]}"
        missing = next(self._missing_sequences(hire), None)
        if missing is not None and sequence not in self._sequences(self.hires[hire].model):
            return str(missing)
        if sequence not in self.files.sequences and sequence in self.hires.index.sequences:
            return f"there is no config/sequences/{sequence}.yaml, and hires name it"
        return None

    def slip(self, hire: str) -> str | None:
        """An error in a hire's files, because of which nothing of the hire is revoked on its own, or None."""
        file = self.hires.file(hire)
        for name in file.sequences if file is not None else ():
            if broken := self.files.broken["sequences"].get(name):
                return str(broken[0])
        return next((str(problem) for problem in self.problems_of(hire, self.grants(hire))), None)

    def _missing_sequences(self, hire: str) -> Iterator[Problem]:
        """The sequences that a hire names and that are not there."""
        file = self.hires.file(hire)
        for index, name in enumerate(file.sequences if file is not None else ()):
            if name not in self.files.sequences and name not in self.files.broken["sequences"]:
                line = self.hires[hire].document.line(("sequences", index))
                meant = near(name, self.files.sequences, BEFORE)
                yield Problem(
                    self.hires[hire].path, line, f"sequences: there is no config/sequences/{name}.yaml{meant}"
                )

    def problems(self) -> list[Problem]:
        """What is wrong where files meet, of all hires: entries that do not fit, sequences that are not there."""
        found = [problem for hire in self.hires for problem in self.problems_of(hire, self.grants(hire))]
        return sorted(set(found))

    def problems_of(self, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        """What is wrong with one hire's entries; `grants` are its own."""
        yield from self._missing_sequences(hire)
        for grant in grants:
            if grant.hold is not None and grant.hold.status is Status.INVALID:
                file, _, line_text = grant.source.rpartition(":")
                yield Problem(file, int(line_text), f"access {grant.key.access}: {grant.hold.reason}")

    def unassigned(self) -> Iterator[Problem]:
        """The sequences whose `assign` matches no hire; where a hire cannot be read, nobody can tell."""
        left = {name: each for name, each in self.files.sequences.items() if each.model.assign is not None}
        if not left or self.broken_hires:
            return
        for hire in self.hires.values():
            left = {name: each for name, each in left.items() if not _assigned(each.model, hire.model)}
            if not left:
                return
        for loaded in left.values():
            line = loaded.document.line(("assign",))
            yield Problem(loaded.path, line, "assign: it matches no hire, so nobody is given it", Severity.WARNING)

    def integrations(self, hire: str) -> Collection[str]:
        """The integrations that a hire has to do with, those of entries that are over included.

        Nearly always this is known without the hire's file being parsed.
        """
        file = self.hires.file(hire)
        if file is None:
            return ()
        if self._assigns:
            return {grant.integration for grant in self.grants(hire)}
        named = [self.files.sequences[name] for name in file.sequences if name in self.files.sequences]
        if not named:
            return file.integrations
        return {*file.integrations, *(entry.integration for sequence in named for entry in sequence.model.access)}

    @cached_property
    def _assigns(self) -> bool:
        """Whether a sequence is given by what hires' files say, and not by name."""
        return any(sequence.model.assign is not None for sequence in self.files.sequences.values())

    def grants(self, hire: str) -> tuple[Grant, ...]:
        """The grants of one hire, needed ones before those that need them; none where its file cannot be read."""
        known = self._remembered.get(hire)
        if known is None:
            loaded = self.hires.get(hire)
            known = tuple(self._joined(loaded)) if loaded is not None else ()
            self._remembered[hire] = known
            self._room -= 1 + len(known)
            while self._room < 0 and len(self._remembered) > 1:
                self._room += 1 + len(self._remembered.pop(next(iter(self._remembered))))
        return known

    def _joined(self, loaded: Loaded[Hire]) -> list[Grant]:
        """A hire's entries, its own and those of its sequences, joined with their manifests."""
        wanted = self._wanted(loaded)
        layer, absent = self._hire_layer(loaded), self._absent(loaded.model)
        circular = circular_among({name: item.entry.needs for name, item in wanted.items()})
        grants = [
            self._grant(loaded, name, item, layer, absent, wanted.keys(), circular=name in circular)
            for name, item in wanted.items()
            if not self._over(loaded.model, item.entry)
        ]
        return _ordered(grants)

    def _wanted(self, loaded: Loaded[Hire]) -> dict[str, _Wanted]:
        wanted: dict[str, _Wanted] = {}
        for entry, line in zip(loaded.model.access, loaded.lines, strict=True):
            wanted[entry.access] = _Wanted(entry, f"{loaded.path}:{line}", None)
        for name in self._sequences(loaded.model):
            sequence = self.files.sequences[name]
            for entry, line in zip(sequence.model.access, sequence.lines, strict=True):
                known = wanted.get(entry.access)
                if known is None:
                    wanted[entry.access] = _Wanted(entry, f"{sequence.path}:{line}", name)
                elif known.origin is not None and known.entry != entry:
                    rivals = (*(known.rivals or (known.origin,)), name)
                    wanted[entry.access] = _Wanted(known.entry, known.source, known.origin, rivals)
        return wanted

    def _sequences(self, hire: Hire) -> list[str]:
        named = [name for name in hire.sequences if name in self.files.sequences]
        given = [
            name
            for name, loaded in sorted(self.files.sequences.items())
            if name not in named and _assigned(loaded.model, hire)
        ]
        return list(dict.fromkeys(named + given))

    def _over(self, hire: Hire, entry: Entry) -> bool:
        """Whether an entry counts as removed: its `until` is reached, or the day after the hire's `end` is.

        An `until` that is given by the end takes its place. One that is not after `at` is an error, and never reached.
        """
        try:
            begins = entry.at.on(hire.start)
            until = None if entry.until is None else entry.until.on(hire.start, hire.end, key="until")
        except ValueError:
            return self._ended(hire)
        if until is not None and until <= self.today and (begins is None or begins < until):
            return True
        by_end = entry.until is not None and entry.until.kind == "end"
        return not by_end and self._ended(hire)

    def _ended(self, hire: Hire) -> bool:
        return hire.end is not None and hire.end < self.today

    def _hire_layer(self, loaded: Loaded[Hire]) -> tuple[Layer, ...]:
        hire = loaded.model
        values: dict[str, Any] = {
            "email": hire.email,
            "first_name": hire.first_name,
            "last_name": hire.last_name,
            "position": hire.position,
            "department": hire.department,
            "start": hire.start,
            "phone": hire.phone,
            "manager_email": hire.manager_email,
            "buddy_email": hire.buddy_email,
        }
        for role, person in (("manager", hire.manager), ("buddy", hire.buddy)):
            values[role] = person
            if isinstance(person, HireRef):
                other = self.hires.get(person.hire)
                values[role] = other.model.full_name if other else None
                values[f"{role}_email"] = values[f"{role}_email"] or (other.model.email if other else None)
        layers = [Layer(loaded.path, values)]
        if hire.extra:
            layers.append(Layer(f"{loaded.path} (extra)", hire.extra))
        return tuple(layers)

    def _absent(self, hire: Hire) -> dict[str, str]:
        """Why a manager or a buddy who is named by file gives no values (docs/design/states.md)."""
        found: dict[str, str] = {}
        for role, person in (("manager", hire.manager), ("buddy", hire.buddy)):
            if isinstance(person, HireRef) and person.hire not in self.hires:
                broken = self.broken_hires.get(person.hire)
                why = f"it cannot be read: {broken[0]}" if broken else f"there is no hires/{person.hire}.yaml"
                found |= dict.fromkeys((role, f"{role}_email"), f"{role} is {{hire: {person.hire}}}, and {why}")
        return found

    def _grant(
        self,
        loaded: Loaded[Hire],
        access: str,
        item: _Wanted,
        layers: tuple[Layer, ...],
        absent: Mapping[str, str],
        names: Any,
        *,
        circular: bool,
    ) -> Grant:
        entry, hire = item.entry, loaded.model
        manifest = self.files.manifests.get(entry.integration)
        begins, hold = None, None
        values: dict[str, Any] = {}
        choices: tuple[tuple[str, Any], ...] = ()
        try:
            begins = entry.at.on(hire.start)
            over = None if entry.until is None else entry.until.on(hire.start, hire.end, key="until")
            if over is not None and begins is not None and over <= begins:
                raise ValueError(f"until {over} is not after at ({begins})")
            if item.rivals:
                raise ValueError(
                    f"the sequences {', '.join(item.rivals)} give it different values: name it in the hire"
                )
            for need in entry.needs:
                if need == access:
                    raise ValueError("it needs itself")
                if need not in names:
                    raise ValueError(f"needs {need}, which this hire does not have{near(need, names, BEFORE)}")
            if circular:
                raise ValueError(f"needs go in a circle: {', '.join(entry.needs)}")
            hold = self._no_manifest(entry.integration)
            if manifest is not None:
                values, choices = _filled(manifest.model, entry)
        except ValueError as error:
            hold = Hold(Status.INVALID, shortened(str(error)))
        if values:
            layers = (Layer(item.source, values), *layers)
        return Grant(
            key=Key(loaded.stem, access),
            email=hire.email,
            integration=entry.integration,
            service=(manifest.model.service if manifest else None) or entry.integration,
            source=item.source,
            manifest=manifest.model if manifest else None,
            layers=layers,
            absent=absent,
            begins=begins,
            ends=hire.end,
            needs=tuple(entry.needs),
            origin=item.origin,
            keep=entry.keep,
            hold=hold,
            choices=choices,
        )

    def _no_manifest(self, integration: str) -> Hold | None:
        if integration in self.files.manifests:
            return None
        if problems := self.files.broken["manifests"].get(integration):
            return Hold(Status.BLOCKED, f"the manifest has an error: {problems[0]}")
        meant = near(integration, self.files.manifests, BEFORE)
        raise ValueError(f"there is no manifests/{integration}.yaml{meant}")


def _assigned(sequence: Sequence, hire: Hire) -> bool:
    if sequence.assign is None:
        return False
    return all(_plain(getattr(hire, name)) in allowed for name, allowed in sequence.assign.items())


def _plain(value: Any) -> Any:
    return value.hire if isinstance(value, HireRef) else as_text(value)


def _ordered(grants: list[Grant]) -> list[Grant]:
    """Each after those that it needs, otherwise in the files' order. Circles are held, so their order is no matter."""
    if not any(grant.needs for grant in grants):
        return grants
    by_name = {grant.key.access: grant for grant in grants}
    return [by_name[name] for name in needed_first({name: grant.needs for name, grant in by_name.items()})]


def _filled(manifest: Manifest, entry: Entry) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """The form filled in: the values, and those of them that only the service can confirm.

    Raises ValueError where a value does not fit its field.
    """
    form = {field.id: field for field in manifest.form}
    values: dict[str, Any] = {}
    choices = []
    for name, value in entry.values.items():
        field = form.get(name)
        if field is None:
            raise ValueError(f"values.{name}: the manifest's form has no such field{near(name, form, BEFORE)}")
        if value is None:
            continue
        values[name] = _fitted(field, value)
        if field.fetched:
            choices.append((name, values[name]))
    return values, tuple(choices)


def _fitted(field: FormField, value: Any) -> Any:
    where = f"values.{field.id}"
    match field.type:
        case "generate":
            raise ValueError(f"{where}: the value is generated, none can be given")
        case "input":
            if isinstance(value, list | NamedChoice):
                raise ValueError(f"{where}: one text is wanted")
            return value
        case "multiple_choice":
            many = value if isinstance(value, list) else [value]
            return [_chosen(field, item, where) for item in many]
        case "choice":
            if isinstance(value, list):
                raise ValueError(f"{where}: one choice is wanted, not a list")
            return _chosen(field, value, where)


def _several(words: Iterable[str]) -> str:
    """The first of them, where there are many."""
    first = list(islice(words, SEVERAL + 1))
    return ", ".join(first[:SEVERAL]) + (" and others" if len(first) > SEVERAL else "")


def _chosen(field: FormField, value: Any, where: str) -> Any:
    if field.fetched:
        return value
    items = field.items or []
    if isinstance(value, NamedChoice):
        matching = [item.id for item in items if item.name == value.name]
        if len(matching) == 1:
            return matching[0]
        allowed = _several(item.name for item in items)
        many = "names several" if matching else "is not"
        meant = near(value.name, [item.name for item in items], BEFORE)
        raise ValueError(f"{where}: {value.name!r} {many} among the items: {allowed}{meant}")
    for item in items:
        if as_text(item.id) == as_text(value):
            return item.id  # with the type that it has in the manifest
    allowed = _several(f"{as_text(item.id)} ({item.name})" for item in items)
    raise ValueError(f"{where}: {as_text(value)!r} is not among the items: {allowed}")
