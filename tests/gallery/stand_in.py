"""A service on loopback that answers as the example answers say, about the people who are there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.gallery.services import Described
from tests.gallery.slices import Example, slice_of
from tests.servers import Received, Reply, Service


class StandIn(Service):
    """`there` are the stems of the people that the service knows, and `state` what they are in it."""

    def __init__(self, described: Described) -> None:
        super().__init__()
        self.slice = slice_of(described.slice)
        self.base = urlsplit(described.base).path
        self.there: Sequence[str] = ()
        self.invited: str | None = None
        self.state = "found"
        self.problems: list[str] = []
        self._turns: Counter[str] = Counter()
        self._listing = ""

    def begins(self, state: str, *there: str, invited: str | None = None) -> None:
        """What the service knows from now on; what was asked before is forgotten."""
        self.state, self.there, self.invited = state, there, invited
        self.requests.clear()
        self._turns.clear()

    def can(self, operation: str, *cases: str) -> bool:
        """Whether there is an example answer of one of these kinds; a general one does for no search by POST."""
        exact = operation.startswith("POST")
        return any(self._example(operation, case, exact=exact) is not None for case in cases)

    def operation(self, url: str, method: str = "GET") -> str:
        """Which operation a URL of the manifest leads to."""
        return self.slice.operation(method, urlsplit(url).path.removeprefix(self.base)) or ""

    def handle(self, received: Received) -> Reply:
        """The example that fits."""
        operation = self.slice.operation(received.method, received.path.removeprefix(self.base))
        if operation is None:  # GitHub's second page has another path than its first
            operation = self._listing
        else:
            target = received.target.removeprefix(self.base)
            kind = received.headers.get("Content-Type", "")
            self.problems += self.slice.problems(received.method, target, received.body, kind)
        if self.state == "refused":
            return self._reply(self._example(operation, "refused"), None)
        asked = unquote(received.target) + received.body.decode()
        people = [name for name in self.there if name in asked]
        if self.can(operation, "pending"):
            return self._reply(self._example(operation, "pending"), self.invited)
        if self.can(operation, "ready", "form"):
            return self._reply(self._example(operation, "ready") or self._example(operation, "form"), None)
        about_one = "person" in asked
        if about_one and people:
            example = self._example(operation, self.state) or self._example(operation, "page-1")
            return self._reply(example, people[0])
        if about_one:
            exact = self._example(operation, "not-found", exact=True) or self._example(operation, "page-1")
            return self._reply(exact or self._example(operation, "not-found") or self._nothing(), None)
        return self._page(operation, dict(parse_qsl(urlsplit(received.target).query)))

    def _page(self, operation: str, query: Mapping[str, str]) -> Reply:
        """One page of everybody: a person a page, as many pages as there are examples of, then an empty one."""
        self._listing = operation
        turn = self._turns[operation] if not self._asks_for_second(operation, query) else 1
        self._turns[operation] += 1
        first, second = self._example(operation, "page-1"), self._example(operation, "page-2")
        state = self._example(operation, self.state, exact=True)
        pages = second if turn and second else first
        example = (state or pages) if self.state != "found" else (pages or state)
        if example is None:
            return Reply(404, {"error": f"no example of {operation}"})
        if turn >= (2 if second else 1) and second:
            return Reply(200, _emptied(self._reply(example, None).body, example), {})
        return self._reply(example, self.there[turn] if turn < len(self.there) else f"stranger{turn}")

    def _asks_for_second(self, operation: str, query: Mapping[str, str]) -> bool:
        """Whether a query has the token of page two, which may lead to another operation than page one."""
        example = self._example(operation, "page-2")
        asked = {} if example is None else {key: value for key, value in example.when.items() if value is not None}
        return bool(asked) and asked.items() <= query.items()

    def _example(self, operation: str, case: str, *, exact: bool = False) -> Example | None:
        fitting = [each for each in self.slice.examples if each.case == case]
        found = next((each for each in fitting if operation in each.operations), None)
        return found or (None if exact else next((each for each in fitting if "*" in each.operations), None))

    def _nothing(self) -> Example | None:
        """A service says of another thing that it is not there what it says of a person."""
        return next((each for each in self.slice.examples if each.case == "not-found" and each.status == 404), None)

    def _reply(self, example: Example | None, person: str | None) -> Reply:
        if example is None:
            return Reply(404, {})
        text, headers = json.dumps([example.body, dict(example.headers)]), {}
        if person is not None:
            mine = {"email": f"{person}@example.com", "login": person, "name": person.title()}
            for there, kind in sorted(example.about.items(), key=lambda item: -len(item[0])):
                text = text.replace(there, mine.get(kind, there))
        body, headers = json.loads(text.replace("${base}", self.url))
        return Reply(example.status, b"" if body is None else body, headers)


def _emptied(body: Any, example: Example) -> Any:
    """The same page without anybody."""
    at = body
    for step in filter(None, (example.items or "").split(".")):
        at = at[step]
    at.clear()
    return body
