"""`config/ignore.yaml`: accounts that need no owner, why, and until when (docs/files.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from fnmatch import translate
from functools import cached_property
from typing import Annotated

from pydantic import Field

from reconciler.model.base import Day, Identifier, Model, Restricting, Text
from reconciler.model.list_file import ListFile

__all__ = ["Ignore", "IgnoredAccount"]


class IgnoredAccount(Model):
    """Accounts of one integration that need no hire's grant."""

    integration: Identifier
    account: Annotated[Text, Field(min_length=1)]
    reason: Annotated[Text, Field(min_length=1)]
    owner: Text | None = None
    until: Annotated[Day | None, Restricting] = None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(translate(self.account.lower()))

    def covers(self, names: Iterable[str], today: date) -> bool:
        """Whether it applies to an account with one of these names; through the day of `until`."""
        return (self.until is None or today <= self.until) and any(
            self._pattern.fullmatch(name.lower()) for name in names
        )


class Ignore(ListFile[IgnoredAccount]):
    """The file."""
