"""Decide what an import would change: hires' files to create, to change and to end. Writes nothing.

A person is identified by the address alone. Lines that the source does not fill stay unchanged, including comments.
Only a file that this import made (`source`) is ended, and never one whose person may be one that was left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from reconciler.intake.files import hire_text, with_field
from reconciler.intake.reading import LeftOut, People, Person
from reconciler.model.base import EMAIL, as_text, jsonable
from reconciler.model.errors import NotWritable
from reconciler.model.hire import EXTRA, Hire
from reconciler.model.imports import Import
from reconciler.model.value import Frozen, Unshown
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import model_of
from reconciler.repository.documents.yaml import Loaded, read
from reconciler.repository.hires import Hires
from reconciler.repository.parsing import read_hire

_REFERENCES = {"manager": "manager_email", "buddy": "buddy_email"}


class HireChange(Frozen):
    """A change of a hire's file: `fields` maps each key that changes to its old and new value."""

    hire: str
    file: str
    fields: Mapping[str, tuple[Any, Any]]
    content: Unshown[bytes]
    before: Unshown[bytes | None] = None


@dataclass(slots=True)
class ImportPlan:
    """What would change. `refusal` says why it must not; `notes` are for the reader."""

    source: str
    created: list[HireChange] = field(default_factory=list)
    changed: list[HireChange] = field(default_factory=list)
    ended: list[HireChange] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refusal: str | None = None

    @property
    def changes(self) -> list[HireChange]:
        """Return every file that would be written."""
        return [*self.created, *self.changed, *self.ended]

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "source": self.source,
            "created": [_as_json(each) for each in self.created],
            "changed": [_as_json(each) for each in self.changed],
            "ended": [_as_json(each) for each in self.ended],
            "left_out": [_as_json(each) | {"reason": each.reason} for each in self.left_out],
        }


def _as_json(what: HireChange | LeftOut) -> dict[str, Any]:
    return {"hire": what.hire, "file": what.file, "fields": jsonable(what.fields)}


class Importer(Frozen, kw_only=True):
    """Compares one reading of a source with the existing hires. New files begin with the lines of `head`."""

    name: str
    imported: Import
    hires: Unshown[Hires]
    today: date
    head: str

    def plan(self, people: People, *, whole: bool, percent: float) -> ImportPlan:
        """Return what would change; `percent` of the hires may change or end at once."""
        plan = ImportPlan(self.name, left_out=list(people.left_out))
        new: list[Person] = []
        known: list[tuple[Person, str]] = []
        for person in people.taken:
            stem = self.hires.index.owner(person.email)
            if stem is None:
                new.append(person)
            elif stem in self.hires:
                known.append((person, stem))
            else:
                plan.left_out.append(person.left_out(f"the file of {stem} has an error: mend it first", stem))
        stems = dict(self._named(new, plan)) if self.imported.action == "create" else {}
        addresses = {person.email.lower(): stem for person, stem in known}
        addresses |= {person.email.lower(): stem for stem, person in stems.items()}
        for stem, person in stems.items():
            self._create(stem, person, addresses, plan)
        for person, stem in known:
            self._change(self.hires[stem], person, addresses, plan)
        if whole:
            self._end(people, plan)
        else:
            plan.notes.append(
                f"the reading stopped after {self.imported.amount_pages_to_fetch} pages and more follow, so nobody is "
                "ended: raise amount_pages_to_fetch, or 0 for all"
            )
        plan.left_out.sort(key=lambda each: each.item)
        plan.refusal = self._guard(plan, percent)
        return plan

    def _named(self, new: list[Person], plan: ImportPlan) -> Iterator[tuple[str, Person]]:
        """Yield each new person with a stem, if a free one is found."""
        taken = {stem.casefold(): stem for stem in self.hires.index}
        for person in new:
            stem = person.stem
            if not stem:
                why = "no letter of it can stand in a file's name: give the import an `id`"
                plan.left_out.append(person.left_out(why))
            elif stem.casefold() in taken:
                other = taken[stem.casefold()]
                file = self.hires.file(other)
                path = None if file is None else file.path
                why = (
                    f"{path or other} is another person's: give the import an `id` that tells them apart, or, if that "
                    "is the same person with another address, change `email` in the file"
                )
                plan.left_out.append(person.left_out(why, other, path))
            else:
                taken[stem.casefold()] = stem
                yield stem, person

    def _create(self, stem: str, person: Person, addresses: Mapping[str, str], plan: ImportPlan) -> None:
        file = f"hires/{stem}.yaml"
        fields = self._filled(person, addresses)
        fields = {"first_name": "", "last_name": "", **fields, "source": self.name}
        try:
            content = hire_text(fields, self.head).encode()
            _refuse_invalid(content, file)
        except NotWritable as error:
            plan.left_out.append(person.left_out(str(error)))
            return
        shown = {key: (None, value) for key, value in fields.items() if value != ""}
        plan.created.append(HireChange(stem, file, shown, content))

    def _change(self, loaded: Loaded[Hire], person: Person, addresses: Mapping[str, str], plan: ImportPlan) -> None:
        wanted = self._filled(person, addresses)
        wanted.pop("email")  # it is what they were found by; its case is theirs to choose
        there = _flat(loaded.document.data)
        fields = {
            key: (there.get(key), value) for key, value in wanted.items() if not self._same(key, there.get(key), value)
        }
        for key, beside in _REFERENCES.items():
            if beside in fields and isinstance(there.get(key), dict) and key not in fields:
                del fields[beside]  # the reference gives the address already
        end = loaded.model.end
        if loaded.model.source == self.name and end is not None and end < self.today and "end" not in wanted:
            plan.notes.append(
                f"{loaded.path}: end {end} is past, and {self.name} has the person: if they are back, take `end` out"
            )
        if fields:
            self._edit(loaded, fields, plan.changed, plan, person)

    def _edit(
        self,
        loaded: Loaded[Hire],
        fields: Mapping[str, tuple[Any, Any]],
        into: list[HireChange],
        plan: ImportPlan,
        person: Person | None = None,
    ) -> None:
        """Edit the file's fields, leaving every other byte; a person whose file cannot be edited is left out."""
        before = content = read_hire(self.hires.tree, self.hires.index.file(loaded.stem))
        try:
            for key, (_, value) in fields.items():
                content = with_field(content, loaded.path, key, value)
            _refuse_invalid(content, loaded.path)
            into.append(HireChange(loaded.stem, loaded.path, fields, content, before))
        except NotWritable as error:
            person = person or Person(0, "", {key: value for key, (_, value) in fields.items()})
            plan.left_out.append(person.left_out(str(error), loaded.stem, loaded.path))

    def _same(self, key: str, there: Any, wanted: Any) -> bool:
        """Whether a file's value is the source's already; a reference equals the other hire's name or address."""
        if isinstance(there, dict) and key in _REFERENCES and isinstance(wanted, str):
            other = self.hires.get(str(there.get("hire")))
            return other is not None and wanted in (other.model.full_name, other.model.email)
        return bool(as_text(there) == as_text(wanted))

    def _filled(self, person: Person, addresses: Mapping[str, str]) -> dict[str, Any]:
        """Return the person's fields, with known hires' addresses as manager or buddy as references."""
        fields = dict(person.fields)
        for key, beside in _REFERENCES.items():
            value = fields.get(key)
            if not isinstance(value, str):
                continue
            other = addresses.get(value.lower()) or self._known(value)
            if other is not None:
                fields[key] = {"hire": other}
                if str(fields.get(beside, value)).lower() == value.lower():
                    fields.pop(beside, None)
            elif key in person.by_address:
                del fields[key]
                fields.setdefault(beside, value)
        return fields

    def _known(self, address: str) -> str | None:
        stem = self.hires.index.owner(address) if "@" in address else None
        return stem if stem is not None and stem in self.hires else None

    def _end(self, people: People, plan: ImportPlan) -> None:
        """End the files of this import whose people are gone from the source."""
        left_out = {each.hire for each in plan.left_out if each.hire is not None}
        for stem, loaded in self.hires.items():
            hire = loaded.model
            if hire.source != self.name or hire.email.lower() in people.addresses:
                continue
            if hire.end is not None and hire.end <= self.today:
                continue
            if stem in left_out or any(_may_be(hire, each) for each in people.left_out):
                plan.notes.append(f"{loaded.path} is not ended: its person may be one of those who are left out")
                continue
            last = self.today
            fields: dict[str, tuple[Any, Any]] = {}
            if hire.start is not None and hire.start > self.today:  # they never began: no day may be left
                last = self.today - timedelta(days=1)
                fields["start"] = (hire.start, last)
            fields["end"] = (hire.end, last)
            self._edit(loaded, fields, plan.ended, plan)

    def _guard(self, plan: ImportPlan, percent: float) -> str | None:
        """Return why so much must not change at once; new hires do not count."""
        touched, total = len(plan.changed) + len(plan.ended), len(self.hires.index)
        if touched * 100 <= percent * total:
            return None
        share = f"{touched * 100 / total:.2f} % is over {percent:g} % ({touched}/{total})"
        what = f"{len(plan.changed)} would change and {len(plan.ended)} end"
        return f"{share} of the hires: {what}; look why, then let it through once with --yes-really"


def _may_be(hire: Hire, left_out: LeftOut) -> bool:
    """Whether a hire may be a person who was left out: one without an address whom no name tells apart."""
    of_hire = hire.first_name.lower(), hire.last_name.lower()
    of_other = tuple(str(left_out.fields.get(key, "")).lower() for key in ("first_name", "last_name"))
    if EMAIL.fullmatch(str(left_out.fields.get("email", ""))) is not None:
        return of_hire == of_other != ("", "")
    return all(one == other or not (one and other) for one, other in zip(of_hire, of_other, strict=True))


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    extra = data.get("extra") or {}
    return {**data, **{f"{EXTRA}{key}": value for key, value in extra.items()}}


def _refuse_invalid(content: bytes, file: str) -> None:
    """Raise NotWritable for a file that would be invalid."""
    try:
        hire = model_of(read(content, file), Hire)
    except BrokenFile as error:
        raise NotWritable("; ".join(problem.message for problem in error.problems)) from None
    if hire.start is not None and hire.end is not None and hire.end < hire.start:
        raise NotWritable(f"end {hire.end} is before start {hire.start}: the last day cannot come first")
