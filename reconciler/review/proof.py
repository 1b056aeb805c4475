"""Prove to outsiders what the history says: checkpoints, their timestamps, and exports that anybody can verify.

See docs/how-to/prove.md.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.ledger.chain import MerkleTree, as_written, said
from reconciler.ledger.history import lines_of
from reconciler.model.clock import stamp
from reconciler.model.errors import Blocked, LedgerError, RepositoryError, SecretsError, TimestampError, TransportError
from reconciler.model.secret import Secret
from reconciler.model.value import Frozen
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.git.branches import address_of
from reconciler.requests.excerpt import one_line
from reconciler.requests.hosts import AllowedHosts
from reconciler.secrets.checkpoint import Checkpoint, Question, SigningKey, VerifyingKey, trusted, verified
from reconciler.transports.address import parse
from reconciler.transports.messages import RenderedRequest

if TYPE_CHECKING:
    from reconciler.engine.context import Revision
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings, Timestamping
    from reconciler.repository.git.checkout import Checkout
    from reconciler.repository.git.trees import Tree

KEY = "CHECKPOINT_KEY"
"""The name, in the program's own initial data, of the key that signs checkpoints."""

NO_KEY = f"there is no {KEY}: `reconcile history checkpoint --new-key` makes one"


def origin_of(checkout: Checkout) -> str:
    """Name the history: by the repository's first commit, which no other one has. Raises RepositoryError."""
    first = checkout.first_commit()
    if first is None:
        raise RepositoryError(
            "a checkpoint names the repository's first commit, and this checkout has none: commit something first; "
            "of a shallow clone, fetch the rest (`git fetch --unshallow`)"
        )
    return f"access-reconciler/{first}"


def signing_key(own: Mapping[str, str]) -> SigningKey:
    """Read the key from the program's initial data. Raises SecretsError if there is none, or it is damaged."""
    if not own.get(KEY):
        raise SecretsError(NO_KEY)
    return SigningKey(Secret(own[KEY]))


def verifying_key(given: str | None, own: Callable[[], Mapping[str, str]]) -> VerifyingKey:
    """Return the key to verify with: one that was given, or that of the program's initial data. Raises SecretsError."""
    return VerifyingKey.of(given if given is not None else signing_key(own()).public)


def sign(tree: tuple[int, bytes], checkout: Checkout, key: SigningKey) -> tuple[int, str]:
    """Return the number of the history's lines, and the signed note of them; `tree` has both and the tree's root."""
    lines, root = tree
    return lines, key.sign(Checkpoint(origin_of(checkout), lines, root).text)


class Stand(Frozen):
    """Where the history stood: the checkpoint over all its lines, and the signed note of it, or why there is none.

    `published` is the folder, or the remote's address and the branch, where notes are published.
    """

    checkpoint: Checkpoint
    note: str | None
    unsigned: str | None
    published: tuple[str, str] | None

    @property
    def name(self) -> str:
        """Name the checkpoint by its number of lines and its root."""
        return f"{self.checkpoint.lines} {b64encode(self.checkpoint.root).decode()}"


def stand(
    ledger: LedgerReader, checkout: Checkout, settings: Settings, own: Callable[[], Mapping[str, str]]
) -> Stand | None:
    """Say where the history stands, signed if there is a key that can be read; None if it has no name here."""
    lines, root = ledger.history.tree()
    try:
        checkpoint = Checkpoint(origin_of(checkout), lines, root)
    except RepositoryError:
        return None
    published = None
    if (wanted := settings.checkpoints) is not None:
        remote = wanted.remote or settings.git.remote
        published = (wanted.directory, "") if wanted.directory else (address_of(checkout, remote), wanted.branch)
    try:
        return Stand(checkpoint, signing_key(own()).sign(checkpoint.text), None, published)
    except SecretsError as error:
        return Stand(checkpoint, None, str(error), published)


def contradiction(ledger: LedgerReader, checkout: Checkout, note: str, key: VerifyingKey) -> str | None:
    """Return how the history contradicts a checkpoint; None if it holds. Raises SecretsError for a bad one."""
    checkpoint = Checkpoint.of(note, key)
    if checkpoint.origin != (ours := origin_of(checkout)):
        return f"the checkpoint is of {checkpoint.origin}, and this history is {ours}"
    lines, root = ledger.history.tree(checkpoint.lines)
    if lines < checkpoint.lines:
        return f"the checkpoint covers {checkpoint.lines} lines, and the history has {lines}: some were taken out"
    if root != checkpoint.root:
        return f"one of the {lines} lines that the checkpoint covers was changed, moved or taken out"
    return None


def export(
    ledger: LedgerReader, checkout: Checkout, key: SigningKey, folder: Path, chosen: Collection[str | None] | None
) -> tuple[int, int]:
    """Write lines with their proofs, a checkpoint and the program that verifies them into a new folder.

    `chosen` are the digests of those to write; None for all, the erased ones too. Returns how many lines were written,
    and how many there are. Raises LedgerError if the folder is not empty.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise LedgerError(f"{folder} is not empty: name a folder that is not there yet")
        with ledger.backend.snapshot() as reading:
            tree = MerkleTree(row["digest"] for row in lines_of(reading))
            note = key.sign(Checkpoint(origin_of(checkout), tree.size, tree.root).text)
            written = 0
            with (folder / "lines.jsonl").open("w", encoding="utf-8") as file:
                for entry in _entries(lines_of(reading), tree, chosen):
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                    written += 1
        (folder / "checkpoint.note").write_text(note, encoding="utf-8")
        (folder / "verify.py").write_bytes(Path(__file__).with_name("verify.py").read_bytes())
    except OSError as error:
        raise LedgerError(f"{folder}: {error.strerror}: nothing else was exported") from error
    return written, tree.size


def _entries(
    rows: Iterator[dict[str, Any]], tree: MerkleTree, chosen: Collection[str | None] | None
) -> Iterator[dict[str, Any]]:
    before = ""
    for place, row in enumerate(rows):
        digest = row["digest"]
        if chosen is None or digest in chosen:
            proof = [each.hex() for each in tree.proof(place)]
            entry: dict[str, Any] = {"place": place, "digest": digest, "proof": proof}
            if row["salt"] is not None:
                entry |= {"line": said(as_written(row)), "salt": bytes(row["salt"]).hex(), "before": before}
            yield entry
        before = digest


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
        trusted(pem)
    except OSError as error:
        raise TimestampError(f"{ca}: {error.strerror}") from None
    except (BrokenFile, TimestampError) as error:
        raise TimestampError(f"{ca}: {error}") from None
    return pem


async def token_of(note: str, wanted: Timestamping, revision: Revision) -> bytes:
    """Ask the authority about a note; return its answer once that is verified. Raises TimestampError."""
    context, pem = revision.context, authorities(revision.tree, wanted.ca)
    question = Question.about(note.encode())
    address = parse(wanted.url)
    name = address.name if address is not None else ""
    # No manifest's service can have this name, so that it shares no limits and connections.
    client = context.client("(timestamps)", AllowedHosts(frozenset({name}), plain=True), revision.settings.limits)
    headers = (("Content-Type", "application/timestamp-query"), ("Accept", "application/timestamp-reply"))
    try:
        answer = await client.send(RenderedRequest("POST", wanted.url, wanted.url, headers, question.content))
    except (TransportError, LedgerError, Blocked) as error:
        raise TimestampError(str(error)) from None
    if answer.status != 200:
        raise TimestampError(f"{name} answered {answer.status}{client.excerpt(answer)}")
    try:
        found = verified(answer.content, note.encode(), pem, question.nonce)
    except TimestampError as error:
        raise TimestampError(f"{name}: {one_line(str(error), context.redactor)}") from None
    if abs(found.at - (now := context.clock.now())) > APART:
        raise TimestampError(f"{name} says that it is {stamp(found.at)}, and this machine {stamp(now)}: one is wrong")
    return found.token
