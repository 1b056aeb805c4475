"""What all requests of a manifest share: checks, attempts, listings and token requests.

ChiefOnboarding's builder leaves properties empty instead of out; `{}`, `[]` and `""` count as not there wherever its
builder writes them (docs/manifest.md).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from reconciler.model.base import Identifier, Model, Text, as_text, number
from reconciler.model.template import names

__all__ = [
    "PAGE_TOKEN",
    "SAFE_METHODS",
    "Call",
    "Condition",
    "CountUp",
    "Headers",
    "Method",
    "More",
    "NonEmpty",
    "Paged",
    "Paging",
    "Polling",
    "Request",
    "RequestOptions",
    "Revoke",
    "WholeNumber",
    "empty_is_none",
]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

PAGE_TOKEN = "NEXT_PAGE_TOKEN"  # noqa: S105  the name of a variable


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


Method = Annotated[
    Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
    BeforeValidator(_upper),
]


def _headers(value: Any) -> Any:
    """Read a map, or ChiefOnboarding's stored form: a list of `{key, value}`."""
    if isinstance(value, list) and all(isinstance(item, dict) and set(item) == {"key", "value"} for item in value):
        return {as_text(item["key"]): item["value"] for item in value}
    return value


Headers = Annotated[dict[Text, Text], BeforeValidator(_headers)]


def _empty_is_none(value: Any) -> Any:
    return None if value in ({}, [], "") else value


empty_is_none = BeforeValidator(_empty_is_none)
"""For a property that ChiefOnboarding's builder may leave empty."""


StatusCode = Annotated[int, BeforeValidator(number), Field(ge=100, le=599)]
WholeNumber = Annotated[int, BeforeValidator(number), Field(ge=0)]
NonEmpty = Annotated[str, BeforeValidator(as_text), StringConstraints(min_length=1)]


class Condition(Model):
    """`continue_if`: the attempt continues only if the response has this value at this path."""

    response_notation: NonEmpty
    value: Text


class Polling(Model):
    """`polling`: send the request up to `amount` times, `interval` seconds apart, until `continue_if` holds."""

    interval: Annotated[int, BeforeValidator(number), Field(ge=1, le=3600)]
    amount: Annotated[int, BeforeValidator(number), Field(ge=1, le=100)]


class RequestOptions(Model):
    """What is sent with a URL, and which answers are a success.

    `headers`, where given and not empty, replace the manifest's default ones whole. `quote` says in which language the
    values that are put into the URL stand between quotes.
    """

    headers: Annotated[Headers | None, empty_is_none] = None
    data: Annotated[Any, empty_is_none] = None
    cast_data_to_json: bool = False
    quote: Literal["odata", "soql"] | None = None
    status_code: list[StatusCode] | None = None
    fail_when_4xx_response_code: bool = True
    extra_headers: Literal["pritunl"] | None = None

    @field_validator("status_code")
    @classmethod
    def _not_empty(cls, value: list[int] | None) -> list[int] | None:
        return value or None


class Call(RequestOptions):
    """A single request."""

    url: NonEmpty
    method: Method = "POST"

    @property
    def mutates(self) -> bool:
        """Whether the request can change something: all but GET, HEAD and OPTIONS.

        See docs/design/rules.md, "The ledger and the retry".
        """
        return self.method not in SAFE_METHODS


class Request(Call):
    """One of the `execute` or `update` requests, or of OAuth's."""

    store_data: dict[Identifier, NonEmpty] = {}
    continue_if: Annotated[Condition | None, empty_is_none] = None
    polling: Annotated[Polling | None, empty_is_none] = None
    save_as_file: Annotated[NonEmpty | None, empty_is_none] = None
    files: dict[Identifier, NonEmpty] = {}

    @model_validator(mode="after")
    def _polling_has_an_end(self) -> Self:
        if self.polling is not None and self.continue_if is None:
            raise ValueError("polling needs continue_if: without it there is nothing to wait for")
        return self


class Revoke(Request):
    """One of the `revoke` or `withdraw` requests; `expected` is text that the response must contain."""

    expected: Annotated[Text | None, empty_is_none] = None


class CountUp(Model):
    """`count_up`: a query parameter that counts pages or items, from the first page on.

    Reading ends when as many items were read as `total_from` says, or on an empty page.
    """

    parameter: NonEmpty
    first: WholeNumber = 1
    step: Annotated[int, BeforeValidator(number), Field(ge=1)] = 1
    total_from: NonEmpty | None = None


class More(Model):
    """`next_page_from` as a map: while the flag at `more` holds, the parameter takes the value at `from`."""

    more: NonEmpty
    parameter: NonEmpty
    origin: Annotated[NonEmpty, Field(alias="from")]


class Paging(Model):
    """How to get from a page to the next: its whole URL, a token and where it goes, a flag and a value, or a count."""

    next_page_from: NonEmpty | More | None = None
    next_page_token_from: NonEmpty | None = None
    next_page: NonEmpty | None = None
    count_up: CountUp | None = None

    @model_validator(mode="after")
    def _one_way_on(self) -> Self:
        if self.next_page is not None and self.next_page_token_from is None:
            raise ValueError("next_page needs next_page_token_from: the path to the token in the answer")
        if self.next_page_from is not None and self.next_page_token_from is not None:
            raise ValueError("next_page_from says what follows: leave next_page and next_page_token_from out")
        if self.count_up is not None and (self.next_page_from or self.next_page_token_from):
            raise ValueError("count_up is a way to page of its own: leave the other paging keys out")
        return self

    def place_token(self, data: Any) -> None:
        """Verify that `next_page` or the request's data takes the token. Raises ValueError."""
        if self.next_page_token_from is not None and self.next_page is None and PAGE_TOKEN not in names(data):
            raise ValueError(
                "next_page_token_from needs next_page: the URL with {{NEXT_PAGE_TOKEN}} in it; or that in data"
            )


class Paged(RequestOptions, Paging):
    """A listing, or a form field's `url`, with its paging keys."""

    @property
    def pages(self) -> bool:
        """Whether it says how to get further pages."""
        return bool(self.next_page_from or self.next_page_token_from or self.count_up)

    @model_validator(mode="after")
    def _token_has_a_place(self) -> Self:
        self.place_token(self.data)
        return self
