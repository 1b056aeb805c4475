"""What this machine remembers of the revision in force: the last accepted one, and the branch that it is on.

It stands where no commit and no fetch can change it: in the checkout's refs, of which `refs/reconciler/accepted` also
keeps git from pruning the commit, and in the ledger's note `accepted`, with what is refused, for `status` to show. A
checkout that cannot be written to, and a fresh clone on an existing state, go by the note.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pygit2
from msgspec.structs import asdict

from reconciler.engine.context import Context
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import RepositoryError
from reconciler.model.failpoints import Failpoint
from reconciler.model.report import LAST
from reconciler.model.revision_status import REF, Untrusted
from reconciler.model.value import Frozen
from reconciler.repository.git.checkout import HEADS, WORKTREE
from reconciler.repository.git.program import GitFailed, git

if TYPE_CHECKING:
    pass

__all__ = ["NOTE", "NOTHING", "Remembered", "from_checkout", "from_ledger", "refused", "remember"]

NOTE = "accepted"

BRANCH = "refs/reconciler/branch"
"""A symbolic ref to the branch in force."""


class Remembered(Frozen):
    """The last accepted revision and its branch, as far as they are known.

    `signed` says whether commits had to be signed; `acted_on` is the revision of the last pass, which is all that the
    state of an earlier release knows.
    """

    revision: str | None = None
    branch: str | None = None
    signed: bool = False
    acted_on: str | None = None


NOTHING = Remembered()


def from_checkout(context: Context) -> Remembered:
    """Read the checkout's refs. A torn one counts as absent.

    Raises RepositoryError if one is unknown now: to continue without it would be to trust HEAD.
    """
    repository = context.checkout.repository
    if repository is None:
        return NOTHING
    revision = branch = None
    with suppress(KeyError, ValueError, pygit2.GitError), _readable(context, REF):
        revision = str(repository.references[REF].peel(pygit2.Commit).id)
    with suppress(KeyError, ValueError, pygit2.GitError), _readable(context, BRANCH):
        target = repository.lookup_reference(BRANCH).target
        branch = target.removeprefix(HEADS) if isinstance(target, str) else None
    return Remembered(revision, branch)


def from_ledger(ledger: LedgerReader) -> Remembered:
    """Read the ledger's notes."""
    note, last = _note(ledger), json.loads(ledger.notes.get(LAST) or b"{}").get("revision")
    acted_on = None if last == WORKTREE else last
    # Earlier releases noted only what was signed.
    return Remembered(note.get("revision"), note.get("branch"), note.get("signed", "revision" in note), acted_on)


def refused(ledger: LedgerReader) -> Untrusted | None:
    """Return what the last pass refused, from the ledger."""
    note = _note(ledger).get("refused")
    return Untrusted(**note) if note else None


async def remember(
    context: Context,
    ledger: OpenLedger | None,
    revision: str,
    branch: str | None,
    *,
    signed: bool,
    refused: Untrusted | None,
) -> None:
    """Save what is in force for the next run: in the ledger, or without one in this checkout alone."""
    note = None
    if revision != WORKTREE:
        told = refused and asdict(refused)
        note = {"revision": revision, "refused": told, "branch": branch, "signed": signed}
    content = json.dumps(note).encode()
    if ledger is not None and (await ledger.run(lambda reader: reader.notes.get(NOTE)) or b"null") != content:
        await ledger.run(lambda writer: writer.notes.put(NOTE, content))
    repository = context.checkout.repository
    if repository is None:
        return
    target = None if revision == WORKTREE or branch is None else f"{HEADS}{branch}"
    with suppress(pygit2.GitError, GitFailed, OSError):  # a checkout that cannot be written to leaves it to the note
        context.reached(Failpoint.ACCEPTED, done=False)
        _put(context, repository, REF, None if revision == WORKTREE else revision)
        _put(context, repository, BRANCH, target)
        context.reached(Failpoint.ACCEPTED, done=True)


def _put(context: Context, repository: pygit2.Repository, ref: str, target: str | None) -> None:
    """Set a ref; delete it where there is no target. One that a power cut left torn, git would not overwrite."""
    there = None
    try:
        with suppress(KeyError):
            there = str(repository.lookup_reference(ref).target)
    except (pygit2.GitError, ValueError) as error:
        if "corrupted" not in str(error):
            raise
        (context.root / git(context.root, "rev-parse", "--git-path", ref)).unlink()
    if there == target:
        return
    if target is None:
        repository.references.delete(ref)
    else:
        repository.references.create(ref, target, force=True)


@contextmanager
def _readable(context: Context, ref: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RepositoryError(
            f"{ref} of {context.root} cannot be read just now ({error}): it is tried again"
        ) from error


def _note(ledger: LedgerReader) -> dict[str, Any]:
    noted: dict[str, Any] | None = json.loads(ledger.notes.get(NOTE) or b"null")
    return noted or {}
