"""A valid file as a model, with the lines of its entries."""

from __future__ import annotations

from typing import Generic, TypeVar

from reconciler.model.base import Model
from reconciler.model.value import Frozen, Unshown
from reconciler.repository.documents.yaml import Document

__all__ = ["Loaded"]

M = TypeVar("M", bound=Model)


class Loaded(Frozen, Generic[M], kw_only=True):
    """A valid file. `lines` has one line number for each access entry."""

    stem: str
    path: str
    blob: str
    model: M
    lines: tuple[int, ...]
    document: Unshown[Document]

    def __eq__(self, other: object) -> bool:
        """Compare all but the documents, of which one may be read from a file and one from a commit."""
        return isinstance(other, Loaded) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> tuple[object, ...]:
        return self.path, self.blob, self.model, self.lines
