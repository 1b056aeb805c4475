"""Determine the revision in force: HEAD, or with `git.verify_signatures` the last one whose new commits are trusted.

Whether to verify, who is trusted and where the state is are settings of the last accepted revision, never of the commit
that is judged (docs/settings.md). That revision has to be known before any setting of HEAD is trusted, so it is saved
where no commit can change it: in the checkout's ref `refs/reconciler/accepted`, which also keeps git from pruning the
commit. The ledger's note `accepted` has the same, with what is refused, for `status` to show; a fresh clone on an
existing state continues from it. Without either it is the first run, which trusts HEAD's settings, and commits from
their `trusted_from` on.

A person accepts a rewritten history, or an unsigned commit, on this machine: `git update-ref refs/reconciler/accepted
COMMIT`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pygit2

from reconciler.engine.context import Context, home_of
from reconciler.ledger.permissions import FILES
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import RepositoryError
from reconciler.model.failpoints import Failpoint
from reconciler.model.revision_status import REF, VOUCH, Untrusted
from reconciler.model.settings import Settings
from reconciler.model.value import value_class
from reconciler.repository.git.checkout import WORKTREE, Tree
from reconciler.repository.git.program import GitFailed, git
from reconciler.repository.git.signatures import first_untrusted
from reconciler.repository.git.trees import CommitTree
from reconciler.repository.private_file import HIRES_CACHE

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["NOTE", "InForce", "in_force", "keep", "refused"]

NOTE = "accepted"

_HARMLESS = (".gitignore", ".gitkeep")
"""What a commit may have in the state's folder: it keeps the folder there, and its files out of git."""


@value_class
class InForce:
    """The tree in force and its settings. `refused` is HEAD and the reason, if HEAD is not in force."""

    tree: Tree
    settings: Settings
    refused: Untrusted | None = None


def in_force(context: Context, ledger: LedgerReader | None = None, *, uncommitted: bool = False) -> InForce:
    """Return what is in force now, changing nothing. `ledger` is the state, if it is open already.

    With `uncommitted`, the files on disk stand in for a first commit that is not made yet.
    Raises RepositoryError where HEAD is refused and nothing was accepted before it, and SettingsError.
    """
    accepted = _ref(context)
    if uncommitted and accepted is None and context.checkout.is_unborn:
        files = context.checkout.worktree()
        return _first(context, files, context.settings(files))
    try:
        head = context.checkout.current("commit")
    except RepositoryError as error:
        if accepted is None:
            raise
        return _unreadable(context, accepted, error)
    if accepted is None:
        settings = context.settings(head)
        _refuse_planted(context, head, settings)
        accepted = _noted(context, head, settings, ledger)
        if accepted is None:
            return _first(context, head, settings)
    tree = context.checkout.at(accepted)
    settings = context.settings(tree)
    _refuse_planted(context, head, settings)
    if not settings.git.verify_signatures:
        return _as_head_says(context, head)
    if tree.revision == head.revision:
        return InForce(tree, settings)
    untrusted = first_untrusted(context.checkout, tree.revision, head.revision, home_of(context.root, settings))
    return _as_head_says(context, head) if untrusted is None else InForce(tree, settings, untrusted)


def _unreadable(context: Context, accepted: str, error: RepositoryError) -> InForce:
    """Keep the last accepted revision in force if HEAD cannot be read: it has no signature to show.

    Raises the error where that one says that commits do not have to be signed.
    """
    tree = context.checkout.at(accepted)
    settings = context.settings(tree)
    if not settings.git.verify_signatures:
        raise error
    name = context.checkout.head_name()
    return InForce(tree, settings, Untrusted(name, name, "", str(error)))


def keep(context: Context, ledger: LedgerWriter | None, found: InForce) -> None:
    """Save what is in force for the next run: in the ledger, or without one in this checkout alone."""
    verified = found.settings.git.verify_signatures
    note = {"revision": found.tree.revision, "refused": found.refused and asdict(found.refused)} if verified else None
    content = json.dumps(note).encode()
    if ledger is not None and (ledger.note(NOTE) or b"null") != content:
        ledger.put_note(NOTE, content)
    repository = context.checkout.repository
    if repository is None:
        return
    with suppress(pygit2.GitError, GitFailed, OSError):  # a checkout that cannot be written to leaves it to the note
        there = _there(context, repository)
        if verified:
            context.reached(Failpoint.ACCEPTED, done=False)
            repository.references.create(REF, found.tree.revision, force=True)
            context.reached(Failpoint.ACCEPTED, done=True)
        elif there:
            repository.references.delete(REF)


def _there(context: Context, repository: pygit2.Repository) -> bool:
    """Whether the ref exists. One that a power cut left torn is removed, because git does not overwrite it."""
    try:
        return REF in repository.references
    except pygit2.GitError as error:
        if "corrupted" not in str(error):
            raise
        (context.root / git(context.root, "rev-parse", "--git-path", REF)).unlink()
        return False


def refused(ledger: LedgerReader) -> Untrusted | None:
    """Return what the last pass refused, from the ledger."""
    note = _note(ledger).get("refused")
    return Untrusted(**note) if note else None


def _first(context: Context, head: Tree, settings: Settings) -> InForce:
    """Decide on a first run: HEAD, if its commits since `trusted_from` are signed or need not be."""
    if settings.git.verify_signatures:
        if head.revision == WORKTREE:
            raise RepositoryError(
                f"{context.root} is no git checkout, or has no commit: git.verify_signatures has none to look at"
            )
        base = settings.git.trusted_from
        untrusted = first_untrusted(context.checkout, base, head.revision, home_of(context.root, settings))
        if untrusted is not None:
            since = (
                f"since git.trusted_from, {base[:12]}" if base else "of the whole history, for want of git.trusted_from"
            )
            raise RepositoryError(
                f"{untrusted}. All commits {since} have to be signed, and none is accepted yet: {VOUCH}"
            )
    return _as_head_says(context, head, settings)


def _as_head_says(context: Context, head: Tree, settings: Settings | None = None) -> InForce:
    """Put HEAD in force; or the worktree, if HEAD's settings say so."""
    settings = settings or context.settings(head)
    return InForce(head if settings.source == "commit" else context.checkout.worktree(), settings)


def _refuse_planted(context: Context, head: Tree, settings: Settings) -> None:
    """Refuse to open a state that a commit may have put there, before a byte of it is read.

    Git replaces what it ignores without a word, SQLite takes a log that lies beside a database for its own, and a cache
    says what is in files that nobody reads again.
    """
    if not isinstance(head, CommitTree):
        return
    root = context.checkout.root
    file = context.state(settings, head).file
    state = Path(os.path.normpath(file)) if file is not None else None  # links as they are: one may be planted, too
    planted = [*head.below(PurePosixPath(HIRES_CACHE).parent.as_posix())]
    if state is not None and state.is_relative_to(root):
        inside = PurePosixPath(state.relative_to(root).as_posix())
        folders = [folder.as_posix() for folder in inside.parents if folder.name]
        ours = folders[:1] or [inside.with_name(inside.name + ending).as_posix() for ending in FILES]
        planted += [path for place in ours for path in head.below(place)]
        planted += [folder for folder in folders if head.holds(folder) and not head.has(folder)]
    planted = [path for path in planted if PurePosixPath(path).name not in _HARMLESS]
    if planted:
        raise RepositoryError(
            f"commit {head.revision[:12]} has {planted[0]} in it, where the state is kept: what stands there may be "
            "that commit's. Take it out of git, and bring the state back from a copy"
        )


def _ref(context: Context) -> str | None:
    """Return the accepted revision from the checkout's ref; None if there is none, or a torn one.

    Raises RepositoryError if that is unknown now: to continue without it would be to trust HEAD.
    """
    repository = context.checkout.repository
    with suppress(KeyError, ValueError, pygit2.GitError), _readable(context):
        return None if repository is None else str(repository.references[REF].peel(pygit2.Commit).id)
    return None


@contextmanager
def _readable(context: Context) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RepositoryError(
            f"{REF} of {context.root} cannot be read just now ({error}): it is tried again"
        ) from error


def _noted(context: Context, head: Tree, settings: Settings, ledger: LedgerReader | None) -> str | None:
    """Return the accepted revision from the ledger. Raises RepositoryError if this checkout does not have it."""
    if context.checkout.repository is None:
        return None
    if ledger is None:
        with context.state(settings, head).reader() as reading:
            revision = _note(reading).get("revision")
    else:
        revision = _note(ledger).get("revision")
    return revision


def _note(ledger: LedgerReader) -> dict[str, Any]:
    noted: dict[str, Any] | None = json.loads(ledger.note(NOTE) or b"null")
    return noted or {}
