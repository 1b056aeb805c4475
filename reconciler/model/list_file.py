"""What the models of files that are lists share."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import ConfigDict, RootModel

from reconciler.model.base import Model

__all__ = ["ListFile"]

M = TypeVar("M", bound=Model)


class ListFile(RootModel[list[M]], Generic[M]):
    """The base of every model of a file that is a list; its validators are built when there is such a file."""

    model_config = ConfigDict(defer_build=True)
