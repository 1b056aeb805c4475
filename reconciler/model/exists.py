"""`exists`: how to check accounts at a service, one by one or by a listing.

Where a value is compared, `path → value` is a map from a dotted path to what has to stand there; the values are
templates, null, `{not: V}` or `{contains: V}`.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from reconciler.model.base import Identifier, Text
from reconciler.model.condition import FIELDS
from reconciler.model.hire import EXTRA
from reconciler.model.request import Call, Method, NonEmpty, Paged, Paging, empty_is_none

__all__ = ["FILLED", "OPERATORS", "Compared", "Exists", "Listing", "Pending", "Ready", "operator"]

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
        if not self.expected:
            for key, what in (
                ("list", self.listing),
                ("match", self.match),
                ("pending", self.pending),
                ("absent", self.absent),
                ("pages", self.pages),
            ):
                if what:
                    raise ValueError(f"{key} needs expected: {_NEEDED[key]}")
        return self

    @model_validator(mode="after")
    def _pages_lead_on(self) -> Self:
        if self.pages is not None:
            self.pages.place_token(self.data)
        return self


_NEEDED = {
    "list": "what `match` is compared with",
    "match": "what it is compared with",
    "pending": "what `match` is compared with",
    "absent": "what an answer says of an account that is there",
    "pages": "what is looked for on each of them",
}
