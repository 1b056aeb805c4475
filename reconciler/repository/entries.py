"""Which access entries a hire has: its own, those of its sequences, and those that were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from reconciler.model.condition import Sequence
from reconciler.model.config_files import AccessRequest
from reconciler.model.errors import Problem
from reconciler.model.grant import Grant
from reconciler.model.hire import Entry, Hire
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.files import Files
from reconciler.repository.needs import needed_first

BEFORE_SUGGESTION = ": "
"""What stands before a suggestion in a grant's reason, where no sentence follows."""


class SourcedEntry(Frozen, kw_only=True):
    """An access entry of a hire: where it is, its sequence, and sequences that disagree about it.

    `through` are the other sequences that give it, or include one that does.
    """

    entry: Entry
    source: str
    origin: str | None = None
    through: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    request: Loaded[AccessRequest] | None = None


class Entries:
    """The entries that a revision's files give."""

    def __init__(self, files: Files) -> None:
        self._named: dict[str | None, tuple[Hire | Sequence, Mapping[str, Entry]]] = {}
        """The entries by name of each sequence, and of the hire that was asked for last: one may have thousands."""
        self._files = files

    def of(self, loaded: Loaded[Hire]) -> dict[str, SourcedEntry]:
        """Return a hire's entries by name; its own before those of its sequences, and these before requests."""
        found = {
            entry.access: SourcedEntry(entry=entry, source=f"{loaded.path}:{line}")
            for entry, line in zip(loaded.model.access, loaded.lines, strict=True)
        }
        for name, item in self._of_sequences(loaded.model).items():
            found.setdefault(name, item)
        for each in self.requests(loaded.stem):
            entry, source = each.model.access.model_copy(update={"name": each.stem}), f"{each.path}:{each.lines[0]}"
            found.setdefault(entry.access, SourcedEntry(entry=entry, source=source, request=each))
        return found

    def giving(self, grant: Grant) -> Entry:
        """Return the entry that a grant comes from: of the hire's file, of a sequence, or of a request."""
        if grant.requested is not None:
            return self._files.requests[grant.key.access].model.access
        giver = self._files.hires[grant.key.hire] if grant.origin is None else self._files.sequences[grant.origin]
        known = self._named.get(grant.origin)
        if known is None or known[0] is not giver.model:
            known = giver.model, {entry.access: entry for entry in reversed(giver.model.access)}
            self._named[grant.origin] = known
        return known[1][grant.key.access]

    def requests(self, hire: str) -> tuple[Loaded[AccessRequest], ...]:
        """Return the requests for a hire."""
        return self._requests.get(hire, ())

    @cached_property
    def _requests(self) -> Mapping[str, tuple[Loaded[AccessRequest], ...]]:
        found: dict[str, tuple[Loaded[AccessRequest], ...]] = {}
        for name in sorted(self._files.requests):
            loaded = self._files.requests[name]
            found[loaded.model.hire] = (*found.get(loaded.model.hire, ()), loaded)
        return found

    def nameless(self, hire: str) -> Iterator[Loaded[AccessRequest]]:
        """Return the requests that give nothing, because the hire has an entry of their name."""
        requests = self.requests(hire)
        loaded = self._files.hires.get(hire) if requests else None
        entries = {} if loaded is None else self.of(loaded)
        return (each for each in requests if entries and entries[each.stem].request is not each)

    def ends(self, hire: str) -> bool:
        """Whether a hire or one of its entries ends, so that its grants may differ on another day."""
        model = self._files.hires[hire].model
        given = (item.entry for item in self._of_sequences(model).values())
        return model.end is not None or any(entry.until for entry in (*model.access, *given)) or hire in self._requests

    # --- sequences ---------------------------------------------------------------------------------------------------

    def sequences_of(self, hire: str) -> list[str]:
        """Return the sequences that a hire has, named, assigned or included; none if its file cannot be read."""
        loaded = self._files.hires.get(hire)
        return (
            [] if loaded is None else [name for name in self.mentioned(loaded.model) if name in self._files.sequences]
        )

    def mentioned(self, hire: Hire) -> list[str]:
        """Return the sequences that a hire names, is assigned or gets with these, whether they can be read or not."""
        found = dict.fromkeys([*hire.sequences, *self._roots(hire)])
        queue = [*found]
        while queue:
            sequence = self._files.sequences.get(queue.pop())
            new = [name for name in (sequence.model.include if sequence is not None else ()) if name not in found]
            found |= dict.fromkeys(new)
            queue += new
        return [*found]

    @cached_property
    def included(self) -> frozenset[str]:
        """The sequences that others include."""
        return frozenset(name for loaded in self._files.sequences.values() for name in loaded.model.include)

    def includer(self, hire: str, sequence: str) -> str | None:
        """Return the sequence by whose `include` a hire has another; None if it names it or is assigned it."""
        file = self._files.hires.file(hire)
        if sequence not in self.included or file is None or sequence in file.sequences:
            return None
        if self._assigns(sequence, self._files.hires[hire].model):
            return None
        has = self.sequences_of(hire)
        return next((name for name in has if sequence in self._files.sequences[name].model.include), None)

    @cached_property
    def assigned(self) -> frozenset[str]:
        """The sequences that are assigned by hires' fields instead of by name."""
        return frozenset(name for name, loaded in self._files.sequences.items() if loaded.model.assign is not None)

    def assigned_to(self, hire: Hire) -> list[str]:
        """Return the sequences whose `assign` matches a hire, whether it names them or not."""
        return [name for name in sorted(self.assigned) if self._assigns(name, hire)]

    def _assigns(self, name: str, hire: Hire) -> bool:
        condition = self._files.sequences[name].model.assign
        return condition is not None and condition.holds(hire)

    def _roots(self, hire: Hire) -> list[str]:
        """Return the sequences that a hire names, and those assigned to it."""
        named = (name for name in hire.sequences if name in self._files.sequences)
        return list(dict.fromkeys([*named, *self.assigned_to(hire)]))

    def missing(self, hire: str) -> Iterator[Problem]:
        """Return the sequences that a hire names or gets by `include`, and that do not exist."""
        file = self._files.hires.file(hire)
        if file is None or not (file.sequences or self.included):
            return
        loaded = self._files.hires[hire]
        yield from self._missing(loaded, "sequences", file.sequences)
        for sequence in self.sequences_of(hire) if self.included else ():
            yield from self.missing_includes(self._files.sequences[sequence])

    def missing_includes(self, loaded: Loaded[Sequence]) -> Iterator[Problem]:
        """Return the sequences that a sequence includes and that do not exist."""
        return self._missing(loaded, "include", loaded.model.include)

    def _missing(self, loaded: Loaded[Hire] | Loaded[Sequence], key: str, names: Iterable[str]) -> Iterator[Problem]:
        sequences = self._files.sequences
        for place, name in enumerate(names):
            if name not in sequences and name not in self._files.broken["sequences"]:
                message = f"{key}: there is no config/sequences/{name}.yaml{hint(name, sequences, BEFORE_SUGGESTION)}"
                yield Problem(loaded.path, loaded.document.line((key, place)), message)

    @cached_property
    def gives(self) -> Mapping[str, Mapping[str, SourcedEntry]]:
        """The entries that each sequence gives, by name: its own before those that it includes."""
        sequences = self._files.sequences
        found: dict[str, Mapping[str, SourcedEntry]] = {}
        for name in needed_first({name: loaded.model.include for name, loaded in sequences.items()}):
            loaded = sequences[name]
            own = {
                entry.access: SourcedEntry(entry=entry, source=f"{loaded.path}:{line}", origin=name)
                for entry, line in zip(loaded.model.access, loaded.lines, strict=True)
            }
            included = _together(found[each] for each in loaded.model.include if each in found)
            by_this = {
                access: replace(item, through=(*item.through, name))
                for access, item in included.items()
                if access not in own
            }
            found[name] = {**by_this, **own}
        return found

    def _of_sequences(self, hire: Hire) -> dict[str, SourcedEntry]:
        """Return the entries that a hire gets from its sequences."""
        given = _together(self.gives[name] for name in self._roots(hire))
        return {name: item for name, item in given.items() if name not in hire.without}

    def unused_without(self, hire: Hire) -> Iterator[int]:
        """Return the places of a hire's `without` that name an entry which no sequence gives it."""
        given = _together(self.gives[name] for name in self._roots(hire)) if hire.without else {}
        return (place for place, name in enumerate(hire.without) if name not in given)


def _together(several: Iterable[Mapping[str, SourcedEntry]]) -> dict[str, SourcedEntry]:
    """Return the entries that several sequences give; those of one name that differ are each other's rivals."""
    entries: dict[str, SourcedEntry] = {}
    for given in several:
        for access, item in given.items():
            known = entries.setdefault(access, item)
            if known is not item:
                others = {*known.through, item.origin or "", *item.through} - {known.origin}
                known = entries[access] = replace(known, through=tuple(sorted(others)))
            if known.entry != item.entry or item.rivals:
                rivals = (*known.rivals, known.origin or "", item.origin or "", *item.rivals)
                entries[access] = replace(known, rivals=tuple(dict.fromkeys(rivals)))
    return entries
