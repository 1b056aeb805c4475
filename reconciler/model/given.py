"""Who gave a grant: the commit that made git want it, and what that commit says."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from reconciler.model.value import value_class

__all__ = ["Given", "Untraced"]


@value_class
class Given:
    """The commit that gave a grant, with its author, its committer, and who approved it; people as `Name <address>`."""

    granted_in: str
    author: str
    committer: str
    committed_at: datetime
    approved_by: tuple[str, ...] = ()


class Untraced(NamedTuple):
    """Up to which revision it is known who gave a hire's grants, and the last one that may have given any since.

    A `since` of None is none: nothing is known of them.
    """

    since: str | None
    revision: str
