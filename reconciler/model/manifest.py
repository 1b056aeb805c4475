"""A manifest: how one integration is asked and told, in ChiefOnboarding's format (the seed, DESIGN section 2.3).

The models take what ChiefOnboarding takes and nothing else; `service` and a check's `list` are our own additions, as
are the paging keys on a form field. What one file can decide alone is decided here; what needs the hire's values or the
other manifests is for the repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from reconciler.model.base import Identifier, Model, Text, as_text

__all__ = [
    "Condition",
    "Exists",
    "ExtraUserInfo",
    "FormField",
    "InitialDataField",
    "Item",
    "Listing",
    "Manifest",
    "Notification",
    "OAuth",
    "Polling",
    "Request",
    "Revoke",
]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Method = Annotated[
    Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
    BeforeValidator(_upper),
]


def _headers(value: Any) -> Any:
    """A map, or ChiefOnboarding's stored form: a list of `{key, value}`."""
    if isinstance(value, list) and all(isinstance(item, dict) and set(item) == {"key", "value"} for item in value):
        return {as_text(item["key"]): item["value"] for item in value}
    return value


Headers = Annotated[dict[Text, Text], BeforeValidator(_headers)]


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


StatusCode = Annotated[int, BeforeValidator(_number), Field(ge=100, le=599)]
NonEmpty = Annotated[str, BeforeValidator(as_text), StringConstraints(min_length=1)]


class Condition(Model):
    """`continue_if`: the attempt goes on only where the response has this value at this path."""

    response_notation: NonEmpty
    value: Text


class Polling(Model):
    """`polling`: the request is sent up to `amount` times, `interval` seconds apart, until `continue_if` holds."""

    interval: Annotated[int, BeforeValidator(_number), Field(ge=1, le=3600)]
    amount: Annotated[int, BeforeValidator(_number), Field(ge=1, le=100)]


class Call(Model):
    """What every request has. `headers`, where given, replace the manifest's default ones whole."""

    url: NonEmpty
    method: Method = "POST"
    headers: Headers | None = None
    status_code: list[StatusCode] | None = None
    extra_headers: Literal["pritunl"] | None = None

    @property
    def mutates(self) -> bool:
        """Whether the request can change something: all but GET, HEAD and OPTIONS (STATES.md)."""
        return self.method not in SAFE_METHODS

    @field_validator("status_code")
    @classmethod
    def _not_empty(cls, value: list[int] | None) -> list[int] | None:
        return value or None


class Request(Call):
    """One of the `execute` requests, or of OAuth's."""

    data: Any = None
    cast_data_to_json: bool = False
    store_data: dict[Identifier, NonEmpty] = {}
    continue_if: Condition | None = None
    polling: Polling | None = None
    save_as_file: NonEmpty | None = None
    files: dict[Identifier, NonEmpty] = {}

    @model_validator(mode="after")
    def _polling_has_an_end(self) -> Self:
        if self.polling is not None and self.continue_if is None:
            raise ValueError("polling needs continue_if: without it there is nothing to wait for")
        return self


class Revoke(Request):
    """One of the `revoke` requests; `expected` is text that the response must contain."""

    expected: Text | None = None


class Paged(Model):
    """The paging keys of a listing and of a form field's `url`: the whole next URL, or a token and where it goes."""

    next_page_from: NonEmpty | None = None
    next_page_token_from: NonEmpty | None = None
    next_page: NonEmpty | None = None

    @model_validator(mode="after")
    def _one_way_on(self) -> Self:
        if (self.next_page is None) != (self.next_page_token_from is None):
            raise ValueError("next_page and next_page_token_from belong together")
        if self.next_page_from is not None and self.next_page is not None:
            raise ValueError("next_page_from gives the whole next URL: leave next_page and next_page_token_from out")
        return self


class Listing(Paged):
    """`exists.list`: a paged listing that answers for everybody."""

    url: NonEmpty
    method: Method = "GET"
    headers: Headers | None = None
    data_from: Text = ""
    match: NonEmpty


class Exists(Call):
    """The check: the account is there when the response contains `expected`."""

    method: Method = "GET"
    expected: Text | None = None
    fail_when_4xx_response_code: bool = True
    store_data: dict[Identifier, NonEmpty] = {}
    listing: Annotated[Listing | None, Field(alias="list")] = None

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not self.expected and self.status_code is None:
            raise ValueError("expected is empty: any answer would contain it; write what one says of an account")
        if self.listing is not None and not self.expected:
            raise ValueError("list needs expected: what `match` is held against")
        return self


class Item(Model):
    """One of a choice's fixed items."""

    id: Text
    name: Text


class FormField(Paged):
    """What can differ from one access entry to the next."""

    id: Identifier
    name: Text = ""
    description: Text = ""
    type: Literal["choice", "multiple_choice", "input", "generate"]
    items: list[Item] | None = None
    options_source: Literal["fixed list", "fetch url"] | None = None
    url: NonEmpty | None = None
    method: Method = "POST"
    headers: Headers | None = None
    data: Any = None
    data_from: Text = ""
    choice_value: NonEmpty = "id"
    choice_name: NonEmpty = "name"

    @model_validator(mode="after")
    def _has_options(self) -> Self:
        if self.type in ("choice", "multiple_choice") and not self.items and self.url is None:
            raise ValueError(f"a {self.type} needs items, or a url to fetch them from")
        return self

    @property
    def fetched(self) -> bool:
        """Whether the options come from the service; fixed items win, as in ChiefOnboarding's builder."""
        if self.type not in ("choice", "multiple_choice") or self.url is None:
            return False
        return self.options_source == "fetch url" or (self.options_source is None and not self.items)


class InitialDataField(Model):
    """A secret or a setting of the integration; `name: generate` makes a fresh secret for each run."""

    id: Identifier
    name: Text = ""
    description: Text = ""
    secret: bool = True

    @property
    def generated(self) -> bool:
        """Whether the value is made for each run instead of read."""
        return self.name == "generate"


class ExtraUserInfo(Model):
    """A field that a hire has to give under `extra`."""

    id: Identifier
    name: Text = ""
    description: Text = ""


class Notification(Model):
    """A message that goes out after the integration has run."""

    type: Literal["email", "text"]
    to: NonEmpty
    subject: Text = ""
    message: Text


class OAuth(Model):
    """How a token is come by, kept fresh, and where a person is sent to allow it."""

    authenticate_url: NonEmpty
    access_token: Request
    refresh: Request | None = None
    without_code: bool = False

    @field_validator("refresh", mode="before")
    @classmethod
    def _empty_is_none(cls, value: Any) -> Any:
        return None if value == {} else value


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


class Manifest(Model):
    """A whole manifest. `service` groups manifests that share initial data, OAuth connection and limits."""

    service: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    name: Text = ""
    description: Text = ""
    form: list[FormField] = []
    exists: Exists | None = None
    execute: list[Request] = []
    revoke: list[Revoke] = []
    headers: Headers = {}
    oauth: OAuth | None = None
    initial_data_form: list[InitialDataField] = []
    extra_user_info: list[ExtraUserInfo] = []
    post_execute_notification: Annotated[list[Notification], BeforeValidator(_one_or_many)] = []

    @property
    def generated(self) -> tuple[str, ...]:
        """The ids whose values are made for each run."""
        fields = [item.id for item in self.initial_data_form if item.generated]
        return (*fields, *(item.id for item in self.form if item.type == "generate"))

    @property
    def asks_for(self) -> tuple[InitialDataField, ...]:
        """The initial data that somebody has to give."""
        return tuple(item for item in self.initial_data_form if not item.generated)

    @property
    def stored(self) -> frozenset[str]:
        """The names that `store_data` saves while requests run."""
        calls: list[Request | Exists] = [*self.execute, *self.revoke]
        if self.exists is not None:
            calls.append(self.exists)
        return frozenset(name for call in calls for name in call.store_data)

    @property
    def ours(self) -> bool:
        """Whether it uses an addition that ChiefOnboarding does not know, and so is no unchanged manifest of its."""
        paged = any(item.next_page_from or item.next_page for item in self.form)
        return self.service is not None or paged or (self.exists is not None and self.exists.listing is not None)

    def calls(self) -> Iterator[tuple[str, Call | Listing | FormField]]:
        """Every request that the manifest can make, with its place in the file."""
        for index, field in enumerate(self.form):
            if field.fetched:
                yield f"form.{index}", field
        if self.exists is not None:
            yield "exists", self.exists
            if self.exists.listing is not None:
                yield "exists.list", self.exists.listing
        for index, request in enumerate(self.execute):
            yield f"execute.{index}", request
        for index, revoke in enumerate(self.revoke):
            yield f"revoke.{index}", revoke
        if self.oauth is not None:
            yield "oauth.access_token", self.oauth.access_token
            if self.oauth.refresh is not None:
                yield "oauth.refresh", self.oauth.refresh
