"""Take a key with nothing under it for one that is not there, unless it restricts.

Only a file that is refused is looked at again, so that others pay nothing: where `null` is a value, as in request data
and for `git.fetch`, the model takes it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

__all__ = ["validated"]

M = TypeVar("M", bound=BaseModel)

_KEPT = frozenset({"missing", "restricts"})


def validated(model: type[M], data: Any) -> M:
    """Return a file's data as its model. Raises ValidationError."""
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
