"""Fit an access entry's values to its manifest's form."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from reconciler.model.base import as_text
from reconciler.model.hire import Entry, NamedChoice
from reconciler.model.manifest import FormField, Manifest
from reconciler.model.near import near
from reconciler.model.template import FILL_IN

__all__ = ["BEFORE_SUGGESTION", "fill_form"]

BEFORE_SUGGESTION = ": "
"""What stands before a suggestion in a grant's reason, where no sentence follows."""

MAX_NAMED_ITEMS = 30
"""How many of a choice's items a message names."""


def fill_form(manifest: Manifest, entry: Entry) -> tuple[dict[str, Any], tuple[tuple[str, Any], ...]]:
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
                f"values.{name}: the manifest's form has no such field{near(name, form, BEFORE_SUGGESTION)}"
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
        meant = near(value.name, [item.name for item in items], BEFORE_SUGGESTION)
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
