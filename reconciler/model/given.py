"""Who gave a grant: the commit that made git want it, and what that commit says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Given"]


@dataclass(frozen=True, slots=True)
class Given:
    """The commit that gave a grant, with its author, its committer, and who approved it; people as `Name <address>`."""

    granted_in: str
    author: str
    committer: str
    committed_at: datetime
    approved_by: tuple[str, ...] = ()
