"""What the daemon acts on."""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.revision_status import Untrusted
from reconciler.model.settings import Settings
from reconciler.repository.git.trees import Tree

__all__ = ["Acting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acting:
    """The revision in force (None before the first one was read), its branch and its settings.

    It is replaced as a whole when a commit has been taken over. `head_ignored` says what else HEAD is on. `refused` and
    `fault` say why the newest commit is not in force: it is not trusted, or it cannot be read, or this program failed
    while it took it over.
    """

    settings: Settings
    tree: Tree | None = None
    branch: str | None = None
    head_ignored: str | None = None
    refused: Untrusted | None = None
    fault: str | None = None
