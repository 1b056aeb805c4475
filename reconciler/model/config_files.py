"""The files of `config/` beside the settings: what needs no owner, who may have what, and access reviews.

`config/ignore.yaml` (docs/files.md), `config/policy.yaml` (docs/settings.md, "Policy"), and
`config/reviews/<period>/[<manager>/]<integration>.yaml`. In a review, everything but `decision` and `reason` is the
population: it is written once, and compared with what was started (docs/design/rules.md, "Access reviews").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, timedelta
from fnmatch import translate
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from reconciler.model.base import Day, Duration, Identifier, ListFile, Model, Restricting, Text
from reconciler.model.condition import ConditionMap

__all__ = ["ANSWERED", "KEEP", "REMOVE", "Ignore", "IgnoredAccount", "PolicyFile", "Review", "ReviewLine", "Rule"]


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


Count = Annotated[int, Field(ge=0, strict=True)]


class Rule(Model):
    """One rule: what must not be held together, what entries require, or how many may hold something."""

    name: Identifier
    reason: Text | None = None
    never_both: Annotated[list[Identifier], Field(min_length=2)] | None = None
    must_not_have: Annotated[list[Identifier], Field(min_length=1)] | None = None
    must_have: Annotated[list[Identifier], Field(min_length=1)] | None = None
    hire: Identifier | None = None
    when: Annotated[ConditionMap | None, Restricting] = None
    require: Literal["until"] | None = None
    within: Annotated[Duration | None, Restricting] = None
    integration: Identifier | None = None
    values: Annotated[dict[Text, Annotated[Text, Restricting]], Restricting] = Field(default_factory=dict)
    at_least: Annotated[Count | None, Restricting] = None
    at_most: Annotated[Count | None, Restricting] = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        counts = self.at_least is not None or self.at_most is not None
        rules = (self.never_both, self.must_not_have, self.must_have, self.require)
        if sum(rule is not None for rule in rules) + counts != 1:
            raise ValueError(
                "a rule has one of never_both, must_not_have, must_have, require (with when), and at_least or at_most"
            )
        of_some = self.require or self.must_not_have or self.must_have
        if self.within is not None and self.require is None:
            raise ValueError("within belongs to require: until")
        if self.when is not None and not of_some:
            raise ValueError("when belongs to require: until, must_not_have and must_have")
        if self.hire is not None and not self.must_have:
            raise ValueError("hire belongs to must_have")
        if self.must_have and (self.hire is None) is (self.when is None):
            raise ValueError("must_have needs either hire or when: who must have them")
        if self.must_not_have and self.when is None:
            raise ValueError("must_not_have needs when: who may not have them")
        if counts and self.integration is None:
            raise ValueError("at_least and at_most need the integration that they count")
        if not counts and (self.integration is not None or self.values):
            raise ValueError("integration and values belong to at_least and at_most")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is more than at_most")
        if self.never_both is not None and len(set(self.never_both)) < len(self.never_both):
            raise ValueError("never_both names the same thing twice")
        if self.within is not None and self.within % timedelta(days=1):
            raise ValueError("within counts whole days, such as 90d")
        return self

    def __str__(self) -> str:
        return f"policy {self.name}{f' ({self.reason})' if self.reason else ''}"


class PolicyFile(ListFile[Rule]):
    """The file."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [rule.name for rule in self.root]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"rule {twice!r} stands twice: give each a name of its own")
        return self


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
