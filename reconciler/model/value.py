"""Immutable value classes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

__all__ = ["value_class"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value_class(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots, whose fields the type checker lets nobody assign.

    It is for what a check makes many of. A dataclass that is frozen while the program runs sets each of its fields by a
    call, which takes a seventh of a check's processor time.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
