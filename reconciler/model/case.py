"""A case of a manifest's tests: what a service answers about a made-up person, and what a pass makes of that.

`manifests/NAME.test.yaml` is a list of them (docs/manifest.md, "Tests").
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from reconciler.model.base import Email, ListFile, Model, Text, jsonable, refuse_twice
from reconciler.model.hire import Hire
from reconciler.model.request import Headers, Method, NonEmpty, StatusCode
from reconciler.model.status import Status

Json = Annotated[Any, AfterValidator(jsonable)]
"""What travels as JSON: a day that stands without quotes is its text."""


class Person(Hire):
    """A made-up hire."""

    email: Email = "ada@example.com"
    first_name: Text = "Ada"
    last_name: Text = "Lovelace"


class CannedAnswer(Model):
    """An answer to a request; with `data`, only to one that sends this."""

    url: NonEmpty
    """The request's whole URL."""
    method: Method = "GET"
    """Its method, GET by default."""
    data: Json = None
    """Answer only a request that sends this."""
    status: StatusCode = 200
    """The status code, 200 by default."""
    headers: Headers = {}
    """The answer's headers."""
    body: Json = None
    """JSON, or a text."""


class SentRequest(Model):
    """A request that the pass would send; what is left out is not compared."""

    url: NonEmpty | None = None
    """The URL."""
    method: Method | None = None
    """The method."""
    data: Json = None
    """What is sent."""


class Before(Model):
    """What was sent last time: the form's values, and those of the hire that were others."""

    values: dict[Text, Any] = {}
    """The values that were sent: of the form, and the hire's that changed since."""


class Case(Model):
    """A person, the service's answers, and the expected plan."""

    name: NonEmpty
    """What the case shows."""
    hire: Person = Person()
    """The made-up person; Ada Lovelace by default."""
    values: dict[Text, Any] = {}
    """The values of the manifest's form."""
    data: dict[Text, Text] = {}
    """The initial data; what is left out is made up."""
    answers: list[CannedAnswer] = []
    """What the service answers, in any order."""
    listed: Annotated[bool, Field(alias="list")] = False
    """true: the account is looked for in the listing first."""
    orphan: bool = False
    """true: the person left, and prune is revoke."""
    before: Before | None = None
    """What was sent last time."""
    expect: Status
    """The status of the plan."""
    reason: Text | None = None
    """A part of the plan's reason."""
    sends: list[SentRequest] | None = None
    """The requests that the pass would send, in order."""


class CaseFile(ListFile[Case]):
    """The cases of one manifest."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        refuse_twice(((place, "name"), case.name) for place, case in enumerate(self.root))
        return self
