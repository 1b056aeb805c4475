"""A manifest's form: the values that can differ between access entries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from reconciler.model.base import Identifier, Model, Text, as_text
from reconciler.model.hire import NamedChoice, no_entries
from reconciler.model.request import Method, NonEmpty, Paged, empty_is_none
from reconciler.model.text import folded


def _dated(value: Any) -> Any:
    return as_text(value) if isinstance(value, date) else value


class Item(Model):
    """One of a choice's fixed items. `id` keeps its type in `data`; a hire's value is compared with it as text."""

    id: Annotated[bool | int | float | str, BeforeValidator(_dated)]
    """The value."""
    name: Text
    """What is shown."""
    privileged: bool = False
    """Whether it gives more than others have."""


def _name(value: object) -> str | None:
    """Return the name of a choice by name, as a file or the ledger has it; None for another value."""
    if isinstance(value, Mapping):
        return str(value.get("name"))
    return value.name if isinstance(value, NamedChoice) else None


class FormField(Paged):
    """A field of the form."""

    id: Identifier
    """What placeholders call the value: letters, digits and underscores."""
    name: Text = ""
    """The label; `generate` in initial_data_form makes a fresh secret for each run."""
    description: Text = ""
    """Where to find the value."""
    type: Literal["choice", "multiple_choice", "input", "generate"]
    """choice, multiple_choice, input, or generate."""
    identity: bool = False
    """The field says which thing an entry is about."""
    privileged: list[Text] = Field(default_factory=no_entries)
    """Values that give more than others have; an item may say so itself."""
    items: list[Item] | None = None
    """A choice's fixed options."""
    options_source: Literal["fixed list", "fetch url"] | None = None
    """Where a choice's options come from, if both items and url are there."""
    url: Annotated[NonEmpty | None, empty_is_none] = None
    """Where a choice's options are fetched."""
    method: Method = "POST"
    """The HTTP method, POST by default."""
    data_from: Text = ""
    """Dotted path in the response to the array of options."""
    choice_value: NonEmpty = "id"
    """Which property of an option is the value."""
    choice_name: NonEmpty = "name"
    """Which property of an option is shown."""

    @model_validator(mode="before")
    @classmethod
    def _items_by_their_keys(cls, value: Any) -> Any:
        """Read items as `id` and `name`, whatever `choice_value` and `choice_name` call these."""
        if not isinstance(value, dict) or not isinstance(value.get("items"), list):
            return value
        calls = {str(value.get("choice_value") or "id"): "id", str(value.get("choice_name") or "name"): "name"}
        if len(calls) == 1:  # one key is both
            return {**value, "items": [_both(item, *calls) for item in value["items"]]}
        return {**value, "items": [_renamed(item, calls) for item in value["items"]]}

    @model_validator(mode="after")
    def _has_options(self) -> Self:
        if self.type in ("choice", "multiple_choice") and not self.items and self.url is None:
            raise ValueError(f"a {self.type} needs items, or a url to fetch them from")
        return self

    def gives_privilege(self, value: object) -> bool:
        """Whether a value of the field gives more than others have, as services may compare it."""
        listed = {folded(each) for each in self._privileged_ids}
        names = {folded(each) for each in self.privileged_texts}
        values = value if isinstance(value, list | tuple) else [value]
        named = (_name(each) for each in values)
        return any(
            folded(str(as_text(each))) in listed if name is None else folded(name) in names
            for each, name in zip(values, named, strict=True)
        )

    @property
    def privileged_texts(self) -> frozenset[str]:
        """Return the ids and names of the values that give more than others have."""
        return self._privileged_ids | {item.name for item in self.items or () if item.privileged}

    @property
    def _privileged_ids(self) -> frozenset[str]:
        return frozenset({*self.privileged, *(str(as_text(it.id)) for it in self.items or () if it.privileged)})

    @property
    def is_role(self) -> bool:
        """Whether some of its values give more than others."""
        return bool(self._privileged_ids)

    @property
    def fetched(self) -> bool:
        """Whether the options come from the service; fixed items win, like in ChiefOnboarding's builder."""
        if self.type not in ("choice", "multiple_choice") or self.url is None:
            return False
        return self.options_source == "fetch url" or (self.options_source is None and not self.items)


def _renamed(item: Any, calls: dict[str, str]) -> Any:
    if not isinstance(item, dict):
        return item
    named = {key: item[name] for name, key in calls.items() if name in item}
    return {**{key: value for key, value in item.items() if key not in calls and key not in named}, **named}


def _both(item: Any, key: str) -> Any:
    return {"id": item[key], "name": item[key]} if isinstance(item, dict) and key in item else item
