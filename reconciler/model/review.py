"""`config/reviews/<period>/[<manager>/]<integration>.yaml`: who has access at a time, and what reviewers decide.

Everything but `decision` and `reason` is the population: it is written once, and compared with what was started
(docs/design/rules.md, "Access reviews").
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from reconciler.model.base import Model, Text

__all__ = ["ANSWERED", "KEEP", "REMOVE", "Review", "ReviewLine"]

KEEP, REMOVE = "keep", "remove"

ANSWERED = ("decision", "reason")
"""The keys of a line that its reviewer fills in; all else is the population."""

_Count = Annotated[int, Field(ge=0, strict=True)]


class ReviewLine(Model):
    """A grant, or an unmanaged account, and the decision on it. `who` is a hire or the account."""

    who: Text
    access: Text | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    since: Text | None = None
    last_used: Text | None = None
    granted_in: Text | None = None
    author: Text | None = None
    approved_by: list[Text] = Field(default_factory=list)
    request: Text | None = None
    decision: Literal["keep", "remove"] | None = None
    reason: Text | None = None


class Review(Model):
    """The file. `listed` is None if the integration has no listing; `history` if it was empty."""

    revision: Text
    read_at: Text
    listed: _Count | None
    matched: _Count
    ignored: _Count
    complete: Annotated[bool, Field(strict=True)]
    history: Text | None
    due: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    digest: Text
    lines: list[ReviewLine]
