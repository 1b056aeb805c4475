"""What a service tells of an account, and how it proves that it is the service (docs/manifest.md, "events")."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from reconciler.model.base import Model, Text
from reconciler.model.request import NonEmpty
from reconciler.model.template import PLACEHOLDER

__all__ = ["Events", "Signature", "Token"]


def _placeholder(value: str) -> str:
    if PLACEHOLDER.fullmatch(value.strip()) is None:
        raise ValueError("a secret is never written out: write {{HOOK_SECRET}}, and store it in the initial data")
    return value.strip()


Kept = Annotated[Text, AfterValidator(_placeholder)]
"""A placeholder of one value of the initial data, and nothing else."""


class Signature(Model):
    """An HMAC-SHA256 of the body in a header; or as Standard Webhooks have it, with an id and a time."""

    scheme: Literal["standard-webhooks"] | None = None
    header: NonEmpty | None = None
    prefix: Text = ""
    encoding: Literal["hex", "base64"] = "hex"
    secret: Kept

    @model_validator(mode="after")
    def _names_a_header(self) -> Self:
        if (self.scheme is None) is (self.header is None):
            raise ValueError("a signature has a header, or scheme: standard-webhooks, which names its own")
        return self


class Token(Model):
    """A header that holds the secret itself."""

    header: NonEmpty
    value: Kept


class Events(Model):
    """How the service's events are recognized, and which path of their body names the account."""

    signature: Signature | None = None
    token: Token | None = None
    account: Text

    @model_validator(mode="after")
    def _proves_whose_they_are(self) -> Self:
        if (self.signature is None) is (self.token is None):
            raise ValueError("events have a signature or a token: anybody could send others")
        return self

    @property
    def secret(self) -> str:
        """Return the id of the initial data that the sender knows."""
        kept = self.signature.secret if self.signature is not None else self.token.value if self.token else ""
        found = PLACEHOLDER.fullmatch(kept)
        return found[1] if found is not None else ""
