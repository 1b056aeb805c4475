"""What requests are signed with: `extra_headers: pritunl` takes its token and secret from the initial data."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from reconciler.model.errors import MissingVariable
from reconciler.model.scope import Scope
from reconciler.requests.template import written
from reconciler.transports.request import Pritunl

__all__ = ["SIGNED_WITH", "credentials", "signer"]

SIGNED_WITH = (("API_TOKEN", "PRITUNL_API_TOKEN"), ("API_SECRET", "PRITUNL_API_SECRET"))
"""The initial data that the signature is made of, by either of ChiefOnboarding's names."""


def credentials(scope: Scope) -> list[str]:
    """Return the token and the secret that requests are signed with. Raises MissingVariable."""
    return [written(_first(scope, *known)) for known in SIGNED_WITH]


def _first(scope: Scope, name: str, other: str) -> Any:
    try:
        return scope.look_up(name).value
    except MissingVariable:
        with suppress(MissingVariable):
            return scope.look_up(other).value
        raise


def signer(scope: Scope) -> Pritunl:
    """Return the signer of the scope's requests. Raises MissingVariable."""
    token, secret = credentials(scope)
    return Pritunl(token, secret)
