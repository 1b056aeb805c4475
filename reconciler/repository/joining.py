"""Join one hire with its entries and the manifests into grants.

An entry that does not fit holds its own grant, with the reason; a broken manifest holds the grants that use it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from reconciler.model.attribution import Requested
from reconciler.model.base import as_text, spelled
from reconciler.model.clock import LAST, first_moment
from reconciler.model.errors import shortened
from reconciler.model.form import FormField
from reconciler.model.grant import Grant, Hold, Key
from reconciler.model.hire import At, Entry, Hire, NamedChoice
from reconciler.model.manifest import Manifest
from reconciler.model.scope import HIRE_NAMES, Layer
from reconciler.model.status import Status
from reconciler.model.template import FILL_IN, names
from reconciler.model.text import folded, hint
from reconciler.repository.config_files import Offers
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.entries import BEFORE_SUGGESTION, Entries, SourcedEntry
from reconciler.repository.files import Files
from reconciler.repository.needs import circular_among, needed_first

MAX_NAMED_ITEMS = 30
"""How many of a choice's items a message names."""

A_DAY = timedelta(days=1)

QUESTION = {"url", "method", "data", "expected"}
"""What of a check says which account it asks for."""


class _Span(NamedTuple):
    """The day and the moment on which an entry of a hire begins, and its `until`; or why these cannot be told."""

    day: date | None
    begins: datetime | None = None
    until: datetime | None = None
    error: str | None = None


class _Person(NamedTuple):
    """A hire, with the variables that it gives to each of its entries, and why it gives others no value."""

    loaded: Loaded[Hire]
    layers: tuple[Layer, ...]
    absent: Mapping[str, str]


class Join:
    """Joins hires with the files of a revision. `now` decides which entries have reached their `until`."""

    def __init__(self, files: Files, entries: Entries, now: datetime) -> None:
        self._files = files
        self._entries = entries
        self._zone = files.settings.timezone
        self._now = now

    def grants(self, loaded: Loaded[Hire]) -> tuple[Grant, ...]:
        """Return the grants of a hire's own entries and its sequences', needed ones first."""
        hire, entries = loaded.model, self._entries.of(loaded)
        person = _Person(loaded, hire_layers(self._files, loaded), _absent(self._files, hire))
        circular = circular_among({name: item.entry.needs for name, item in entries.items()})
        spans = ((item, _span(hire, item.entry, self._zone)) for item in entries.values())
        wanted = [
            (item, span, _hold(hire, item, span, entries, circular))
            for item, span in spans
            if self._over(hire, item.entry, span, self._now) is None
        ]
        asked = {item.entry.integration for item, _, _ in wanted if item.request is not None}
        others = [
            (item, item.request is None or self._allows(hire, item.entry, held), self._told_by(hire, item.entry))
            for item, _, held in wanted
            if item.entry.integration in asked
        ]
        grants = [
            self._grant(person, item, span, held, self._requested(hire, item, others)) for item, span, held in wanted
        ]
        return _ordered(grants)

    def fitted(self, entry: Entry) -> tuple[Hold | None, dict[str, Any], tuple[tuple[str, Any], ...]]:
        """Return why an entry is held, if it is, its form's values, and the choices to look up.

        Raises ValueError where the integration is not there, or a value does not fit the form.
        """
        name, manifests = entry.integration, self._files.manifests
        if name in manifests:
            return None, *_filled(manifests[name].model, entry)
        if problems := self._files.broken["manifests"].get(name):
            return Hold(Status.BLOCKED, f"the manifest has an error: {problems[0].clause}"), {}, ()
        raise ValueError(f"there is no manifests/{name}.yaml{hint(name, manifests, BEFORE_SUGGESTION)}")

    def _grant(
        self, person: _Person, item: SourcedEntry, span: _Span, held: Hold | None, requested: Requested | None
    ) -> Grant:
        entry, hire = item.entry, person.loaded.model
        manifest = self._files.manifests.get(entry.integration)
        until, hold = None if held is not None else span.until, held
        values: dict[str, Any] = {}
        choices: tuple[tuple[str, Any], ...] = ()
        if held is None:
            try:
                hold, values, choices = self.fitted(entry)
            except ValueError as error:
                hold = _unfit(str(error))
        last = self._last(hire, entry, until)
        own = until if entry.until is not None and entry.until.kind != "end" else None
        return Grant(
            key=Key(person.loaded.stem, entry.access),
            email=hire.email,
            integration=entry.integration,
            service=(manifest.model.service if manifest else None) or entry.integration,
            source=item.source,
            manifest=manifest.model if manifest else None,
            layers=(Layer(item.source, values), *person.layers) if values else person.layers,
            absent=person.absent,
            begins=span.day,
            ends=hire.end,
            until=until,
            over_at=min((moment for moment in (until, last) if moment is not None), default=None),
            ends_with_hire=hire.end is not None and (own is None or (last or LAST) < own),
            lasts=entry.for_,
            needs=tuple(entry.needs),
            origin=item.origin,
            through=item.through,
            keep=entry.keep,
            hold=hold,
            requested=requested,
            choices=choices,
        )

    # --- ends --------------------------------------------------------------------------------------------------------

    def over(
        self, loaded: Loaded[Hire], access: str, now: datetime | None = None, acted_at: datetime | None = None
    ) -> str | None:
        """Return why an entry that a hire has counts as removed; None if it does not, or the hire has none.

        `acted_at` is when it was first acted on.
        """
        item = self._entries.of(loaded).get(access)
        if item is None:
            return None
        entry, now = item.entry, now or self._now
        reason = self._over(loaded.model, entry, _span(loaded.model, entry, self._zone), now)
        if reason is None and entry.for_ is not None and acted_at is not None and acted_at + entry.for_ <= now:
            return f"for {spelled(entry.for_)} is over"
        return reason

    def over_for_all(self, entry: Entry) -> bool:
        """Whether an entry's `until` is over, whoever has it."""
        if entry.until is None or entry.until.kind not in ("date", "time"):
            return False
        until = entry.until.moment(None, None, self._zone, key="until")
        return until is not None and until <= self._now

    def _over(self, hire: Hire, entry: Entry, span: _Span, now: datetime) -> str | None:
        """Return why an entry counts as removed, on its `until`, or the day after the hire's `end`; or None.

        An `until` that is not after `at` is an error, and never reached.
        """
        until = span.until
        if until is not None and until <= now and (span.begins is None or span.begins < until):
            assert entry.until is not None
            return f"until {_shown(hire, entry.until)} is reached"
        last = self._last(hire, entry, until)
        return f"end {hire.end} is over" if last is not None and last <= now else None

    def _last(self, hire: Hire, entry: Entry, until: datetime | None) -> datetime | None:
        """Return when the hire's last day is over; None where an `until` that counts from it takes its place."""
        by_end = until is not None and entry.until is not None and entry.until.kind == "end"
        if hire.end is None or by_end:
            return None
        return LAST if hire.end == date.max else first_moment(hire.end + A_DAY, self._zone)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _requested(
        self, hire: Hire, item: SourcedEntry, others: Iterable[tuple[SourcedEntry, bool, tuple[str, dict[str, Any]]]]
    ) -> Requested | None:
        """Return what a request says of itself, and why it is refused, if it is; None for other entries.

        `others` are the hire's entries, each with whether it is allowed and fits, and what tells its account.
        """
        if item.request is None:
            return None
        asked, entry, offers = item.request.model, item.entry, self._files.offers
        refusal = offers.refusal(hire, entry, self._lasts(hire, entry))
        mine = self._told_by(hire, entry)
        same = [(each, counts) for each, counts, told in others if each is not item and told == mine]
        return Requested(
            asked.reason,
            asked.requested_by,
            asked.requested_at,
            not_offered=refusal,
            fits_from=None if refusal is None else self._fits_from(hire, entry),
            taken_by=tuple(each.entry.access for each, counts in same if counts and _before(each, item)),
            beside=tuple(each.entry.access for each, _ in same if each.request is not None),
            begins=_span(hire, entry, self._zone).begins,
        )

    def refusal(self, loaded: Loaded[Hire], access: str, offers: Offers) -> str | None:
        """Return why a request would be refused by what another revision offers, or None."""
        item, hire = self._entries.of(loaded).get(access), loaded.model
        if item is None or item.request is None:
            return None
        return offers.refusal(hire, item.entry, self._lasts(hire, item.entry))

    def _allows(self, hire: Hire, entry: Entry, held: Hold | None) -> bool:
        """Whether a request is allowed and fits: else it holds nothing but itself."""
        if held is not None or self._files.offers.refusal(hire, entry, self._lasts(hire, entry)) is not None:
            return False
        try:
            self.fitted(entry)
        except ValueError:
            return False
        return True

    def _told_by(self, hire: Hire, entry: Entry) -> tuple[str, dict[str, Any]]:
        """Return the integration, and the form's values that tell an entry's account, as services compare them.

        Two entries of a hire of which they are the same are for one account: its check asks the same for both.
        """
        loaded = self._files.manifests.get(entry.integration)
        asked = None if loaded is None else _asked(loaded.model)
        try:
            _, fitting, _ = self.fitted(entry)
        except ValueError:
            fitting = {}
        form = () if loaded is None else (field.id for field in loaded.model.form)
        values = {name: hire.extra[name] for name in form if name in hire.extra}
        values |= {name: value for name, value in {**entry.values, **fitting}.items() if value is not None}
        compared = {name: _compared(value) for name, value in values.items() if asked is None or name in asked}
        return entry.integration, compared

    def _fits_from(self, hire: Hire, entry: Entry) -> datetime | None:
        """Return when what is left until a request's end will be short enough; None where that is not what is wrong."""
        span, longest = _span(hire, entry, self._zone), self._files.offers.longest(hire, entry)
        return None if span.until is None or span.begins is not None or longest is None else span.until - longest

    def _lasts(self, hire: Hire, entry: Entry) -> timedelta | None:
        """Return how long an entry lasts, from its `at`, else from now on; None for without an end, or not known."""
        span = _span(hire, entry, self._zone)
        spans = [entry.for_, None if span.until is None else span.until - (span.begins or self._now)]
        return min((each for each in spans if each is not None), default=None)


def _before(one: SourcedEntry, other: SourcedEntry) -> bool:
    """Whether an entry comes before a request, for all that the files say: the ledger knows whether a `for` is over."""
    return one.request is None or (one.entry.for_ is None and one.entry.access < other.entry.access)


def hire_layers(files: Files, loaded: Loaded[Hire]) -> tuple[Layer, ...]:
    """Return the variables that a hire gives, whatever the entry."""
    hire = loaded.model
    values: dict[str, Any] = {name: getattr(hire, name) for name in (*HIRE_NAMES, "phone")}
    for role, named in hire.references.items():
        other = files.hires.get(named)
        values[role] = other.model.full_name if other else None
        values[f"{role}_email"] = values[f"{role}_email"] or (other.model.email if other else None)
    layers = [Layer(loaded.path, values)]
    if hire.extra:
        given = {name: value for name, value in hire.extra.items() if value != FILL_IN}
        layers.append(Layer(f"{loaded.path} (extra)", given))
    return tuple(layers)


def _absent(files: Files, hire: Hire) -> dict[str, str]:
    """Return why a manager or buddy named by file gives no values (docs/design/states.md)."""
    found: dict[str, str] = {}
    for role, named in hire.references.items():
        if named not in files.hires:
            broken = files.broken["hires"].get(named)
            why = f"it cannot be read: {broken[0]}" if broken else f"there is no hires/{named}.yaml"
            found |= dict.fromkeys((role, f"{role}_email"), f"{role} is {{hire: {named}}}, and {why}")
    return found


def _span(hire: Hire, entry: Entry, timezone: str) -> _Span:
    day = None
    try:
        day = entry.at.on(hire.start)
        begins = first_moment(day, timezone)
        until = None if entry.until is None else entry.until.moment(hire.start, hire.end, timezone, key="until")
    except ValueError as error:
        return _Span(day, error=str(error))
    return _Span(day, begins, until)


def _shown(hire: Hire, until: At) -> str:
    return str(until if until.time is not None else until.on(hire.start, hire.end))


def _hold(
    hire: Hire, item: SourcedEntry, span: _Span, entries: Collection[str], circular: Collection[str]
) -> Hold | None:
    """Return why an entry does not fit the hire's others or its dates, or None."""
    entry, until = item.entry, item.entry.until
    if span.error is not None:
        return _unfit(span.error, personal=True)
    if until is not None and span.until is not None and span.begins is not None and span.until <= span.begins:
        reason = f"until {_shown(hire, until)} is not after at ({span.day})"
        return _unfit(reason, personal=until.kind != entry.at.kind)
    if item.rivals:
        rivals = f"the sequences {', '.join(item.rivals)} give it different values: name it in the hire"
        return _unfit(rivals, personal=True)
    for need in entry.needs:
        if need == entry.access:
            return _unfit("it needs itself")
        if need not in entries:
            absent = f"needs {need}, which this hire does not have{hint(need, entries, BEFORE_SUGGESTION)}"
            return _unfit(absent, personal=True)
    if entry.access in circular:
        return _unfit(f"needs go in a circle: {', '.join(entry.needs)}")
    return None


def _unfit(reason: str, *, personal: bool = False) -> Hold:
    return Hold(Status.INVALID, shortened(reason), personal)


def _asked(manifest: Manifest) -> frozenset[str] | None:
    """Return the names by which a check tells accounts apart; None without one."""
    exists = manifest.exists
    if exists is None:
        return None
    return names([exists.model_dump(include=QUESTION), exists.headers or manifest.headers])


def _compared(value: Any) -> Any:
    """Return what all spellings of a value share, in whichever order its choices are."""
    if isinstance(value, list):
        return sorted(map(str, map(_compared, value)))
    return folded(value.name if isinstance(value, NamedChoice) else str(as_text(value)))


def _ordered(grants: list[Grant]) -> tuple[Grant, ...]:
    """Order grants: each after those that it needs, else like the files; circles are invalid anyway."""
    if not any(grant.needs for grant in grants):
        return tuple(grants)
    by_name = {grant.key.access: grant for grant in grants}
    return tuple(by_name[name] for name in needed_first({name: grant.needs for name, grant in by_name.items()}))


# --- forms ------------------------------------------------------------------------------------------------------------


def _filled(manifest: Manifest, entry: Entry) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
    """Return the form's values, and those that only the service can confirm.

    Raises ValueError where a value does not fit its field.
    """
    if not entry.values:
        return {}, ()
    form = {field.id: field for field in manifest.form}
    values: dict[str, Any] = {}
    choices = []
    for name, value in entry.values.items():
        field = form.get(name)
        if field is None:
            raise ValueError(
                f"values.{name}: the manifest's form has no such field{hint(name, form, BEFORE_SUGGESTION)}"
            )
        if value is None or value == FILL_IN:
            continue
        values[name] = _fit(field, value)
        if field.fetched:
            choices.append((name, values[name]))
    return values, tuple(choices)


def _fit(field: FormField, value: Any) -> Any:
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
            return [_choose(field, item, where) for item in many]
        case "choice":
            if isinstance(value, list):
                raise ValueError(f"{where}: one choice is wanted, not a list")
            return _choose(field, value, where)


def _choose(field: FormField, value: Any, where: str) -> Any:
    if field.fetched:
        return value
    items = field.items or []
    if isinstance(value, NamedChoice):
        matching = [item.id for item in items if item.name == value.name]
        if len(matching) == 1:
            return matching[0]
        allowed = _first(item.name for item in items)
        many = "names several" if matching else "is not"
        meant = hint(value.name, [item.name for item in items], BEFORE_SUGGESTION)
        raise ValueError(f"{where}: {value.name!r} {many} among the items: {allowed}{meant}")
    for item in items:
        if as_text(item.id) == as_text(value):
            return item.id  # with the type that it has in the manifest
    allowed = _first(f"{as_text(item.id)} ({item.name})" for item in items)
    raise ValueError(f"{where}: {as_text(value)!r} is not among the items: {allowed}")


def _first(names: Iterable[str]) -> str:
    """List the first names, if there are many."""
    first = list(islice(names, MAX_NAMED_ITEMS + 1))
    return ", ".join(first[:MAX_NAMED_ITEMS]) + (" and others" if len(first) > MAX_NAMED_ITEMS else "")
