"""The result of a check. Unknown and not checked are values with a reason, never None."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from reconciler.model.value import Frozen, Unshown

Difference = tuple[Any, Any]
"""What stands there, or None, and what is wanted."""


class Account(StrEnum):
    """The state of an account that exists."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    INVITED = "invited"


class Cause(StrEnum):
    """The cause of a failed check, or of a grant that cannot run: who has to do something."""

    BUSY = "busy"
    """The service is down, or asks for a pause: nobody has to, it is asked again."""
    INITIAL_DATA = "initial_data"
    """The service refused the token that is in the initial data, or some of that is missing."""
    CONNECTION = "connection"
    """The service refused the token that somebody connected it with, or nobody did."""


class Present(Frozen):
    """The check found the account; `stored` is what the check's `store_data` saved.

    `under` is the address it was found under, where that is the hire's old one. `record` is the account in the answer,
    `differs` what of it is not as git wants it, path by path.
    """

    stored: Unshown[Mapping[str, Any]] = {}
    under: str | None = None
    account: Account = Account.ACTIVE
    differs: Unshown[Mapping[str, Difference]] = {}
    record: Unshown[Any] = None


class Missing(Frozen):
    """The check was answered and did not find the account."""

    stored: Unshown[Mapping[str, Any]] = {}


class Invited(Frozen):
    """A person whom the check does not find has an open invitation; `stored` is what `pending` saves of it."""

    stored: Unshown[Mapping[str, Any]] = {}


class Unknown(Frozen):
    """The check itself failed; nothing may be executed on it.

    `lacks_account`: it was answered without the account, and without saying that there is none.
    """

    reason: str
    lacks_account: bool = False
    cause: Cause | None = None


class NoCheck(Frozen):
    """The manifest has no `exists`: a webhook."""


Verdict = Present | Missing | Unknown | NoCheck


def is_off(verdict: Verdict | None) -> bool:
    """Whether the account was found switched off: nobody can use it."""
    return isinstance(verdict, Present) and verdict.account is Account.INACTIVE


def is_invited(verdict: Verdict | None) -> bool:
    """Whether the check itself says that the person is only invited."""
    return isinstance(verdict, Present) and verdict.account is Account.INVITED
