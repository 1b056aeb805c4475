"""Make JSON Schema of users' files for editors, from the models and their validators.

A validator is code, which pydantic leaves out of a schema. One that takes other forms of a value, or refuses some by a
pattern, is named here with what that means for the schema. What several keys have to be together (a rule's parts, a
name that stands twice) is left to `reconcile validate`. The keywords are those of draft 7, which every editor knows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from reconciler.model.base import DAY, DURATION, EMAIL, spelled
from reconciler.model.case import CaseFile
from reconciler.model.condition import FIELDS, Sequence
from reconciler.model.config_files import AccessRequest, Ignore, PolicyFile, RequestableFile, Review
from reconciler.model.hire import AT, TIME, UNTIL, At, Hire
from reconciler.model.imports import LEFT_EMPTY, Import
from reconciler.model.manifest import Manifest
from reconciler.model.scope import KNOWN_NAMES
from reconciler.model.settings import Settings
from reconciler.repository.documents.descriptions import DESCRIPTIONS
from reconciler.repository.naming import Kind

__all__ = ["KINDS", "json_schema"]

KINDS: dict[Kind, tuple[type[BaseModel], str]] = {
    "manifest": (Manifest, "Access reconciler: manifests/<integration>.yaml"),
    "hire": (Hire, "Access reconciler: hires/<hire>.yaml"),
    "sequence": (Sequence, "Access reconciler: config/sequences/<name>.yaml"),
    "settings": (Settings, "Access reconciler: config/reconciler.yaml"),
    "ignore": (Ignore, "Access reconciler: config/ignore.yaml"),
    "import": (Import, "Access reconciler: config/imports/<name>.yaml"),
    "policy": (PolicyFile, "Access reconciler: config/policy.yaml"),
    "request": (AccessRequest, "Access reconciler: config/requests/<name>.yaml"),
    "requestable": (RequestableFile, "Access reconciler: config/requestable.yaml"),
    "test": (CaseFile, "Access reconciler: manifests/<integration>.test.yaml"),
    "review": (Review, "Access reconciler: config/reviews/<period>/<integration>.yaml"),
}


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the schema of one kind of file (`reconcile schema`, docs/commands.md)."""
    model, title = KINDS[kind]
    schema = _bounded(model.model_json_schema(by_alias=True, schema_generator=_Generator))
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": title}


_BOUNDS = {"ge": "minimum", "le": "maximum", "gt": "exclusiveMinimum"}


def _bounded(schema: Any) -> Any:
    """Use JSON Schema's keys for bounds if pydantic left its own; bounds of durations are dropped."""
    if isinstance(schema, list):
        return [_bounded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key not in _BOUNDS or not isinstance(value, str)}
    return {_BOUNDS.get(key, key): _bounded(value) for key, value in kept.items()}


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, extended by what the validators mean."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        return _MEANS.get(_name(schema), _as_it_is)(self.generate_inner(schema["schema"]))

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        return _MEANS.get(_name(schema), _as_it_is)(self.generate_inner(schema["schema"]))

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        inner = schema["schema"]
        restricts = inner["type"] == "function-before" and _name(inner) == "_given"
        return made if restricts else _or_nothing(made)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for base in reversed(schema["cls"].__mro__):
            for name, text in DESCRIPTIONS.get(base.__name__, {}).items():
                # Beside a `$ref` older editors look at nothing else.
                made["properties"][name] = _described(made["properties"][name], text)
        if issubclass(schema["cls"], Hire):
            names = {"pattern": _ID, "not": {"enum": sorted(KNOWN_NAMES)}}
            made["properties"]["extra"]["propertyNames"] = names
        return made

    def encode_default(self, dft: Any) -> Any:
        match dft:
            case At():
                return "commit"
            case timedelta():
                return spelled(dft)
            case BaseModel():
                return {}
            case _:
                return super().encode_default(dft)


def _name(schema: Any) -> str:
    return getattr(schema["function"]["function"], "__name__", "")  # a bound of pydantic's own has none


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    if "$ref" not in schema:
        return {**schema, "description": text}
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**beside, "allOf": [{"$ref": schema["$ref"]}], "description": text}


# --- what validators mean --------------------------------------------------------------------------------------------

_Rule = Callable[[dict[str, Any]], dict[str, Any]]

_ID = "^[A-Za-z0-9_]+$"
_TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_DAY = {"type": "string", "pattern": f"^{DAY.pattern}$"}
_LASTING = {"type": "string", "pattern": f"^{DURATION.pattern}$"}
_DURATION = {"anyOf": [_LASTING, {"type": "number", "minimum": 0}]}


def _either(*ways: dict[str, Any]) -> _Rule:
    return lambda inner: {"anyOf": [inner, *ways]}


def _instead(schema: dict[str, Any]) -> _Rule:
    return lambda _inner: dict(schema)


def _with(**more: Any) -> _Rule:
    return lambda inner: {**inner, **more}


def _as_it_is(inner: dict[str, Any]) -> dict[str, Any]:
    return inner


def _any_case(inner: dict[str, Any]) -> dict[str, Any]:
    patterns = ["".join(f"[{letter}{letter.lower()}]" for letter in word) for word in inner["enum"]]
    return {"anyOf": [inner, {"type": "string", "pattern": f"^({'|'.join(patterns)})$"}]}


def _or_one(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, inner["items"]]}


def _no_entry_twice(inner: dict[str, Any]) -> dict[str, Any]:
    entries = inner["properties"]["access"] if "properties" in inner else inner
    entries["uniqueItems"] = True
    return inner


def _items_of_any_keys(inner: dict[str, Any]) -> dict[str, Any]:
    each = {"type": "object", "description": "An option: `id` and `name`, or what choice_value and choice_name say."}
    items = inner["properties"]["items"]
    described = {key: items[key] for key in ("description",) if key in items}
    inner["properties"]["items"] = {"type": ["array", "null"], "items": each, **described}
    return inner


def _left_empty_too(inner: dict[str, Any]) -> dict[str, Any]:
    description = "Left empty by ChiefOnboarding's builder; nothing reads it."
    inner["properties"] |= {key: {"enum": [{}, [], "", None], "description": description} for key in LEFT_EMPTY}
    return inner


def _or_nothing(inner: JsonSchemaValue) -> JsonSchemaValue:
    """Return what a key takes that may have nothing under it, as if it were not there."""
    nothing = {"type": "null"}
    if "anyOf" in inner:
        return inner if nothing in inner["anyOf"] else {**inner, "anyOf": [*inner["anyOf"], nothing]}
    if "$ref" in inner:
        return {**{key: inner[key] for key in inner if key != "$ref"}, "anyOf": [{"$ref": inner["$ref"]}, nothing]}
    made = dict(inner)
    if isinstance(kind := inner.get("type"), str):
        made["type"] = [kind, "null"]
    elif isinstance(kind, list) and "null" not in kind:
        made["type"] = [*kind, "null"]
    if None not in inner.get("enum", [None]):
        made["enum"] = [*inner["enum"], None]
    return made


def _not_null(inner: JsonSchemaValue) -> JsonSchemaValue:
    """Return what a key that restricts takes: not nothing."""
    if "anyOf" not in inner:
        return inner
    return {**inner, "anyOf": [branch for branch in inner["anyOf"] if branch != {"type": "null"}]}


def _condition_schema(_inner: dict[str, Any]) -> dict[str, Any]:
    values = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
    negated = {"type": "object", "properties": {"not": values}, "required": ["not"], "additionalProperties": False}
    test = {"anyOf": [*values["anyOf"], negated]}
    tests: dict[str, Any] = dict.fromkeys(FIELDS, test)
    inner = {"type": "object", "minProperties": 1}
    return {
        **inner,
        "properties": {**tests, "any": {"type": "array", "items": inner, "minItems": 1}, "not": inner},
        "patternProperties": {r"^extra\..": test},
        "additionalProperties": False,
    }


_MEANS: dict[str, _Rule] = {
    "_given": _not_null,
    "as_text": _with(**_TEXT),
    "_email": _instead({"type": "string", "pattern": f"^{EMAIL.pattern}$"}),
    "duration": _instead(_DURATION),
    "lasting": _instead(_LASTING),
    "day": _instead(_DAY),
    "_never": _instead({"anyOf": [_DURATION, {"enum": [None, False, "never"]}]}),
    "_at": _instead({"anyOf": [{"enum": ["commit", "start"]}, {"type": "string", "pattern": f"^{AT.pattern}$"}, _DAY]}),
    "_until": _instead(
        {"anyOf": [*({"type": "string", "pattern": f"^{each.pattern}$"} for each in (UNTIL, TIME)), _DAY]}
    ),
    "_entry": _either({"type": "string", "minLength": 1, "description": "Short for {integration: NAME}."}),
    "_or_empty": _either({"type": "null"}),
    "_many": _or_one,
    "_upper": _any_case,
    "_one_or_more": _or_one,
    "_headers": _either(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"key": _TEXT, "value": _TEXT},
                "required": ["key", "value"],
                "additionalProperties": False,
            },
        }
    ),
    "number": _either({"type": "string", "pattern": r"^\d+$"}),
    "_one_or_many": _or_one,
    "_by_kind": _either({"enum": ["heal", "report"]}),
    "_starttls": _either({"type": "boolean"}),
    "_empty_is_none": _either({"enum": [{}, [], "", None]}),
    "_items_by_their_keys": _items_of_any_keys,
    "_as_the_builder_writes": _left_empty_too,
    "_authority_url": _with(pattern=r"^https?://"),
    "_forge_url": _with(pattern=r"^https?://"),
    "_project": _with(pattern=r"^[^/]+(/[^/]+)+$"),
    "_condition": _condition_schema,
    "_names_are_unique": _no_entry_twice,
    "_zone": _with(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"),
    "_one_line": _with(pattern=r"^[^\x00-\x1f\x7f]*$"),
    "_header": _with(pattern=r"^[A-Za-z0-9!#$%&'+*.^_`|~-]+$"),
    "_network": _with(pattern=r"^[0-9A-Fa-f:.]+(/[1-9][0-9]{0,2})?$"),
    "_home": _with(pattern=r"^(~$|~/|[^~])"),
    "listening": _with(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*):[0-9]{1,5}$"),
    "_full_id": _with(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$"),
    "_state": _with(pattern=r"^(sqlite:///|postgresql://)"),
    "_placeholder": _with(pattern=r"^\s*\{\{\s*[A-Za-z_][A-Za-z0-9_.]*\s*\}\}\s*$"),
    "_comparable": _with(propertyNames={"minLength": 1}),
}
"""By the validator's name, what it means for the schema of what it looks at."""
