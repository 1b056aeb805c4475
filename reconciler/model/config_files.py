"""The files of `config/` beside the settings: what needs no owner, who may have or ask for what, and access reviews.

`config/ignore.yaml` (docs/files.md), `config/policy.yaml` (docs/settings.md, "Policy"), `config/requestable.yaml`
(docs/how-to/requests.md), and `config/reviews/<period>/[<manager>/]<integration>.yaml`. In a review, everything but
`decision` and `reason` is the population: it is written once, and compared with what was started
(docs/design/rules.md, "Access reviews").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from fnmatch import translate
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from reconciler.model.base import (
    Day,
    Duration,
    Identifier,
    Lasting,
    ListFile,
    Model,
    Restricting,
    Text,
    as_text,
    one_or_more,
    refuse_twice,
    spelled,
)
from reconciler.model.condition import ConditionMap
from reconciler.model.hire import Entry, Hire, NamedChoice


class IgnoredAccount(Model):
    """Accounts of one integration that need no hire's grant."""

    integration: Identifier
    """The integration that the accounts are in."""
    account: Annotated[Text, Field(min_length=1)]
    """What the account is called, without case; * stands for anything."""
    reason: Annotated[Text, Field(min_length=1)]
    """Why nobody has to own it."""
    owner: Text | None = None
    """Who answers for it."""
    until: Annotated[Day | None, Restricting] = None
    """The last day that this holds."""

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
    """What messages call the rule; unique."""
    reason: Text | None = None
    """Why there is the rule."""
    never_both: Annotated[list[Identifier], Field(min_length=2)] | None = None
    """Access entries or integrations of which nobody may hold two."""
    must_not_have: Annotated[list[Identifier], Field(min_length=1)] | None = None
    """Access entries or integrations that the hires meant by when may not have."""
    must_have: Annotated[list[Identifier], Field(min_length=1)] | None = None
    """Access entries or integrations that the hire, or those meant by when, must not lose."""
    hire: Identifier | None = None
    """Who must have them, by id."""
    when: Annotated[ConditionMap | None, Restricting] = None
    """Whose entries: hires for whom this condition holds."""
    require: Literal["until"] | None = None
    """until: each of these entries has an end."""
    within: Annotated[Duration | None, Restricting] = None
    """The end comes within so many days, such as 90d."""
    integration: Identifier | None = None
    """The integration whose grants are counted."""
    values: Annotated[dict[Text, Annotated[Text, Restricting]], Restricting] = Field(default_factory=dict)
    """Only grants with these form values are counted."""
    at_least: Annotated[Count | None, Restricting] = None
    """So many there have to be."""
    at_most: Annotated[Count | None, Restricting] = None
    """So many there may be."""

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
        refuse_twice(((place, "name"), rule.name) for place, rule in enumerate(self.root))
        return self


KEEP, REMOVE = "keep", "remove"

ANSWERED = ("decision", "reason")
"""The keys of a line that its reviewer fills in; all else is the population."""


class ReviewLine(Model):
    """A grant, or an unmanaged account, and the decision on it. `who` is a hire or the account."""

    who: Text
    """A hire's id, or the account."""
    access: Text | None = None
    """The access entry; empty: an account that git does not know."""
    values: dict[str, Any] = Field(default_factory=dict)
    """The form as the entry fills it in; of an account, what it is known by."""
    since: Text | None = None
    """Since when it is there."""
    last_used: Text | None = None
    """When it was last used, where the service says so."""
    granted_in: Text | None = None
    """The commit that gave it."""
    author: Text | None = None
    """Who wrote that commit."""
    approved_by: list[Text] = Field(default_factory=list)
    """Who approved it."""
    request: Text | None = None
    """Who asked for it, and why."""
    decision: Literal["keep", "remove"] | None = None
    """keep or remove: yours to fill in."""
    reason: Text | None = None
    """Why: yours to fill in."""


class Review(Model):
    """The file. `listed` is None if the integration has no listing; `history` if it was empty."""

    revision: Text
    """The commit that was reviewed."""
    read_at: Text
    """When the service was asked."""
    listed: Count | None
    """Accounts in the listing; empty: there is none."""
    matched: Count
    """Accounts that a hire has a grant for."""
    ignored: Count
    """Accounts that config/ignore.yaml names."""
    complete: Annotated[bool, Field(strict=True)]
    """Whether the listing was read whole."""
    history: Text | None
    """The digest of the history up to then."""
    due: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    """The day by which all lines have to be decided."""
    digest: Text
    """The digest of all but decisions and reasons."""
    lines: list[ReviewLine]
    """Each grant, and each account that git does not know."""


# --- access on request ------------------------------------------------------------------------------------------------

ALLOWED = ("integration", "values", "at", "for", "until")
"""What a request's access has; `for` or `until` is required."""


class Requestable(Model):
    """What may be asked for of one integration, by whom, for how long."""

    integration: Identifier
    """The integration that may be asked for."""
    who: Annotated[ConditionMap | None, Restricting] = None
    """Who may ask: hires for whom this condition holds; everybody by default."""
    values: Annotated[
        dict[Text, Annotated[list[Text], BeforeValidator(one_or_more), Field(min_length=1), Restricting]], Restricting
    ] = Field(default_factory=dict)
    """Form fields, each with the values that may be asked for; others are free."""
    longest: Annotated[Lasting | None, Restricting] = None
    """The longest that it may be asked for, such as 24h."""
    approvers: list[Text] = Field(default_factory=list)
    """Logins at the forge that are asked for a review."""

    def objection(self, hire: Hire, entry: Entry, lasts: timedelta | None) -> str | None:
        """Return why a hire may not ask for an entry of this integration that lasts so long; None where it may."""
        if self.who is not None and not self.who.holds(hire):
            return f"it may be asked for by hires with {self.who}"
        for name, allowed in self.values.items():
            known = {text.strip().casefold() for text in allowed}
            given = entry.values.get(name)
            for value in _texts(hire.extra.get(name) if given is None else given):
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
    """Whom the access is for, by id."""
    access: Annotated[Entry, AfterValidator(_requested)]
    """An access entry: integration, values, at, for or until."""
    reason: Annotated[Text, Field(min_length=1)]
    """Why it is needed."""
    requested_by: Text | None = None
    """Who asked."""
    requested_at: Annotated[datetime | None, BeforeValidator(_moment)] = None
    """When."""

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if not self.reason.strip():
            raise ValueError("reason: say why")
        return self


def _texts(value: Any) -> list[str]:
    """Return a value of a form as texts, a choice by its name."""
    if value is None:
        return []
    return [each.name if isinstance(each, NamedChoice) else str(as_text(each)) for each in one_or_more(value)]
