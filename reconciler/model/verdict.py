"""What a check found out. Not known and not checked are values with a reason, never None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Missing", "NoCheck", "Present", "Unknown", "Verdict"]


@dataclass(frozen=True, slots=True)
class Present:
    """The check found the account; `stored` is what the check's `store_data` saved.

    `under` is the address it was found under, where that is the hire's old one.
    """

    stored: Mapping[str, Any] = field(default_factory=dict, repr=False)
    under: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """The check was answered and did not find the account."""

    stored: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Unknown:
    """The check itself failed; nothing may be executed on it."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoCheck:
    """The manifest has no `exists`: a webhook."""


Verdict = Present | Missing | Unknown | NoCheck
