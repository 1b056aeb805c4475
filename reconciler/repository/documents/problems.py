"""Report what is wrong in a file so that its author can act on it.

Pydantic reports an error for every branch of a union and names types of the program. Here its errors are walked
together with the model's types, so that each becomes one sentence of the form `key.path: what; allowed …; did you mean
…?`, and an error in a union becomes the sentence of the branch that was meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from copy import deepcopy
from datetime import date
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, RootModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.model.base import Misplaced
from reconciler.model.errors import Problem, Severity
from reconciler.model.text import hint
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import Document

MOST = 100
"""The most problems of one file and severity that are shown."""

Path = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_KEPT = frozenset({"missing", "restricts"})
"""The errors of a key with nothing under it that is not taken out."""

_Errors = list[tuple[Path, ErrorDetails]]


def validated(model: type[M], data: Any) -> M:
    """Return a file's data as its model, a key with nothing under it as if it were not there. Raises ValidationError.

    A key that restricts is refused instead. Only a file that is refused is looked at again, so that others pay nothing:
    where `null` is a value, as in request data and for `git.fetch`, the model takes it.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        places = [
            each["loc"]
            for each in error.errors(include_url=False)
            if each["input"] is None and each["type"] not in _KEPT
        ]
        if not places:
            raise
    data = deepcopy(data)
    for place in places:
        _take_out(data, place)
    return model.model_validate(data)


def _take_out(data: Any, place: tuple[int | str, ...]) -> None:
    """Remove the key at a place of pydantic's, which also names the branches of unions."""
    parent, key = None, None
    for step in place:
        if isinstance(data, dict) and step in data:
            parent, key, data = data, step, data[step]
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            parent, data = None, data[step]
    if parent is not None and data is None:
        del parent[key]


class _Named(int):
    """An item's place in a list; it is shown as the item's name."""

    name: str

    def __str__(self) -> str:
        return self.name


def _named(loc: Path, items: Any) -> Path:
    """Let the first step of a place be shown as the name that the item there has, if it has one."""
    if not loc or not isinstance(loc[0], int) or not isinstance(items, list):
        return loc
    item = items[loc[0]]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return loc
    step = _Named(loc[0])
    step.name = repr(item["name"])
    return (step, *loc[1:])


def model_of(document: Document, model: type[M]) -> M:
    """Return a file's data as its model; of an empty file, what has nothing in it. Raises BrokenFile."""
    kind: Any = model.model_fields["root"].annotation if issubclass(model, RootModel) else model
    nothing: Any = {} if kind is model else []
    try:
        return validated(model, nothing if document.data is None else document.data)
    except ValidationError as error:
        raise BrokenFile(*explain(error, kind, document)) from None


def explain(error: ValidationError, model: Any, document: Document) -> list[Problem]:
    """Return a problem, with its line, for each error. `model` is the file's model, or a list of models."""
    errors: _Errors = [(_named(details["loc"], document.data), details) for details in error.errors(include_url=False)]
    found = _walk(errors, model, (), document.data)
    problems = list(few(Problem(document.file, document.line(path), message) for path, message in found))
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.message))


def few(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Limit problems to the first hundred of each severity, with a note that there are more.

    Nothing is read after a hundred errors; after as many warnings there may still be an error.
    """
    counts: Counter[Severity] = Counter()
    for problem in problems:
        counts[problem.severity] += 1
        if counts[problem.severity] <= MOST:
            yield problem
        elif counts[problem.severity] == MOST + 1:
            yield Problem(problem.file, None, f"there are more than {MOST}: mend these first", problem.severity)
            if problem.severity is Severity.ERROR:
                return


def path_of(place: str) -> Path:
    """Return the path that `dotted` writes as this place."""
    return tuple(int(step) if step.isdigit() else step for step in place.split("."))


def dotted(path: Path, message: str) -> str:
    """Prefix a message with the place that it is about."""
    return f"{'.'.join(map(str, path))}: {message}" if path else message


def placed(document: Document, path: Path, message: str, severity: Severity = Severity.ERROR) -> Problem:
    """Make a problem of what is at a path of a file."""
    return Problem(document.file, document.line(path), dotted(path, message), severity)


def unknown(word: str, known: Iterable[str], what: str = "unknown key") -> str:
    """Say that a word is not in a closed set, which one was probably meant, and the set."""
    known = list(known)
    return f"{what}; allowed: {', '.join(known)}{hint(word, known)}"


# --- the walk --------------------------------------------------------------------------------------------------------


def _walk(errors: _Errors, kind: Any, path: Path, data: Any) -> Iterator[tuple[Path, str]]:
    """Yield the errors at and under one place; `kind` is the type wanted there, `data` the file's value."""
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        yield from _union(errors, kind, path, data)
        return
    groups: dict[str | int, _Errors] = {}
    for place, details in errors:
        if not place:
            yield _leaf(details, kind, path)
        elif place == ("[key]",):
            yield path, _literal(details, kind)
        else:
            groups.setdefault(place[0], []).append((place[1:], details))
    for step, under in groups.items():
        wanted = _wanted(kind, step)
        if wanted is None:
            yield (*path, step), dotted((*path, step), unknown(str(step), _keys(kind)))
        elif get_origin(kind) is dict and under[0][0] == ("[key]",):
            names = _literals(get_args(kind)[0])
            sentence = unknown(str(step), names) if names else _sentence(under[0][1], kind)
            yield (*path, step), dotted((*path, step), sentence)
        else:
            yield from _walk(under, wanted, (*path, step), _inside(data, step))


def _union(errors: _Errors, kind: Any, path: Path, data: Any) -> Iterator[tuple[Path, str]]:
    """Choose the branch of a union that was meant: pydantic reports errors for each branch."""
    branches = [_bare(branch) for branch in get_args(kind) if branch is not NoneType]
    for branch in branches:
        kind = dict if _is_model(branch) else get_origin(branch)
        if kind in (dict, list) and isinstance(data, kind):
            name = branch.__name__ if _is_model(branch) else f"{kind.__name__}["
            under = [(place[1:], details) for place, details in errors if place and str(place[0]).startswith(name)]
            yield from _walk(under, branch, path, data)
            return
    if data is None:
        yield path, dotted(path, _EMPTY)
        return
    names = list(dict.fromkeys(_name(branch) for branch in sorted(branches, key=_is_composed)))
    yield path, dotted(path, f"must be {', '.join(names[:-1])} or {names[-1]}")


def _leaf(details: ErrorDetails, kind: Any, path: Path) -> tuple[Path, str]:
    if isinstance(error := details.get("ctx", {}).get("error"), Misplaced):
        path = (*path, *error.path)
    sentence = _sentence(details, kind)
    if path and sentence.startswith(f"{path[-1]} is "):
        sentence = sentence.replace(f"{path[-1]} is", "must be", 1)
    return path, dotted(path, sentence)


_EMPTY = "is empty: give it a value, or take the key out"
_SENTENCES = {
    "missing": "required, and not there",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "list_type": "must be a list: begin each line of it with `- `, or write it in [ ]",
    "dict_type": "must be a map of `key: value` lines",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must begin with a letter or a digit, and have letters, digits, `.`, `_` and `-` only",
}


def _sentence(details: ErrorDetails, kind: Any) -> str:
    what, context = details["type"], details.get("ctx", {})
    if details["input"] is None and what not in ("missing", "value_error"):
        return _EMPTY
    match what:
        case "value_error":
            return str(context["error"])
        case "literal_error" | "enum":
            return _literal(details, kind)
        case "model_type" | "model_attributes_type":
            return f"must be {kind.written_as}; allowed keys: {', '.join(_keys(kind))}"
        case "too_short":
            least = context["min_length"]
            return "must not be empty" if least == 1 else f"must have at least {least}"
        case "too_long":  # only a name has a longest length
            return f"must have at most {context['max_length']} characters"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}"
        case "less_than_equal":
            return f"must be at most {context['le']:g}"
        case "greater_than":
            return "must be more than 0"
        case _:
            message = details["msg"]
            return _SENTENCES.get(what, message[:1].lower() + message[1:])


def _literal(details: ErrorDetails, kind: Any) -> str:
    given = details["input"]
    word = given if isinstance(given, str) else ""
    return unknown(word, _literals(kind), f"{word!r} is not known" if word else "not known")


# --- types -----------------------------------------------------------------------------------------------------------


def _bare(kind: Any) -> Any:
    """Return a type without its annotations, and without `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
            continue
        if get_origin(kind) in (Union, UnionType):
            left = [branch for branch in get_args(kind) if branch is not NoneType]
            if len(left) == 1:
                kind = left[0]
                continue
        return kind


def _is_composed(kind: Any) -> bool:
    return kind not in _SCALARS


_SCALARS = {str: "text", int: "a number", float: "a number", bool: "true or false", date: "a date"}


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fields(kind: Any) -> dict[str, Any]:
    fields = kind.model_fields.items() if _is_model(kind) else ()
    return {field.alias or name: field.annotation for name, field in fields}


def _keys(kind: Any) -> list[str]:
    return list(_fields(kind))


def _wanted(kind: Any, step: str | int) -> Any:
    """Return the type at one step inwards; None if a model has no such key."""
    if _is_model(kind):
        return _fields(kind).get(str(step))
    arguments = get_args(kind)
    return arguments[-1] if arguments else Any


def _literals(kind: Any) -> list[str]:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(each.value) for each in kind]
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


def _name(kind: Any) -> str:
    if _is_model(kind):
        return f"a map {{{', '.join(f'{key}: …' for key in _keys(kind))}}}"
    if get_origin(kind) is list:
        return "a list of these"
    if get_origin(kind) is Literal:
        return f"the word {' or '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is dict:
        return "a map"
    return _SCALARS.get(kind, "a value")


def _inside(data: Any, step: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(step)
    return data[step] if isinstance(data, list) and isinstance(step, int) and step < len(data) else None
