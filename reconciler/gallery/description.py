"""Read a service's description of its API, OpenAPI 3 or Swagger 2, for the operations of an account's life.

Names are all that a description says about what an operation is for, so what is found here is a candidate, no more: an
operation about people is told by the words in its path, a check by what it can be asked with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reconciler.model.errors import UsageError
from reconciler.model.value import Frozen, Unshown

PEOPLE = ("users", "members", "people", "persons", "accounts", "teammates", "memberships", "seats", "user")
"""The last words of paths that are about people, the likeliest first."""

METHODS = ("get", "post", "put", "patch", "delete")
LARGEST = 64 * 1024 * 1024
DEEPEST = 8
"""References that are followed one after the other."""

_PARAMETER = re.compile(r"\{([^}]+)\}")


class Operation(Frozen, eq=False):
    """One operation: its method, its path below the server's URL, and what it takes and answers."""

    method: str
    path: str
    summary: str
    query: Unshown[Mapping[str, Any]] = {}
    body: Unshown[Mapping[str, Any]] = {}
    required: frozenset[str] = frozenset()
    answer: Unshown[Mapping[str, Any]] = {}
    status: str = "200"
    answer_headers: frozenset[str] = frozenset()

    def __str__(self) -> str:
        what = " ".join(self.summary.split())[:80]
        return f"{self.method} {self.path}" + (f": {what}" if what else "")

    @property
    def segments(self) -> list[str]:
        """Return the parts of its path."""
        return [part for part in self.path.split("/") if part]

    @property
    def parameters(self) -> list[str]:
        """Return the names of the path's parameters."""
        return _PARAMETER.findall(self.path)

    @property
    def of_one(self) -> bool:
        """Whether its path ends with a parameter: it is about one of a collection."""
        return bool(self.segments) and _PARAMETER.fullmatch(self.segments[-1]) is not None

    @property
    def collection(self) -> str:
        """Return the last word of the path that is no parameter, without an extension."""
        words = [part for part in self.segments if not _PARAMETER.fullmatch(part)]
        return re.split(r"[.:]", words[-1].lower())[0] if words else ""

    @property
    def rank(self) -> tuple[int, int, int]:
        """Return a sort key: the likeliest word, then the fewest parameters, then the shortest path."""
        return PEOPLE.index(self.collection), len(self.parameters) - self.of_one, len(self.segments)


class Description(Frozen):
    """What a manifest is begun from."""

    title: str
    version: str
    base: str
    operations: tuple[Operation, ...]
    security: tuple[Mapping[str, Any], ...]

    def people(self, *methods: str, one: bool) -> list[Operation]:
        """Return the operations of these methods about people, or about one of them; the likeliest first."""
        found = [
            each
            for each in self.operations
            if each.method in methods and each.of_one is one and each.collection in PEOPLE
        ]
        return sorted(found, key=lambda each: each.rank)


def read_description(file: Path) -> Description:
    """Read a description, JSON or YAML. Raises UsageError if it is none."""
    if file.stat().st_size > LARGEST:
        raise UsageError(
            f"{file}: a description of more than {LARGEST >> 20} MiB is not read; cut it to what is needed"
        )
    data = _parsed(file)
    if not isinstance(data, dict) or not isinstance(data.get("paths"), dict):
        raise UsageError(f"{file} is no description of an API: it has no `paths`, as OpenAPI 3 and Swagger 2 have")
    info = _map(data.get("info"))
    return Description(
        title=str(info.get("title") or file.stem),
        version=str(info.get("version") or ""),
        base=_base(data),
        operations=tuple(_operations(data)),
        security=tuple(_security(data)),
    )


def _parsed(file: Path) -> Any:
    content = file.read_bytes()
    try:
        return json.loads(content)
    except ValueError:
        pass
    import yaml

    try:
        return yaml.load(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{file} is neither JSON nor YAML: {str(error).splitlines()[0]}") from None


def _map(value: Any) -> Mapping[str, Any]:
    """Return a map, an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def _base(data: Mapping[str, Any]) -> str:
    """Return the server's URL, without a slash at its end."""
    servers = data.get("servers")
    if isinstance(servers, list) and servers and isinstance(servers[0], dict):
        url = str(servers[0].get("url") or "")
        for name, variable in _map(servers[0].get("variables")).items():
            url = url.replace(f"{{{name}}}", str(_map(variable).get("default") or "example"))
    else:
        url = f"https://{data.get('host') or 'api.example.com'}{data.get('basePath') or ''}"
    if not url.startswith(("https://", "http://")):
        url = f"https://api.example.com{url if url.startswith('/') else ''}"
    return re.sub(r"^http://", "https://", url).rstrip("/")


def _operations(data: Mapping[str, Any]) -> Iterator[Operation]:
    for path, item in data["paths"].items():
        shared = item.get("parameters", []) if isinstance(item, dict) else []
        for method in METHODS:
            operation = item.get(method) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                yield _operation(data, str(path), method, operation, shared if isinstance(shared, list) else [])


def _operation(
    data: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any], shared: list[Any]
) -> Operation:
    parameters = [_resolved(data, each) for each in [*shared, *(operation.get("parameters") or [])]]
    query = {str(each.get("name")): each for each in parameters if each.get("in") == "query"}
    body = next((_schema(data, each.get("schema")) for each in parameters if each.get("in") == "body"), None)
    if body is None:
        body = _schema(data, _content(_resolved(data, operation.get("requestBody") or {})))
    responses = _map(operation.get("responses"))
    good = sorted(str(code) for code in responses if str(code).startswith("2"))
    status = good[0] if good else "200"
    answer = _resolved(data, next((responses[code] for code in responses if str(code) == status), {}))
    headers = _map(answer.get("headers"))
    return Operation(
        method=method.upper(),
        path=path,
        summary=str(operation.get("summary") or operation.get("operationId") or ""),
        query=query,
        body=_properties(data, body),
        required=frozenset(map(str, body.get("required") or ())),
        answer=_schema(data, answer.get("schema") or _content(answer)),
        status=status if status.isdigit() else "200",
        answer_headers=frozenset(str(name).lower() for name in headers),
    )


def _content(part: Mapping[str, Any]) -> Any:
    """Return the schema of a body's JSON, else of its first kind."""
    content = _map(part.get("content"))
    kinds = [value for kind, value in content.items() if "json" in str(kind)] or list(content.values())
    return kinds[0].get("schema") if kinds and isinstance(kinds[0], dict) else None


def _resolved(data: Mapping[str, Any], part: Any) -> Mapping[str, Any]:
    """Follow a reference within the file."""
    for _ in range(DEEPEST):
        if not isinstance(part, dict):
            return {}
        reference = part.get("$ref")
        if not isinstance(reference, str):
            return part
        part = data
        for step in reference.removeprefix("#/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")  # noqa: PLW2901  RFC 6901
            part = part.get(step) if isinstance(part, dict) else None
    return {}


def _schema(data: Mapping[str, Any], schema: Any, levels: int = 2) -> Mapping[str, Any]:
    """Return a schema with what `allOf` adds, its properties and its items resolved so many levels deep."""
    found = _resolved(data, schema)
    properties = _properties(data, found)
    if levels > 1:
        properties = {name: _schema(data, each, levels - 1) for name, each in properties.items()}
    made: dict[str, Any] = {**found, "properties": properties}
    if "items" in found:
        made["items"] = {"properties": _properties(data, _resolved(data, found["items"]))}
    return made


def _properties(data: Mapping[str, Any], schema: Mapping[str, Any], levels: int = DEEPEST) -> dict[str, Any]:
    found = {str(name): _resolved(data, each) for name, each in _map(schema.get("properties")).items()}
    for each in (schema.get("allOf") or ()) if levels else ():
        found |= _properties(data, _resolved(data, each), levels - 1)
    return found


def _security(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    schemes = _map(data.get("components")).get("securitySchemes") or data.get("securityDefinitions")
    for scheme in _map(schemes).values():
        yield _resolved(data, scheme)
