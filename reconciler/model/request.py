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
    """Dotted path in the response."""
    value: Text
    """The value that has to stand there."""


class Polling(Model):
    """`polling`: send the request up to `amount` times, `interval` seconds apart, until `continue_if` holds."""

    interval: Annotated[int, BeforeValidator(number), Field(ge=1, le=3600)]
    """Seconds between two tries."""
    amount: Annotated[int, BeforeValidator(number), Field(ge=1, le=100)]
    """How many tries."""


class RequestOptions(Model):
    """What is sent with a URL, and which answers are a success."""

    headers: Annotated[Headers | None, empty_is_none] = None
    """Replace the manifest's headers whole, unless empty."""
    data: Annotated[Any, empty_is_none] = None
    """What is sent: as JSON, or as the Content-Type header says."""
    cast_data_to_json: bool = False
    """true: without a Content-Type, data is sent as a form."""
    quote: Literal["odata", "soql"] | None = None
    """How values in the URL are quoted: odata doubles each ', soql puts a backslash before ' and backslash."""
    status_code: Annotated[list[StatusCode] | None, empty_is_none] = None
    """The status codes that count as success."""
    fail_when_4xx_response_code: bool = True
    """Whether a 4xx is a failure (401, 403, 407, 408, 425 and 429 always are); false where it means: not there."""
    extra_headers: Literal["pritunl"] | None = None
    """A request signature that the service asks for."""


class Call(RequestOptions):
    """A single request."""

    url: NonEmpty
    """Where the request goes; values in {{ }} are encoded."""
    method: Method = "POST"
    """The HTTP method, in any case."""

    @property
    def mutates(self) -> bool:
        """Whether the request can change something: all but GET, HEAD and OPTIONS.

        See docs/design/rules.md, "The ledger and the retry".
        """
        return self.method not in SAFE_METHODS


class Request(Call):
    """One of the `execute` or `update` requests, or of OAuth's."""

    store_data: dict[Identifier, NonEmpty] = {}
    """Names to save, each with the dotted path of its value in the response, or header:NAME."""
    continue_if: Annotated[Condition | None, empty_is_none] = None
    """The attempt goes on only where the response has this value."""
    polling: Annotated[Polling | None, empty_is_none] = None
    """Send again until continue_if holds."""
    save_as_file: Annotated[NonEmpty | None, empty_is_none] = None
    """Keep the response's body as a file under this name."""
    files: dict[Identifier, NonEmpty] = {}
    """Form fields that are files, each with the name of a saved one."""

    @model_validator(mode="after")
    def _polling_has_an_end(self) -> Self:
        if self.polling is not None and self.continue_if is None:
            raise ValueError("polling needs continue_if: without it there is nothing to wait for")
        return self


class Revoke(Request):
    """One of the `revoke` or `withdraw` requests; `expected` is text that the response must contain."""

    expected: Annotated[Text | None, empty_is_none] = None
    """Text that the response must contain."""


class CountUp(Model):
    """`count_up`: a query parameter that counts pages or items, from the first page on.

    Reading ends when as many items were read as `total_from` says, or on an empty page.
    """

    parameter: NonEmpty
    """The query parameter."""
    first: WholeNumber = 1
    """Its value for the first page."""
    step: Annotated[int, BeforeValidator(number), Field(ge=1)] = 1
    """What is added for each further page."""
    total_from: NonEmpty | None = None
    """Dotted path in a page to how many items there are in all."""


class More(Model):
    """`next_page_from` as a map: while the flag at `more` holds, the parameter takes the value at `from`."""

    more: NonEmpty
    """Dotted path in a page to the flag that says that there is another."""
    parameter: NonEmpty
    """The query parameter that says where the next page begins."""
    origin: Annotated[NonEmpty, Field(alias="from")]
    """Dotted path in a page to its value, such as data.-1.id."""


class Paging(Model):
    """How to get from a page to the next: its whole URL, a token and where it goes, a flag and a value, or a count."""

    next_page_from: NonEmpty | More | None = None
    """Dotted path in a page to the whole URL of the next one, header:Link, or a map."""
    next_page_token_from: NonEmpty | None = None
    """Dotted path in a page to the token of the next one."""
    next_page: NonEmpty | None = None
    """The URL of the next page, with {{NEXT_PAGE_TOKEN}}."""
    count_up: CountUp | None = None
    """A query parameter that counts pages or items."""

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
    """What the answer contains where the service can be believed."""

    @model_validator(mode="after")
    def _expects_an_answer(self) -> Self:
        if not self.expected and self.status_code is None:
            raise ValueError("expected is empty: any answer would contain it; write what one says of a service that is")
        return self


class PagedListing(Paged):
    """A paged listing in which people are found by `match`."""

    url: NonEmpty
    """The first page."""
    method: Method = "GET"
    """The HTTP method, GET by default."""
    data_from: Text = ""
    """Dotted path in a page to its array."""
    match: NonEmpty
    """Dotted path within an item, compared with expected."""
    only: Compared = {}
    """Paths within an item, and what stands there in the items that count."""


class Listing(PagedListing):
    """`exists.list`: a paged listing that answers all checks, and shows unmanaged accounts."""

    account: NonEmpty | None = None
    """Dotted path within an item to what the account is called; default: match."""
    fields: Annotated[dict[NonEmpty, NonEmpty], AfterValidator(_fills_a_hire)] = {}
    """Keys of a hire, each with the dotted path within an item that fills it."""
    used: NonEmpty | None = None
    """Dotted path within an item to when the account was last used."""


class Pending(PagedListing):
    """`exists.pending`: a paged listing of the open invitations."""

    store_data: dict[Identifier, NonEmpty] = {}
    """Names to save, each with the dotted path of its value in the item."""


class Exists(Call):
    """The check: the account exists if the response contains `expected`."""

    method: Method = "GET"
    expected: Text | None = None
    """The account is there when the response contains this text."""
    store_data: dict[Identifier, NonEmpty] = {}
    """Names to save, each with the dotted path of its value in the response, record.PATH in it, or header:NAME."""
    record: Text | None = None
    """Dotted path to the account in the answer, or to a list that has it; default: the whole answer."""
    match: NonEmpty | None = None
    """Dotted path in the record: equal to expected as a whole, without case."""
    invited: Compared = {}
    """Paths in the record, and what stands there while the account is only invited."""
    where: Compared = {}
    """Paths in the record, and what git wants to stand there."""
    inactive: Compared = {}
    """Paths in the record, and what stands there where the account is switched off."""
    absent: Compared = {}
    """Paths in the answer, and what stands there where there is no such account."""
    pages: Annotated[Paging | None, empty_is_none] = None
    """How to get to the next page, where the answer is a listing."""
    ready: Ready | None = None
    """A request that has to be answered as it says before an absence counts."""
    pending: Pending | None = None
    """A paged listing of the invitations that are open."""
    listing: Annotated[Listing | None, Field(alias="list")] = None
    """A paged listing that answers for everybody."""

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
