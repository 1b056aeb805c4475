"""What the daemon acts on."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.not_taken_over import Untrusted
from reconciler.model.settings import Settings
from reconciler.repository.git.trees import Tree

__all__ = ["Acting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """The revision in force, None before one could be read, and its settings.

    It is replaced as a whole, once a commit was taken over wholly. `refused` and `fault` say why the newest commit is
    not in force: it is not trusted, or this program failed over it.
    """

    settings: Settings
    tree: Tree | None = None
    refused: Untrusted | None = None
    fault: str | None = None
