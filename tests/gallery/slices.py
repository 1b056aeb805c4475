"""The vendors' own descriptions of their APIs, where they are at hand: beside a checkout, in `shared/data/openapi`.

They are others' text, so none of it is in this repository. `openapi-core` says whether a request is as the description
has it; it does not mind a query parameter or a field of a body that nobody described, so those are looked for here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "openapi"

needs_slices = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the vendors' descriptions are not here: ../shared/data/openapi beside the checkout"
)


@dataclass(frozen=True)
class Example:
    """An answer as the service gives it."""

    operations: tuple[str, ...]
    case: str
    status: int
    headers: Mapping[str, str]
    body: Any
    about: Mapping[str, str]
    items: str | None
    when: Mapping[str, str | None]
    """Of a second page: the query that asks for it."""


class Slice:
    """One service's description: its operations, and example answers."""

    def __init__(self, name: str) -> None:
        self.description: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        self.description["servers"] = [{"url": "https://any.example"}]
        # Whether a description is itself in order is its vendor's concern, and takes longer than all that it is asked.
        self._checked = OpenAPI.from_dict(self.description, config=Config(spec_validator_cls=None))
        files = sorted((FOLDER / "examples" / name).glob("*.json"))
        self.examples = [_example(json.loads(file.read_text())) for file in files]
        paths = sorted(self.description["paths"], key=lambda path: path.count("{"))
        self._paths = [(path, re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)))) for path in paths]

    def operation(self, method: str, path: str) -> str | None:
        """`GET /users/{id}`: which operation a request is; None where the description has no such."""
        for template, pattern in self._paths:
            if pattern.fullmatch(path) and method.lower() in self.description["paths"][template]:
                return f"{method} {template}"
        return None

    def problems(self, method: str, target: str, content: bytes | None, content_type: str) -> list[str]:
        """What is not as described in a request; `target` is its path and query below the API's base."""
        path, query = urlsplit(target).path, parse_qsl(urlsplit(target).query, keep_blank_values=True)
        operation = self.operation(method, path)
        if operation is None:
            return [f"{method} {path} is no operation"]
        kind = content_type.partition(";")[0]
        if kind.endswith("+json"):
            kind = "application/json"
        asked = MockRequest("https://any.example", method, path, args=dict(query), data=content, content_type=kind)
        found = [f"{operation}: {_told(error)}" for error in self._checked.iter_request_errors(asked)]
        item = self.description["paths"][operation.partition(" ")[2]]
        described = item[method.lower()]
        parameters = [self._real(each) for each in [*item.get("parameters", []), *described.get("parameters", [])]]
        names = {each["name"] for each in parameters if each["in"] == "query"}
        found += [f"{operation}: unknown query parameter {name}" for name, _ in query if name not in names]
        if content:
            found += [f"{operation}: {each}" for each in self._unknown_fields(described, content, kind)]
        return found

    def _unknown_fields(self, described: Any, content: bytes, kind: str) -> Iterator[str]:
        body = self._real(described.get("requestBody", {})).get("content", {})
        if not body:
            yield "takes no body"
        elif kind not in body and not any(name.endswith("+json") for name in body):
            yield f"takes {', '.join(body)}, not {kind}"
        else:
            schema = body.get(kind, next(iter(body.values()))).get("schema", {})
            sent = parse_qs(content.decode()) if kind.endswith("urlencoded") else json.loads(content)
            yield from self._unknown(schema, sent, "")

    def _unknown(self, schema: Any, sent: Any, at: str) -> Iterator[str]:
        schema = self._real(schema)
        if isinstance(sent, list) and "items" in schema:
            for item in sent:
                yield from self._unknown(schema["items"], item, at)
        if not isinstance(sent, dict):
            return
        known, free = self._fields(schema)
        for name, value in sent.items():
            if name in known:
                yield from self._unknown(known[name], value, f"{at}{name}.")
            elif not free:
                yield f"unknown field {at}{name}"

    def _fields(self, schema: Any) -> tuple[dict[str, Any], bool]:
        """The fields that a schema names, and whether it takes others as well."""
        schema = self._real(schema)
        known = dict(schema.get("properties", {}))
        parts = [*schema.get("allOf", []), *schema.get("anyOf", []), *schema.get("oneOf", [])]
        free = bool(schema.get("additionalProperties")) or not (known or parts)
        for part in parts:
            inner, more = self._fields(part)
            known, free = {**inner, **known}, free or (more and bool(inner))
        return known, free

    def _real(self, part: Any) -> Any:
        while isinstance(part, dict) and "$ref" in part:
            at: Any = self.description
            for step in part["$ref"].removeprefix("#/").split("/"):
                at = at[step.replace("~1", "/").replace("~0", "~")]
            part = at
        return part


def _told(error: BaseException) -> str:
    causes = [str(error)]
    while (error := error.__cause__ or error.__context__) is not None:  # type: ignore[assignment]
        causes.append(str(error))
    more = [str(each.message) for each in getattr(error, "schema_errors", ())]
    return ": ".join([*causes, *more])


def _example(raw: dict[str, Any]) -> Example:
    operations = raw["operation"] if isinstance(raw["operation"], list) else [raw["operation"]]
    return Example(
        operations=tuple(operations),
        case=raw["case"],
        status=raw["status"],
        headers=raw.get("headers") or {},
        body=raw["body"],
        about=raw["about"],
        items=raw.get("items"),
        when=raw.get("when") or {},
    )


@cache
def slice_of(name: str) -> Slice:
    """A service's slice, read once."""
    return Slice(name)
