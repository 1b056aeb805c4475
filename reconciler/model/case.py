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
    method: Method = "GET"
    data: Json = None
    status: StatusCode = 200
    headers: Headers = {}
    body: Json = None


class SentRequest(Model):
    """A request that the pass would send; what is left out is not compared."""

    url: NonEmpty | None = None
    method: Method | None = None
    data: Json = None


class Before(Model):
    """What was sent last time: the form's values, and those of the hire that were others."""

    values: dict[Text, Any] = {}


class Case(Model):
    """A person, the service's answers, and the expected plan."""

    name: NonEmpty
    hire: Person = Person()
    values: dict[Text, Any] = {}
    data: dict[Text, Text] = {}
    answers: list[CannedAnswer] = []
    listed: Annotated[bool, Field(alias="list")] = False
    orphan: bool = False
    before: Before | None = None
    expect: Status
    reason: Text | None = None
    sends: list[SentRequest] | None = None


class CaseFile(ListFile[Case]):
    """The cases of one manifest."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        refuse_twice(((place, "name"), case.name) for place, case in enumerate(self.root))
        return self
