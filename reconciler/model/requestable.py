"""Access on request: what people may ask for, and one request (docs/how-to/requests.md)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from reconciler.model.base import Duration, Identifier, ListFile, Model, Restricting, Text, as_text, spelled
from reconciler.model.condition import ConditionMap
from reconciler.model.hire import Entry, Hire, NamedChoice

__all__ = ["AccessRequest", "Requestable", "RequestableFile"]

ALLOWED = ("integration", "values", "at", "for", "until")
"""What a request's access has; `for` or `until` is required."""


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class Requestable(Model):
    """What may be asked for of one integration, by whom, for how long."""

    integration: Identifier
    who: Annotated[ConditionMap | None, Restricting] = None
    values: Annotated[
        dict[Text, Annotated[list[Text], BeforeValidator(_one_or_more), Field(min_length=1), Restricting]], Restricting
    ] = Field(default_factory=dict)
    longest: Annotated[Duration | None, Restricting] = None
    approvers: list[Text] = Field(default_factory=list)

    def objection(self, hire: Hire, entry: Entry, lasts: timedelta | None) -> str | None:
        """Return why a hire may not ask for an entry of this integration that lasts so long; None where it may."""
        if self.who is not None and not self.who.holds(hire):
            return f"it may be asked for by hires with {self.who}"
        for name, allowed in self.values.items():
            known = {text.strip().casefold() for text in allowed}
            for value in _texts(entry.values.get(name)):
                if value.strip().casefold() not in known:
                    return f"{name} is {value}, and may be {' or '.join(allowed)}"
        if self.longest is not None and (lasts is None or lasts > self.longest):
            asked = "any time" if lasts is None else spelled(_rounded(lasts))
            return f"it is asked for {asked}, and may be for at most {spelled(self.longest)}"
        return None

    def __str__(self) -> str:
        parts = [f"{name} {' or '.join(allowed)}" for name, allowed in self.values.items()]
        if self.longest is not None:
            parts.append(f"for at most {spelled(self.longest)}")
        if self.who is not None:
            parts.append(f"by hires with {self.who}")
        return f"{self.integration} ({', '.join(parts)})" if parts else self.integration


def _rounded(lasts: timedelta) -> timedelta:
    """Round up to minutes, a long time to days: to a moment that `until` names it is never a round one."""
    unit = timedelta(days=1) if lasts > timedelta(days=2) else timedelta(minutes=1)
    return -(-lasts // unit) * unit


class RequestableFile(ListFile[Requestable]):
    """The file."""


def _requested(entry: Entry) -> Entry:
    for key in ("name", "keep", "needs"):
        if key in entry.model_fields_set:
            raise ValueError(f"{key} is not for a request: it has {', '.join(ALLOWED)}")
    if entry.until is None and entry.for_ is None:
        raise ValueError("for or until is required: a request ends")
    return entry


def _moment(value: Any) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError("not a time: write it like 2026-12-01T09:12:00Z")
    return at


class AccessRequest(Model):
    """One request: an access entry of a hire, why, and who asked for it when."""

    hire: Identifier
    access: Annotated[Entry, AfterValidator(_requested)]
    reason: Annotated[Text, Field(min_length=1)]
    requested_by: Text | None = None
    requested_at: Annotated[datetime | None, BeforeValidator(_moment)] = None

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not self.reason.strip():
            raise ValueError("reason: say why")
        return self


def _texts(value: Any) -> list[str]:
    """Return a value of a form as texts, a choice by its name."""
    if value is None:
        return []
    return [each.name if isinstance(each, NamedChoice) else str(as_text(each)) for each in _one_or_more(value)]
