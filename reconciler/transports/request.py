"""A request as a transport gets it: complete, with every value in its place."""

from __future__ import annotations

from dataclasses import field

from reconciler.model.value import value_class
from reconciler.transports.answer import LIMIT
from reconciler.transports.http.sign import Pritunl

__all__ = ["RenderedRequest"]


@value_class
class RenderedRequest:
    """A request, ready to be sent. Only `method` and `shown_url` may be shown.

    `statuses` are those that the manifest lists: the client hands a redirect among them back as an answer. `signer`
    makes new headers each time it is sent. `most` bounds the bytes that are kept of the answer.
    """

    method: str
    url: str = field(repr=False)
    shown_url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    content: bytes | None = field(default=None, repr=False)
    statuses: frozenset[int] = frozenset()
    signer: Pritunl | None = field(default=None, repr=False)
    most: int = LIMIT
