"""Who gave a grant: the commit that made git want it, and what that commit says."""

from __future__ import annotations

from datetime import datetime

from reconciler.model.value import value_class

__all__ = ["Given"]


@value_class
class Given:
    """The commit that gave a grant, with its author, its committer, and who approved it; people as `Name <address>`."""

    granted_in: str
    author: str
    committer: str
    committed_at: datetime
    approved_by: tuple[str, ...] = ()
