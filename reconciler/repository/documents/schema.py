"""Make JSON Schema of users' files for editors, from the models and their validators.

A validator is code, which pydantic leaves out of a schema. Each one that a file's model has is named here with what it
means for the schema; one that is not named stops the generation, so that none can be forgotten. The keywords are those
of draft 7, which every editor knows. What a schema cannot say (an unknown zone, a name that stands twice) is left to
`reconcile validate`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from reconciler.model.base import DAY, DURATION, EMAIL, Model, spelled
from reconciler.model.case import CaseFile
from reconciler.model.condition import FIELDS, Sequence
from reconciler.model.config_files import AccessRequest, Ignore, PolicyFile, RequestableFile, Review
from reconciler.model.hire import AT, TIME, UNTIL, At, Hire
from reconciler.model.imports import LEFT_EMPTY, Import
from reconciler.model.manifest import Manifest
from reconciler.model.scope import KNOWN_NAMES
from reconciler.model.settings import Settings
from reconciler.repository.naming import Kind

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
        return _BEFORE[_name(schema)](self.generate_inner(schema["schema"]))

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        if isinstance(schema["function"]["function"], partial):
            return inner  # a bound or a length of pydantic's own, which it puts into the schema itself
        return _AFTER[_name(schema)](inner)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        made = super().default_schema(schema)
        inner = schema["schema"]
        restricts = inner["type"] == "function-before" and _name(inner) == "_given"
        return made if restricts else _or_nothing(made)

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in schema["cls"].descriptions().items() if issubclass(schema["cls"], Model) else ():
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
    return str(schema["function"]["function"].__name__)


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    """Add a description; beside a `$ref` older editors look at nothing else."""
    if "$ref" not in schema:
        return {**schema, "description": text}
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**beside, "allOf": [{"$ref": schema["$ref"]}], "description": text}


# --- what validators mean --------------------------------------------------------------------------------------------

_Rule = Callable[[dict[str, Any]], dict[str, Any]]

_ID = "^[A-Za-z0-9_]+$"
_TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_SOME = {"type": "array", "minItems": 1}
_DAY = {"type": "string", "pattern": f"^{DAY.pattern}$"}
_LASTING = {"type": "string", "pattern": f"^{DURATION.pattern}$"}
_DURATION = {"anyOf": [_LASTING, {"type": "number", "minimum": 0}]}


def _either(*ways: dict[str, Any]) -> _Rule:
    return lambda inner: {"anyOf": [inner, *ways]}


def _instead(schema: dict[str, Any]) -> _Rule:
    return lambda _inner: dict(schema)


def _with(**more: Any) -> _Rule:
    return lambda inner: {**inner, **more}


def _all_of(*rules: dict[str, Any]) -> _Rule:
    return lambda inner: {**inner, "allOf": [*inner.get("allOf", []), *rules]}


def _any_case(inner: dict[str, Any]) -> dict[str, Any]:
    patterns = ["".join(f"[{letter}{letter.lower()}]" for letter in word) for word in inner["enum"]]
    return {"anyOf": [inner, {"type": "string", "pattern": f"^({'|'.join(patterns)})$"}]}


def _or_one(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, inner["items"]]}


def _says(**values: dict[str, Any]) -> dict[str, Any]:
    """Return what holds where these keys are there, with such values."""
    return {"required": list(values), "properties": values}


def _any_of(*keys: str) -> dict[str, Any]:
    return {"anyOf": [{"required": [key]} for key in keys]}


def _one_of(*keys: str) -> dict[str, Any]:
    return {"oneOf": [{"required": [key]} for key in keys]}


def _not_both(*keys: str) -> dict[str, Any]:
    return {"not": {"required": list(keys)}}


def _where(key: str, then: dict[str, Any]) -> dict[str, Any]:
    return {"if": {"required": [key]}, "then": then}


def _needs(key: str, *others: str) -> dict[str, Any]:
    return _where(key, {"required": list(others)})


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


_UNSAID = (
    *("_moment", "_dated", "_provisions_accounts", "_committed", "_requested"),
    *("_has_a_reason", "_key", "_not_empty", "host_name", "_a_second", "_a_day_at_most", "_pages_lead_on"),
    *("_keeps_checkpoints_apart", "_fills_a_hire", "_can_be_asked", "jsonable", "web_address"),
)
"""The validators that check what a schema cannot say."""

_BEFORE: dict[str, _Rule] = {
    **dict.fromkeys(_UNSAID, _with()),
    "_given": _not_null,
    "as_text": _with(**_TEXT),
    "_email": _instead({"type": "string", "pattern": f"^{EMAIL.pattern}$"}),
    "duration": _instead(_DURATION),
    "lasting": _instead(_LASTING),
    "day": _instead(_DAY),
    "_never": _instead({"anyOf": [_DURATION, {"enum": [None, False, "never"]}]}),
    "_at_text": _instead(
        {"anyOf": [{"enum": ["commit", "start"]}, {"type": "string", "pattern": f"^{AT.pattern}$"}, _DAY]}
    ),
    "_until_text": _instead(
        {"anyOf": [*({"type": "string", "pattern": f"^{each.pattern}$"} for each in (UNTIL, TIME)), _DAY]}
    ),
    "_entry": _either({"type": "string", "minLength": 1, "description": "Short for {integration: NAME}."}),
    "_or_empty": _either({"type": "null"}),
    "_upper": _any_case,
    "one_or_more": _or_one,
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
}


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


_COUNTS = _any_of("at_least", "at_most")
_OF_WHOM = {"when": _any_of("require", "must_not_have", "must_have"), "must_have": _one_of("hire", "when")}
_AFTER: dict[str, _Rule] = {
    **dict.fromkeys(_UNSAID, _with()),
    "_authority_url": _with(pattern=r"^https?://"),
    "_forge_url": _with(pattern=r"^https?://"),
    "_project": _with(pattern=r"^[^/]+(/[^/]+)+$"),
    "_condition": _condition_schema,
    "_names_are_unique": _with(uniqueItems=True),
    "_unique": _with(uniqueItems=True),
    "_zone": _with(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"),
    "_without_nul": _with(pattern=r"^[^\x00]*$"),
    "_one_line": _with(pattern=r"^[^\x00-\x1f\x7f]*$"),
    "_header": _with(pattern=r"^[A-Za-z0-9!#$%&'+*.^_`|~-]+$"),
    "_network": _with(pattern=r"^[0-9A-Fa-f:.]+(/[1-9][0-9]{0,2})?$"),
    "_home": _with(pattern=r"^(~$|~/|[^~])"),
    "listening": _with(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*):[0-9]{1,5}$"),
    "_full_id": _with(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$"),
    "state_url": _with(pattern=r"^(sqlite:///|postgresql://)"),
    "_placeholder": _with(pattern=r"^\s*\{\{\s*[A-Za-z_][A-Za-z0-9_.]*\s*\}\}\s*$"),
    "_names_a_header": _all_of(_one_of("header", "scheme")),
    "_proves_whose_they_are": _all_of(_one_of("signature", "token")),
    "_polling_has_an_end": _all_of(_needs("polling", "continue_if")),
    "_token_has_a_place": _all_of(_where("next_page_token_from", _any_of("next_page", "data"))),
    "_goes_to_one_place": _all_of(_not_both("directory", "branch"), _not_both("directory", "remote")),
    "_one_way_on": _all_of(
        _needs("next_page", "next_page_token_from"),
        _not_both("next_page_from", "next_page_token_from"),
        _not_both("count_up", "next_page_from"),
        _not_both("count_up", "next_page_token_from"),
    ),
    "_expects_something": _all_of(
        {"anyOf": [_says(expected={**_TEXT, "minLength": 1}), _says(status_code=_SOME)]},
        *(_needs(key, "expected") for key in ("list", "match", "pending", "absent", "pages")),
    ),
    "_has_options": _all_of(
        {
            "if": _says(type={"enum": ["choice", "multiple_choice"]}),
            "then": {"anyOf": [_says(items=_SOME), {"required": ["url"]}]},
        }
    ),
    "_comparable": _with(propertyNames={"minLength": 1}),
    "_expects_an_answer": _all_of(_any_of("expected", "status_code")),
    "_has_a_receiver": _all_of({"if": _says(type={"const": "email"}), "then": {"required": ["to"]}}),
    "_authorized_by_somebody": _all_of(_any_of("grant", "authenticate_url")),
    "_comes_from_one_place": _all_of(_one_of("file", "execute")),
    "_holds_something": _all_of(_any_of("integration", "hire")),
    "_verifies_commits": _all_of(
        {"not": _says(source={"const": "worktree"}, git=_says(verify_signatures={"const": True}))}
    ),
    "_shares_commits": _all_of({"not": _says(source={"const": "worktree"}, state={"pattern": "^postgresql:"})}),
    "_says_one_thing": _all_of(
        {"oneOf": [*_one_of("never_both", "must_not_have", "must_have", "require")["oneOf"], _COUNTS]},
        *(_needs(*pair) for pair in (("within", "require"), ("hire", "must_have"), ("must_not_have", "when"))),
        *(_where(key, then) for key, then in _OF_WHOM.items()),
        *(_needs(key, "integration") for key in ("at_least", "at_most")),
        *(_where(key, _COUNTS) for key in ("integration", "values")),
    ),
    "_one_receiver": _all_of(_one_of("email", "webhook")),
}
