"""Join one hire with its sequences and the manifests into grants.

An entry that does not fit holds its own grant, with the reason; a broken manifest holds the grants that use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from reconciler.model.base import as_text, spelled
from reconciler.model.clock import LAST, first_moment
from reconciler.model.errors import shortened
from reconciler.model.grant import Grant, Hold, Key
from reconciler.model.hire import Entry, Hire, HireRef
from reconciler.model.near import near
from reconciler.model.requestable import AccessRequest
from reconciler.model.requested import Requested
from reconciler.model.scope import Layer
from reconciler.model.status import Status
from reconciler.model.template import FILL_IN
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.loaded import Loaded
from reconciler.repository.files import Files
from reconciler.repository.form_values import BEFORE_SUGGESTION, fill_form
from reconciler.repository.needs import circular_among, needed_first
from reconciler.repository.requestable import Offers

__all__ = ["Join"]

A_DAY = timedelta(days=1)


class _SourcedEntry(Frozen, kw_only=True):
    """An access entry of a hire: where it is, its sequence, and sequences that disagree about it."""

    entry: Entry
    source: str
    origin: str | None
    rivals: tuple[str, ...] = ()
    request: Loaded[AccessRequest] | None = None


class Join:
    """Joins hires with the files of a revision. `now` decides which entries have reached their `until`."""

    def __init__(self, files: Files, now: datetime) -> None:
        self._files = files
        self._now = now

    def grants(self, loaded: Loaded[Hire]) -> tuple[Grant, ...]:
        """Return the grants of a hire's own entries and its sequences', needed ones first."""
        entries = self._entries(loaded)
        layers, absent = self.hire_layers(loaded), self._absent(loaded.model)
        circular = circular_among({name: item.entry.needs for name, item in entries.items()})
        held = {name: item for name, item in entries.items() if self._over(loaded.model, item.entry) is None}
        return _ordered(
            [
                replace(
                    self._grant(loaded, item, layers, absent, self._misfit(loaded.model, item, entries, circular)),
                    requested=self._requested(loaded.model, item, held.values()),
                )
                for item in held.values()
            ]
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

    def sequences(self, hire: Hire) -> list[str]:
        """Return the sequences that a hire has: those that it names, that are assigned to it, or that these include."""
        return [name for name in self.mentioned(hire) if name in self._files.sequences]

    def assigns(self, name: str, hire: Hire) -> bool:
        """Whether a sequence's `assign` holds for a hire."""
        condition = self._files.sequences[name].model.assign
        return condition is not None and condition.holds(hire)

    @cached_property
    def gives(self) -> Mapping[str, Mapping[str, _SourcedEntry]]:
        """The entries that each sequence gives, by name: its own before those that it includes."""
        sequences = self._files.sequences
        found: dict[str, Mapping[str, _SourcedEntry]] = {}
        for name in needed_first({name: loaded.model.include for name, loaded in sequences.items()}):
            loaded = sequences[name]
            own = {
                entry.access: _SourcedEntry(entry=entry, source=f"{loaded.path}:{line}", origin=name)
                for entry, line in zip(loaded.model.access, loaded.lines, strict=True)
            }
            included = _together(found[each] for each in loaded.model.include if each in found)
            found[name] = {**included, **own}
        return found

    def fitted(self, entry: Entry) -> tuple[Hold | None, dict[str, Any], tuple[tuple[str, Any], ...]]:
        """Return why an entry is held, if it is, its form's values, and the choices to look up.

        Raises ValueError where the integration is not there, or a value does not fit the form.
        """
        hold, manifest = self._no_manifest(entry.integration), self._files.manifests.get(entry.integration)
        return (hold, {}, ()) if manifest is None else (hold, *fill_form(manifest.model, entry))

    def ends(self, stem: str, hire: Hire) -> bool:
        """Whether the hire, an entry of it or of its sequences counts as removed from some day on."""
        given = (item.entry for item in self._of_sequences(hire).values())
        return hire.end is not None or any(entry.until for entry in (*hire.access, *given)) or stem in self._requests

    def has(self, loaded: Loaded[Hire], access: str) -> bool:
        """Whether a hire has an entry of this name, over or not."""
        return access in self._entries(loaded)

    def unused_without(self, hire: Hire) -> Iterator[int]:
        """Return the places of a hire's `without` that name an entry which no sequence gives it."""
        given = _together(self.gives[name] for name in self._roots(hire)) if hire.without else {}
        return (place for place, name in enumerate(hire.without) if name not in given)

    def _roots(self, hire: Hire) -> list[str]:
        """Return the sequences that a hire names, and those assigned to it."""
        named = [name for name in hire.sequences if name in self._files.sequences]
        given = [name for name in sorted(self._files.sequences) if name not in named and self.assigns(name, hire)]
        return list(dict.fromkeys(named + given))

    def _of_sequences(self, hire: Hire) -> dict[str, _SourcedEntry]:
        """Return the entries that a hire gets from its sequences."""
        given = _together(self.gives[name] for name in self._roots(hire))
        return {name: item for name, item in given.items() if name not in hire.without}

    def requests(self, stem: str) -> tuple[Loaded[AccessRequest], ...]:
        """Return the requests for a hire."""
        return self._requests.get(stem, ())

    @cached_property
    def _requests(self) -> Mapping[str, tuple[Loaded[AccessRequest], ...]]:
        found: dict[str, tuple[Loaded[AccessRequest], ...]] = {}
        for name in sorted(self._files.requests):
            loaded = self._files.requests[name]
            found[loaded.model.hire] = (*found.get(loaded.model.hire, ()), loaded)
        return found

    def nameless(self, loaded: Loaded[Hire]) -> Iterator[Loaded[AccessRequest]]:
        """Return the requests that give nothing, because the hire has an entry of their name."""
        entries = self._entries(loaded)
        return (each for each in self.requests(loaded.stem) if entries[each.stem].request is not each)

    def _asked(self, stem: str) -> Iterator[_SourcedEntry]:
        for each in self.requests(stem):
            entry, source = each.model.access.model_copy(update={"name": each.stem}), f"{each.path}:{each.lines[0]}"
            yield _SourcedEntry(entry=entry, source=source, origin=None, request=each)

    def _requested(self, hire: Hire, item: _SourcedEntry, others: Iterable[_SourcedEntry]) -> Requested | None:
        """Return what a request says of itself, and why it is refused, if it is; None for other entries."""
        if item.request is None:
            return None
        asked = item.request.model
        return Requested(
            asked.reason, asked.requested_by, asked.requested_at, self._refusal(hire, item, others, self._files.offers)
        )

    def refusal(self, loaded: Loaded[Hire], access: str, offers: Offers) -> str | None:
        """Return why a request would be refused by what another revision offers, or None."""
        item = self._entries(loaded).get(access)
        return None if item is None or item.request is None else self._refusal(loaded.model, item, (), offers)

    def _refusal(self, hire: Hire, item: _SourcedEntry, others: Iterable[_SourcedEntry], offers: Offers) -> str | None:
        refusal = offers.refusal(hire, item.entry, self._lasts(hire, item.entry))
        if refusal is not None:
            return refusal
        for other in others:
            # Whether a request's `for` is over is in the ledger alone.
            before = other.request is None or (other.entry.for_ is None and other.entry.access < item.entry.access)
            if before and other is not item and _same_account(other.entry, item.entry):
                return f"the hire has that account already, by access {other.entry.access}"
        return None

    def _lasts(self, hire: Hire, entry: Entry) -> timedelta | None:
        """Return how long an entry lasts, from its `at`, else from now on; None for without an end, or not known."""
        try:
            begins, until = self._moments(hire, entry)
        except ValueError:
            return entry.for_
        spans = [entry.for_, None if until is None else until - (begins or self._now)]
        return min((span for span in spans if span is not None), default=None)

    def _entries(self, loaded: Loaded[Hire]) -> dict[str, _SourcedEntry]:
        """Return the entries by name; a hire's own before those of its sequences, and these before requests."""
        own = {
            entry.access: _SourcedEntry(entry=entry, source=f"{loaded.path}:{line}", origin=None)
            for entry, line in zip(loaded.model.access, loaded.lines, strict=True)
        }
        given = self._of_sequences(loaded.model)
        found = {**own, **{name: item for name, item in given.items() if name not in own}}
        for item in self._asked(loaded.stem):
            found.setdefault(item.entry.access, item)
        return found

    def over(
        self, loaded: Loaded[Hire], access: str, now: datetime | None = None, acted_at: datetime | None = None
    ) -> str | None:
        """Return why an entry that a hire has counts as removed; None if it does not, or the hire has none.

        `acted_at` is when it was first acted on.
        """
        item = self._entries(loaded).get(access)
        if item is None:
            return None
        lasts, now = item.entry.for_, now or self._now
        reason = self._over(loaded.model, item.entry, now)
        if reason is None and lasts is not None and acted_at is not None and acted_at + lasts <= now:
            return f"for {spelled(lasts)} is over"
        return reason

    def over_for_all(self, entry: Entry) -> bool:
        """Whether an entry's `until` is over, whoever has it."""
        if entry.until is None or entry.until.kind not in ("date", "time"):
            return False
        until = entry.until.moment(None, None, self._files.settings.timezone, key="until")
        return until is not None and until <= self._now

    def _over(self, hire: Hire, entry: Entry, now: datetime | None = None) -> str | None:
        """Return why an entry counts as removed, on its `until`, or the day after the hire's `end`; or None.

        An `until` that is not after `at` is an error, and never reached.
        """
        if entry.until is None and hire.end is None:
            return None
        try:
            begins, until = self._moments(hire, entry)
        except ValueError:
            begins, until = None, None
        now = now or self._now
        if entry.until is not None and until is not None and until <= now and (begins is None or begins < until):
            shown = entry.until.on(hire.start, hire.end) if entry.until.time is None else entry.until
            return f"until {shown} is reached"
        last = self._last(hire, entry, until)
        return f"end {hire.end} is over" if last is not None and last <= now else None

    def _moments(self, hire: Hire, entry: Entry) -> tuple[datetime | None, datetime | None]:
        """Return when an entry begins, and its `until`. Raises ValueError where one needs a day that is not given."""
        zone = self._files.settings.timezone
        begins = entry.at.moment(hire.start, None, zone, key="at")
        return begins, None if entry.until is None else entry.until.moment(hire.start, hire.end, zone, key="until")

    def _last(self, hire: Hire, entry: Entry, until: datetime | None) -> datetime | None:
        """Return when the hire's last day is over; None where an `until` that counts from it takes its place."""
        by_end = until is not None and entry.until is not None and entry.until.kind == "end"
        if hire.end is None or by_end:
            return None
        return LAST if hire.end == date.max else first_moment(hire.end + A_DAY, self._files.settings.timezone)

    def hire_layers(self, loaded: Loaded[Hire]) -> tuple[Layer, ...]:
        """Return the variables that a hire gives, whatever the entry."""
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
                other = self._files.hires.get(person.hire)
                values[role] = other.model.full_name if other else None
                values[f"{role}_email"] = values[f"{role}_email"] or (other.model.email if other else None)
        layers = [Layer(loaded.path, values)]
        if hire.extra:
            given = {name: value for name, value in hire.extra.items() if value != FILL_IN}
            layers.append(Layer(f"{loaded.path} (extra)", given))
        return tuple(layers)

    def _absent(self, hire: Hire) -> dict[str, str]:
        """Return why a manager or buddy named by file gives no values (docs/design/states.md)."""
        found: dict[str, str] = {}
        for role, person in (("manager", hire.manager), ("buddy", hire.buddy)):
            if isinstance(person, HireRef) and person.hire not in self._files.hires:
                broken = self._files.broken["hires"].get(person.hire)
                why = f"it cannot be read: {broken[0]}" if broken else f"there is no hires/{person.hire}.yaml"
                found |= dict.fromkeys((role, f"{role}_email"), f"{role} is {{hire: {person.hire}}}, and {why}")
        return found

    def _grant(
        self,
        loaded: Loaded[Hire],
        item: _SourcedEntry,
        layers: tuple[Layer, ...],
        absent: Mapping[str, str],
        misfit: Hold | None,
    ) -> Grant:
        entry, hire = item.entry, loaded.model
        manifest = self._files.manifests.get(entry.integration)
        begins, until, hold = None, None, misfit
        values: dict[str, Any] = {}
        choices: tuple[tuple[str, Any], ...] = ()
        try:
            begins = entry.at.on(hire.start)
            if misfit is None:
                _, until = self._moments(hire, entry)
                hold, values, choices = self.fitted(entry)
        except ValueError as error:
            hold = misfit or Hold(Status.INVALID, shortened(str(error)))
        last = self._last(hire, entry, until)
        own = until if entry.until is not None and entry.until.kind != "end" else None
        return Grant(
            key=Key(loaded.stem, entry.access),
            email=hire.email,
            integration=entry.integration,
            service=(manifest.model.service if manifest else None) or entry.integration,
            source=item.source,
            manifest=manifest.model if manifest else None,
            layers=(Layer(item.source, values), *layers) if values else layers,
            absent=absent,
            begins=begins,
            ends=hire.end,
            until=until,
            over_at=min((moment for moment in (until, last) if moment is not None), default=None),
            ends_with_hire=hire.end is not None and (own is None or (last or LAST) < own),
            lasts=entry.for_,
            needs=tuple(entry.needs),
            origin=item.origin,
            keep=entry.keep,
            hold=hold,
            choices=choices,
        )

    def _misfit(
        self, hire: Hire, item: _SourcedEntry, entries: Collection[str], circular: Collection[str]
    ) -> Hold | None:
        """Return why an entry does not fit the hire's others or its dates, or None."""
        entry = item.entry
        try:
            begins, over = self._moments(hire, entry)
        except ValueError as error:
            return _unfit(str(error), personal=True)
        if entry.until is not None and over is not None and begins is not None and over <= begins:
            shown = entry.until.on(hire.start, hire.end) if entry.until.time is None else entry.until
            by_this_hire = entry.until.kind != entry.at.kind
            return _unfit(f"until {shown} is not after at ({entry.at.on(hire.start)})", personal=by_this_hire)
        if item.rivals:
            rivals = f"the sequences {', '.join(item.rivals)} give it different values: name it in the hire"
            return _unfit(rivals, personal=True)
        for need in entry.needs:
            if need == entry.access:
                return _unfit("it needs itself")
            if need not in entries:
                absent = f"needs {need}, which this hire does not have{near(need, entries, BEFORE_SUGGESTION)}"
                return _unfit(absent, personal=True)
        if entry.access in circular:
            return _unfit(f"needs go in a circle: {', '.join(entry.needs)}")
        return None

    def _no_manifest(self, integration: str) -> Hold | None:
        if integration in self._files.manifests:
            return None
        if problems := self._files.broken["manifests"].get(integration):
            return Hold(Status.BLOCKED, f"the manifest has an error: {problems[0].clause}")
        meant = near(integration, self._files.manifests, BEFORE_SUGGESTION)
        raise ValueError(f"there is no manifests/{integration}.yaml{meant}")


def _same_account(one: Entry, other: Entry) -> bool:
    """Whether two entries of a hire are for the same account, as far as they say."""
    return one.integration == other.integration and _as_texts(one) == _as_texts(other)


def _as_texts(entry: Entry) -> dict[str, Any]:
    return {name: as_text(value) for name, value in entry.values.items() if value is not None}


def _together(several: Iterable[Mapping[str, _SourcedEntry]]) -> dict[str, _SourcedEntry]:
    """Return the entries that several sequences give; those of one name that differ are each other's rivals."""
    entries: dict[str, _SourcedEntry] = {}
    for given in several:
        for access, item in given.items():
            known = entries.setdefault(access, item)
            if known.entry != item.entry or item.rivals:
                rivals = (*known.rivals, known.origin or "", item.origin or "", *item.rivals)
                entries[access] = replace(known, rivals=tuple(dict.fromkeys(rivals)))
    return entries


def _unfit(reason: str, *, personal: bool = False) -> Hold:
    return Hold(Status.INVALID, shortened(reason), personal)


def _ordered(grants: list[Grant]) -> tuple[Grant, ...]:
    """Order grants: each after those that it needs, else like the files; circles are invalid anyway."""
    if not any(grant.needs for grant in grants):
        return tuple(grants)
    by_name = {grant.key.access: grant for grant in grants}
    return tuple(by_name[name] for name in needed_first({name: grant.needs for name, grant in by_name.items()}))
