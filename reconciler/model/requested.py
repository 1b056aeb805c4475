"""That somebody asked for a grant (docs/how-to/requests.md)."""

from __future__ import annotations

from datetime import datetime

from reconciler.model.clock import stamp
from reconciler.model.value import Frozen

__all__ = ["Requested"]

SHOWN = 200
"""So much of a request's reason is in a line of the history."""


class Requested(Frozen):
    """That somebody asked for a grant, why and when; `refusal` is why it may not be asked for, if it may not."""

    reason: str
    requested_by: str | None = None
    requested_at: datetime | None = None
    refusal: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The object of docs/commands.md, "JSON"."""
        return {"reason": self.reason, "requested_by": self.requested_by, "requested_at": stamp(self.requested_at)}

    def __str__(self) -> str:
        why = self.reason
        return f"asked for by {self.requested_by or 'somebody'}: {' '.join(why.split())[:SHOWN]}"
