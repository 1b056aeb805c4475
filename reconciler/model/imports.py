"""An import: where people come from, in ChiefOnboarding's format for importing people, or a CSV.

The last of the `execute` requests returns the people, page by page; those before it may log in. Code for manifests,
with their hosts, secrets and clients, uses `as_manifest` (docs/imports.md).
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from reconciler.model.base import Model, Text
from reconciler.model.form import FormField
from reconciler.model.hire import EXTRA
from reconciler.model.manifest import InitialDataField, Manifest, OAuth
from reconciler.model.request import (
    FILLED,
    Compared,
    CountUp,
    Headers,
    More,
    NonEmpty,
    Request,
    RequestOptions,
    WholeNumber,
    empty_is_none,
)

LEFT_EMPTY = ("form", "exists", "revoke", "extra_user_info", "post_execute_notification")
"""What ChiefOnboarding's builder writes beside, where there is nothing of it."""

_OF_REQUESTS = ("headers", "oauth", "initial_data_form", "data_from", "next_page", "next_page_from")
_ALSO = ("next_page_token_from", "count_up", "amount_pages_to_fetch")
_UNREAD = ("polling", "continue_if", "save_as_file", "files", "extra_headers")
"""What belongs to requests that make an account."""


class ByAddress(Model):
    """A manager or buddy, as the hire whose address is at this path."""

    hire: NonEmpty
    """Dotted path in an item to the other person's address."""


def target(key: str) -> str:
    """Return what a key of `data_structure` fills in a hire's file: a key of a hire, or `extra.NAME`."""
    return key if key in FILLED or key.startswith(EXTRA) else f"{EXTRA}{key}"


class Import(Model):
    """Where people come from: requests to an HR system, or a CSV."""

    type: Literal["import_users"] | None = None
    """import_users, as ChiefOnboarding writes it; the folder says it already."""
    name: Text = ""
    """The name that is shown."""
    description: Text = ""
    """What the people come from."""
    file: NonEmpty | None = None
    """A CSV on this machine, from the repository's root; never one that git holds."""
    action: Literal["create", "update"] = "create"
    """create: makes and changes hires' files; update: only changes them."""
    execute: list[Request] = []
    """The requests, in order; the last one gives the people."""
    data_from: Text = ""
    """Dotted path in a page to its array."""
    data_structure: Annotated[dict[NonEmpty, ByAddress | NonEmpty], Field(min_length=1)]
    """Keys of a hire, each with the dotted path in an item that fills it; others go to extra."""
    next_page_from: Annotated[NonEmpty | More | None, empty_is_none] = None
    """Dotted path in a page to the whole URL of the next one, header:Link, or a map."""
    next_page_token_from: Annotated[NonEmpty | None, empty_is_none] = None
    """Dotted path in a page to the token of the next one."""
    next_page: Annotated[NonEmpty | None, empty_is_none] = None
    """The URL of the next page, with {{NEXT_PAGE_TOKEN}}."""
    count_up: CountUp | None = None
    """A query parameter that counts pages or items."""
    amount_pages_to_fetch: WholeNumber = 5
    """So many pages are read at most; 0: all."""
    schedule: Text | None = None
    """Read, and not acted on: whatever runs the command says when."""
    headers: Headers = {}
    """Sent with every request that has none of its own."""
    oauth: Annotated[OAuth | None, empty_is_none] = None
    """How a token is come by and kept fresh."""
    initial_data_form: list[InitialDataField] = []
    """The import's secrets and settings, kept encrypted."""
    id: NonEmpty | None = None
    """What a new file's stem is made of; default: what stands before the @ of the address."""
    leaves: NonEmpty | None = None
    """Dotted path in an item to the last day, which fills end."""
    only: Compared = {}
    """Paths in an item, and what stands there in the people who count."""

    @model_validator(mode="before")
    @classmethod
    def _as_the_builder_writes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if key not in LEFT_EMPTY or item not in ({}, [], "", None)}

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if self.file is None and not self.execute:
            raise ValueError("nothing says where people come from: write execute, or file for a CSV")
        if self.file is not None:
            beside = [key for key in ("execute", *_OF_REQUESTS, *_ALSO) if key in self.model_fields_set]
            if beside:
                raise ValueError(f"file is a CSV on this machine, and asks nobody: take {', '.join(beside)} out")
        if "end" in self.data_structure and self.leaves is not None:
            raise ValueError("leaves fills end already: take end out of data_structure")
        if "email" not in self.data_structure:
            raise ValueError("data_structure needs email: people are told apart by their addresses")
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.execute:
            unread = [key for key in _UNREAD if any(getattr(request, key) for request in self.execute)]
            if unread:
                raise ValueError(f"a request of an import cannot have {', '.join(unread)}: it only reads")
            try:
                self.as_manifest  # noqa: B018  built once, so that its errors are reported with the file
            except ValidationError as error:
                raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    @cached_property
    def as_manifest(self) -> Manifest:
        """Return the same requests, hosts and secrets as a manifest, with the people as its form's one field."""
        return Manifest(
            headers=self.headers,
            oauth=self.oauth,
            initial_data_form=self.initial_data_form,
            execute=self.execute[:-1],
            form=[self._people(self.execute[-1])],
        )

    def _people(self, last: Request) -> FormField:
        sent = {key: getattr(last, key) for key in ("url", "method", *RequestOptions.model_fields)}
        paging = ("data_from", "next_page_from", "next_page_token_from", "next_page", "count_up")
        return FormField(id="people", type="choice", **sent, **{key: getattr(self, key) for key in paging})

    def place(self, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """Map a place in `as_manifest` to its place in the import's file."""
        if place[:2] != ("form", 0):
            return place
        return place[2:] if place[2:] == ("next_page",) else ("execute", len(self.execute) - 1, *place[2:])

    @property
    def asks_for(self) -> tuple[InitialDataField, ...]:
        """Return the initial data that a user has to provide."""
        return tuple(item for item in self.initial_data_form if not item.generated)

    @property
    def fills(self) -> dict[str, ByAddress | str]:
        """Return what is filled in a hire's file, and from which path of a person's item."""
        found: dict[str, ByAddress | str] = {target(key): path for key, path in self.data_structure.items()}
        return {**found, "end": self.leaves} if self.leaves is not None else found
