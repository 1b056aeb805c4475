"""A valid file as a model, with the lines of its entries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from reconciler.model.base import Model
from reconciler.repository.documents.yaml import Document

__all__ = ["Loaded"]

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[M]):
    """A valid file. `lines` has one line number for each access entry."""

    stem: str
    path: str
    blob: str
    model: M
    lines: tuple[int, ...]
    document: Document = field(repr=False, compare=False)
