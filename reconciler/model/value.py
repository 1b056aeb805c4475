"""Immutable values."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, dataclass_transform

from msgspec import Struct, field

from reconciler.model.clock import stamp

if TYPE_CHECKING:
    from dataclasses import replace  # of it, the type checker knows which fields there are
else:
    from msgspec.structs import replace

__all__ = ["Frozen", "Unshown", "fields", "replace"]

T = TypeVar("T")

Unshown = Annotated[T, "left out of repr"]
"""The type of a field that may be secret, or is bulky."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen(Struct, frozen=True):
    """The base of immutable values: made, copied and compared in C, and quick to define at each start."""

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Give what `repr` shows to whoever asks for it field by field: a struct of its own would give all."""
        left_out = _unshown(type(self))
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in left_out]


def _unshown(kind: type[Frozen]) -> frozenset[str]:
    return frozenset(
        name
        for each in kind.__mro__
        for name, annotation in vars(each).get("__annotations__", {}).items()
        if "Unshown[" in annotation
    )


def fields(value: object, *names: str) -> dict[str, Any]:
    """Return some fields of a value as JSON has them; nulls where there is no value."""
    if value is None:
        return dict.fromkeys(names)
    found = {name: getattr(value, name) for name in names}
    for name, item in found.items():
        if isinstance(item, datetime):
            found[name] = stamp(item)
        elif isinstance(item, tuple):
            found[name] = list(item)
    return found
