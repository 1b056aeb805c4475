"""Report what only joined files show: entries that do not fit, and names, conditions and dates that mean nobody.

A name that is misspelt restricts nothing, and nobody sees it: who reviews a change is told.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from reconciler.model.base import as_text
from reconciler.model.condition import Condition, plain, value_of
from reconciler.model.errors import Problem, Severity, shortened
from reconciler.model.form import FormField
from reconciler.model.grant import Grant, Key
from reconciler.model.status import Status
from reconciler.model.text import hint, some
from reconciler.repository.config_files import POLICY, REQUESTABLE, Offers
from reconciler.repository.desired import Desired, over_by_itself
from reconciler.repository.files import Files
from reconciler.repository.people import skeleton


def first_error(desired: Desired, hire: str) -> str | None:
    """Return an error in a hire's files, or None; meanwhile nothing of the hire is revoked automatically.

    A policy that cannot be read is one, too: it may say what the hire must have.
    """
    if hire in desired.hires:
        if (broken := desired.files.policy.broken) is not None:
            return str(broken)
        for name in desired.entries.mentioned(desired.hires[hire].model):
            if problems := desired.files.broken["sequences"].get(name):
                return str(problems[0])
    own = [grant for grant in desired.grants(hire) if grant.requested is None]
    errors = (each for each in _problems_of_hire(desired, hire, own) if each.severity is Severity.ERROR)
    return next(map(str, errors), None)


def problems_of(
    desired: Desired, hire: str, grants: Iterable[Grant], running: Container[Key] = ()
) -> Iterator[Problem]:
    """Return the problems of one hire's entries and requests; `grants` are its own.

    A request that is `running` as it was allowed, and would not be allowed any more, is a warning.
    """
    grants = list(grants)
    yield from _problems_of_hire(desired, hire, grants)
    for grant in grants:
        if grant.requested is not None and grant.requested.refusal is not None:
            runs = grant.key in running
            text = f"{grant.requested.refusal}{'; what was given by it runs to its end' if runs else ''}"
            yield _of_entry(grant, text, Severity.WARNING if runs else Severity.ERROR)
    for loaded in desired.entries.nameless(hire):
        text = f"access {loaded.stem}: the hire has an entry of this name: rename the file"
        yield Problem(loaded.path, None, text)


def refused_by(desired: Desired, offers: Offers, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
    """Return the requests of a hire that another revision's requestable.yaml does not allow."""
    for grant in grants:
        if grant.requested is not None and grant.requested.refusal is None:
            refusal = desired.join.refusal(desired.hires[hire], grant.key.access, offers)
            if refusal is not None:
                yield _of_entry(grant, f"before this change, {refusal}", Severity.ERROR)


def _problems_of_hire(desired: Desired, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
    yield from desired.problems_of_file(hire)
    for grant in grants:
        if grant.hold is not None and grant.hold.status is Status.INVALID:
            if grant.hold.personal and grant.origin is not None and hire in desired.hires:
                loaded = desired.hires[hire]
                message = f"access {grant.key.access}: {grant.hold.reason}"
                yield Problem(loaded.path, loaded.document.line(("sequences",)), message)
            else:
                yield _of_entry(grant, grant.hold.reason, Severity.ERROR)


def unfitting(desired: Desired) -> Iterator[Problem]:
    """Return the problems of sequences' entries and what they include, whether a hire has them or not."""
    for loaded in desired.files.sequences.values():
        yield from desired.entries.missing_includes(loaded)
        for place, (entry, line) in enumerate(zip(loaded.model.access, loaded.lines, strict=True)):
            if desired.join.over_for_all(entry):
                where = loaded.document.line(("access", place, "until"))
                yield Problem(loaded.path, where, over_by_itself(entry), Severity.WARNING)
            try:
                desired.join.fitted(entry)
            except ValueError as error:
                yield Problem(loaded.path, line, f"access {entry.access}: {shortened(str(error))}")


def unassigned(desired: Desired, given: Collection[str]) -> Iterator[Problem]:
    """Warn of each sequence whose `assign` matches no hire; not while a hire cannot be read.

    `given` are those that match one, of all hires.
    """
    if desired.broken_hires:
        return
    for name, loaded in desired.files.sequences.items():
        if loaded.model.assign is not None and name not in given:
            line = loaded.document.line(("assign",))
            yield Problem(loaded.path, line, "assign: it matches no hire, so nobody is given it", Severity.WARNING)


def _of_entry(grant: Grant, text: str, severity: Severity) -> Problem:
    return Problem(*grant.place, f"access {grant.key.access}: {text}", severity)


def unknown_names(files: Files) -> Iterator[Problem]:
    """Warn of each. A manifest that is broken may have any field."""
    rules, offers = files.policy.entries, files.offers.entries
    named: list[tuple[str, int | None, str, str | None, Mapping[str, str | list[str]]]] = [
        *((POLICY, line, f"policy {rule.name}", rule.integration, rule.values) for rule, line in rules),
        *((REQUESTABLE, line, offer.integration, offer.integration, offer.values) for offer, line in offers),
    ]
    known = files.manifests.keys() | files.broken["manifests"].keys()
    for path, line, name, integration, values in named:
        if integration is not None and integration not in known:
            told = f"{name}: there is no integration {integration}{hint(integration, known)}"
            yield Problem(path, line, told, Severity.WARNING)
        elif integration in files.manifests:
            form = {field.id: field for field in files.manifests[integration].model.form}
            for field in sorted(values):
                told = f"the form of {integration} has no {field}{hint(field, form)}"
                found = _no_items(form[field], values[field], named=path == REQUESTABLE) if field in form else [told]
                yield from (Problem(path, line, f"{name}: {each}", Severity.WARNING) for each in found)


def _no_items(field: FormField, values: str | list[str], *, named: bool) -> Iterator[str]:
    """Say which values a choice of fixed items does not have; by their names too where they may be `named`."""
    if not field.items or field.fetched:
        return
    known = {skeleton(str(as_text(each))) for item in field.items for each in (item.id, *[item.name] * named)}
    for value in values if isinstance(values, list) else [values]:
        if skeleton(value) not in known:
            there = some([f"{as_text(item.id)} ({item.name})" for item in field.items])
            yield f"{field.id} {value} is not among the items: {there}"


class PlacedCondition(NamedTuple):
    """A condition, and what it is called where it stands."""

    path: str
    line: int | None
    name: str
    condition: Condition

    def warning(self, message: str) -> Problem:
        """Make a warning about it."""
        return Problem(self.path, self.line, f"{self.name}: {message}", Severity.WARNING)


def conditions_of(desired: Desired) -> list[PlacedCondition]:
    """List every condition of a revision."""
    files = desired.files
    assigned = [each for each in files.sequences.values() if each.model.assign is not None]
    places = [
        *((each.path, each.document.line(("assign",)), "assign", each.model.assign) for each in assigned),
        *((REQUESTABLE, line, f"{offer.integration}: who", offer.who) for offer, line in files.offers.entries),
        *((POLICY, line, f"policy {rule.name}: when", rule.when) for rule, line in files.policy.entries),
    ]
    return [PlacedCondition(path, line, name, meant) for path, line, name, meant in places if meant is not None]


def doubtful_conditions(
    desired: Desired,
    conditions: Collection[PlacedCondition],
    had: Collection[tuple[str, str]],
    lacking: set[tuple[int, str, str]],
) -> Iterator[Problem]:
    """Warn of values that no hire has, and of who is meant only for lacking a field.

    `had` are fields with values that hires have, `lacking` the number of a condition, a hire and the field.
    """
    if desired.broken_hires:
        return  # they may be the ones who have it
    for number, placed in enumerate(conditions):
        for name, value in placed.condition.values:
            if (name, plain(value)) not in had:
                yield placed.warning(f"no hire has {name} {value}{hint(value, _values(desired, name))}")
        for name in placed.condition.fields:
            hires = sorted(hire for place, hire, field in lacking if (place, field) == (number, name))
            if hires:
                yield placed.warning(f"it holds for {some(hires)} only because no {name} is given")


def _values(desired: Desired, name: str) -> Iterator[str]:
    """Yield the values of a field that hires have."""
    values = (value_of(desired.hires[hire].model, name) for hire in desired.hires)
    return (value for value in dict.fromkeys(values) if value is not None)
