"""Which description each ready manifest is held against, and what to fill its form in with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SERVICES", "Described"]


@dataclass(frozen=True)
class Described:
    """`slice` has the operations below `base`. `values` are those that the example answers show."""

    slice: str
    base: str
    values: Mapping[str, Any] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()
    """Cases that the example answers cannot play, each with its reason beside it."""


SERVICES = {
    "github": Described("github", "https://api.github.com"),
    "slack": Described("slack", "https://slack.com/api"),
    "1password": Described("scim", "https://scim.example.com/scim"),
    "figma": Described("scim", "https://www.figma.com/scim/v2/acme"),
    "notion": Described("scim", "https://api.notion.com/scim/v2"),
    "snowflake": Described("scim", "https://example.snowflakecomputing.com/scim/v2"),
}
