"""Immutable values."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, TypeVar, dataclass_transform

from msgspec import Struct, field

if TYPE_CHECKING:
    from dataclasses import replace  # of it, the type checker knows which fields there are
else:
    from msgspec.structs import replace

__all__ = ["Frozen", "Unshown", "replace"]

T = TypeVar("T")

Unshown = Annotated[T, "left out of repr"]
"""The type of a field that may be secret, or is bulky."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Frozen(Struct, frozen=True):
    """The base of immutable values: made, copied and compared in C, and quick to define at each start."""

    def __repr__(self) -> str:
        names = (name for name in self.__struct_fields__ if name not in _unshown(type(self)))
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


@cache
def _unshown(kind: type[Frozen]) -> frozenset[str]:
    return frozenset(
        name
        for each in kind.__mro__
        for name, annotation in vars(each).get("__annotations__", {}).items()
        if "Unshown[" in annotation
    )
