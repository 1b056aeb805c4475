"""Have a timestamp authority say when a checkpoint was there (docs/how-to/prove.md, "Have it timestamped")."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.clock import stamp
from reconciler.model.errors import Blocked, LedgerError, TimestampError, TransportError
from reconciler.repository.documents.events import BrokenFile
from reconciler.requests.excerpt import one_line
from reconciler.requests.hosts import AllowedHosts
from reconciler.secrets import timestamp
from reconciler.transports.address import parse
from reconciler.transports.request import RenderedRequest

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.model.settings import Settings, Timestamping
    from reconciler.repository.git.trees import Tree

__all__ = ["authorities", "token_of"]

APART = timedelta(minutes=5)
"""How far an authority's clock and this machine's may be apart."""


def authorities(tree: Tree, ca: str) -> bytes:
    """Read the certificates that the settings trust: a file of the revision, or for a whole path of the machine.

    Raises TimestampError, with what to do.
    """
    try:
        if Path(ca).is_absolute():
            pem = Path(ca).read_bytes()
        elif (file := tree.find(ca)) is not None:
            pem = tree.read(file)
        else:
            raise TimestampError("there is no such file: commit the certificate of the authority's root, in PEM")
        timestamp.trusted(pem)
    except OSError as error:
        raise TimestampError(f"{ca}: {error.strerror}") from None
    except (BrokenFile, TimestampError) as error:
        raise TimestampError(f"{ca}: {error}") from None
    return pem


async def token_of(note: str, wanted: Timestamping, context: Context, settings: Settings, tree: Tree) -> bytes:
    """Ask the authority about a note; return its answer once that is verified. Raises TimestampError."""
    trusted = authorities(tree, wanted.ca)
    question = timestamp.Question.about(note.encode())
    address = parse(wanted.url)
    name = address.name if address is not None else ""
    # No manifest's service can have this name, so that it shares no limits and connections.
    client = context.client("(timestamps)", AllowedHosts(frozenset({name}), plain=True), settings.limits)
    headers = (("Content-Type", "application/timestamp-query"), ("Accept", "application/timestamp-reply"))
    try:
        answer = await client.send(RenderedRequest("POST", wanted.url, wanted.url, headers, question.content))
    except (TransportError, LedgerError, Blocked) as error:
        raise TimestampError(str(error)) from None
    if answer.status != 200:
        raise TimestampError(f"{name} answered {answer.status}{client.excerpt(answer)}")
    try:
        found = timestamp.verified(answer.content, note.encode(), trusted, question.nonce)
    except TimestampError as error:
        raise TimestampError(f"{name}: {one_line(str(error), context.redactor)}") from None
    if abs(found.at - (now := context.clock.now())) > APART:
        raise TimestampError(f"{name} says that it is {stamp(found.at)}, and this machine {stamp(now)}: one is wrong")
    return found.token
