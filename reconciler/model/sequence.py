"""Sequences: reusable bundles of access entries (docs/hires.md, "Sequence")."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from reconciler.model.base import Identifier, Model
from reconciler.model.condition import ConditionMap
from reconciler.model.hire import AccessEntry, no_entries, unique

__all__ = ["Sequence"]


class Sequence(Model):
    """A bundle of access entries, with those of the sequences that it includes.

    `assign` gives it to every hire for whom it holds.
    """

    assign: ConditionMap | None = None
    include: list[Identifier] = Field(default_factory=no_entries)
    access: list[AccessEntry] = Field(default_factory=no_entries)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        unique(self.access)
        return self
