"""What a manifest asks a service: the requests of attempts and for tokens, checks, and listings.

ChiefOnboarding's builder leaves properties empty instead of out; `{}`, `[]` and `""` count as not there wherever its
builder writes them (docs/manifest.md). Where a check compares a value, `path → value` is a map from a dotted path to
what has to stand there; the values are templates, null, `{not: V}` or `{contains: V}`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from reconciler.model.base import Identifier, Model, Text, as_text, number
from reconciler.model.condition import FIELDS
from reconciler.model.hire import EXTRA
from reconciler.model.template import names

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
    status_code: Annotated[list[StatusCode] | None, empty_is_none] = None
    fail_when_4xx_response_code: bool = True
    extra_headers: Literal["pritunl"] | None = None


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


# --- checks -----------------------------------------------------------------------------------------------------------

FILLED: tuple[str, ...] = tuple(name for name in FIELDS if name != "source")
"""The keys of a hire that a listing may fill, beside `extra.NAME`."""

OPERATORS = ("not", "contains")
"""The keys of a map that says something about a value, instead of being one."""


def operator(value: Any) -> str | None:
    """Return what a compared value says about what stands there; None for a value itself."""
    if isinstance(value, dict) and len(value) == 1:
        return next((key for key in OPERATORS if key in value), None)
    return None


def _comparable(value: dict[str, Any]) -> dict[str, Any]:
    for path, wanted in value.items():
        if not path:
            raise ValueError("a path is empty; write where the value stands, such as user.role")
        word = operator(wanted)
        inner = wanted if word is None else wanted[word]
        if word == "not" and operator(inner) == "contains":
            word, inner = "contains", inner["contains"]
        if word == "contains" and inner in (None, [], ""):
            raise ValueError(f"{path}: contains is empty; write what the list has to have")
        if isinstance(inner, dict) or (isinstance(inner, list) and any(isinstance(it, dict | list) for it in inner)):
            raise ValueError(
                f"{path}: a map is not compared; write {{not: V}}, {{contains: V}}, or a path for each value in it, "
                f"such as {path}.KEY"
            )
    return value


Compared = Annotated[dict[Text, Any], AfterValidator(_comparable)]
"""path → value."""


def _fills_a_hire(value: dict[str, str]) -> dict[str, str]:
    for key in value:
        if key not in FILLED and not (key.startswith(EXTRA) and key != EXTRA):
            raise ValueError(f"{key} is no key of a hire; allowed: {', '.join(FILLED)}, extra.NAME")
    return value


class Ready(Call):
    """`exists.ready`: a request, sent once a pass before an absence counts."""

    method: Method = "GET"
    expected: Text | None = None

    @model_validator(mode="after")
    def _expects_an_answer(self) -> Self:
        if not self.expected and self.status_code is None:
            raise ValueError("expected is empty: any answer would contain it; write what one says of a service that is")
        return self


class PagedListing(Paged):
    """A paged listing in which people are found by `match`."""

    url: NonEmpty
    method: Method = "GET"
    data_from: Text = ""
    match: NonEmpty
    only: Compared = {}


class Listing(PagedListing):
    """`exists.list`: a paged listing that answers all checks, and shows unmanaged accounts."""

    account: NonEmpty | None = None
    fields: Annotated[dict[NonEmpty, NonEmpty], AfterValidator(_fills_a_hire)] = {}
    used: NonEmpty | None = None


class Pending(PagedListing):
    """`exists.pending`: a paged listing of the open invitations."""

    store_data: dict[Identifier, NonEmpty] = {}


class Exists(Call):
    """The check: the account exists if the response contains `expected`.

    `record` and `match` say what of the answer the account is, `invited`, `where` and `inactive` what stands in it,
    `absent` what an answer says where there is none. With `pages` the answer is the first page of a listing.
    """

    method: Method = "GET"
    expected: Text | None = None
    store_data: dict[Identifier, NonEmpty] = {}
    record: Text | None = None
    match: NonEmpty | None = None
    invited: Compared = {}
    where: Compared = {}
    inactive: Compared = {}
    absent: Compared = {}
    pages: Annotated[Paging | None, empty_is_none] = None
    ready: Ready | None = None
    pending: Pending | None = None
    listing: Annotated[Listing | None, Field(alias="list")] = None

    @property
    def compares(self) -> bool:
        """Whether the check looks for a record in the answer."""
        return bool(self.record is not None or self.match or self.invited or self.where or self.inactive)

    @property
    def ours(self) -> bool:
        """Whether it uses an addition that ChiefOnboarding does not have."""
        others = (self.absent, self.pages, self.ready, self.pending, self.listing)
        return self.compares or any(others)

    @model_validator(mode="after")
    def _expects_something(self) -> Self:
        if not self.expected and self.status_code is None:
            raise ValueError("expected is empty: any answer would contain it; write what one says of an account")
        needs = next((why for key, why in _NEED_EXPECTED.items() if not self.expected and getattr(self, key)), None)
        if needs is not None:
            raise ValueError(needs)
        return self

    @model_validator(mode="after")
    def _pages_lead_on(self) -> Self:
        if self.pages is not None:
            self.pages.place_token(self.data)
        return self


_NEED_EXPECTED = {
    "listing": "list needs expected: what `match` is compared with",
    "match": "match needs expected: what it is compared with",
    "pending": "pending needs expected: what `match` is compared with",
    "absent": "absent needs expected: what an answer says of an account that is there",
    "pages": "pages needs expected: what is looked for on each of them",
}
