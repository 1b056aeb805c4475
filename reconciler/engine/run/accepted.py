"""Determine the revision in force: the newest commit of the branch in force, or the last accepted one.

The branch in force is what the machine says, else `git.branch` of the commit in force, else the one that HEAD was on
when the state was made (docs/design/rules.md, "Source of truth"). Its newest commit is in force if it can be read, and
with `git.verify_signatures` if every commit since the last accepted one is trusted. Else the last accepted one goes on.

Whether to verify, who is trusted and where the state is are settings of the last accepted revision, never of the commit
that is judged (docs/settings.md). That revision has to be known before any setting of a newer one is trusted, so it is
saved where no commit and no fetch can change it: in the checkout's refs, of which `refs/reconciler/accepted` also keeps
git from pruning the commit, and in the ledger's note `accepted`, with what is refused, for `status` to show. A checkout
that cannot be written to, and a fresh clone on an existing state, go by the note. If none is known it is the first run,
which trusts HEAD's settings, and commits from their `trusted_from` on.

A person accepts a rewritten history, or an unsigned commit, on this machine: `git update-ref refs/reconciler/accepted
COMMIT`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from msgspec.structs import asdict

from reconciler.engine.context import Context, Revision
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite.lock import FILES
from reconciler.model.errors import OutdatedError, RepositoryError, SettingsError
from reconciler.model.failpoints import Failpoint
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.revision_status import REF, VOUCH, Untrusted
from reconciler.model.settings import Git
from reconciler.model.value import Frozen, replace
from reconciler.repository.git import pygit2
from reconciler.repository.git.checkout import HEADS
from reconciler.repository.git.program import GitFailed, git, home_of
from reconciler.repository.git.signatures import first_untrusted
from reconciler.repository.git.trees import WORKTREE, CommitTree, lacks_folder
from reconciler.repository.private_file import HIRES_CACHE

ASSUMED = (
    "no branch is named: {branch} counts, which was checked out when the state was made; write "
    "`git: {{branch: {branch}}}` into config/reconciler.yaml"
)

NOTE = "accepted"

BRANCH = "refs/reconciler/branch"
"""A symbolic ref to the branch in force."""

_HARMLESS = (".gitignore", ".gitkeep")
"""What a commit may have in the state's folder: it keeps the folder there, and its files out of git."""


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


class InForce(Revision):
    """The revision in force, and the branch that it is on; None where commits do not count.

    `refused` is the newest commit and the reason, if that is not in force. `assumed` says that nobody named the branch:
    it is the one that HEAD was on when the state was made.
    """

    branch: str | None = None
    refused: Untrusted | None = None
    assumed: bool = False


class _NotRead(RepositoryError):
    """The newest commit of the branch in force cannot be read; `head` is its id or the branch, `author` its author."""

    def __init__(self, why: str, head: str, author: str = "") -> None:
        super().__init__(why)
        self.head = head
        self.author = author


def in_force(
    context: Context, noted: Remembered | None = None, *, uncommitted: bool = False, starts: bool = False
) -> InForce:
    """Return what is in force now, changing nothing. `noted` is what the state remembers, if it is open already.

    With `uncommitted`, the files on disk stand in for a first commit that is not made yet. A daemon that `starts`
    acts on the last accepted revision where the newest commit is refused, as one that runs does.
    Raises RepositoryError where nothing can be read that was accepted, and SettingsError.
    """
    checkout = context.checkout
    known = _from_checkout(context)
    if not checkout.is_git or (uncommitted and known.revision is None and checkout.is_unborn):
        return _accept_first(Revision.at(context, checkout.worktree()))
    if known.revision is not None:
        return _next(context, known.revision, known.branch, starts=starts)
    # HEAD's settings, or those of the branch that the machine names, say where the ledger is, which may know more.
    head = _first_read(context)
    if head.settings.source == "worktree":
        return _accept_first(head)
    _refuse_planted(head)
    noted = noted or _noted(head)
    branch = known.branch or noted.branch
    if noted.revision is not None and (noted.signed or checkout.has(noted.revision)):
        return _next(context, noted.revision, branch, starts=starts)
    return _first(head, branch, noted.acted_on)


def brought_up_to_date(context: Context) -> bool:
    """Migrate the state where a server has it with an older schema; return whether that was done.

    Only for somebody who says that it was backed up. Raises LedgerError, and what `in_force` does.
    """
    try:
        location = in_force(context).location
    except OutdatedError:
        location = _first_read(context).location
    if location.file is not None or not location.exists():
        return False
    try:
        with location.reader():
            return False
    except OutdatedError:
        location.writer(context.reached, migrate=True).close()
        return True


def _first_read(context: Context) -> Revision:
    """Return the revision whose settings say where the ledger is, as long as nothing says what was accepted."""
    checkout = context.checkout
    return Revision.at(
        context, checkout.head() if context.branch is None else checkout.tip(context.branch, Git().remote)
    )


async def keep(ledger: OpenLedger | None, found: InForce) -> None:
    """Save what is in force for the next run: in the ledger, or without one in this checkout alone.

    What lacks a folder is not in force: only what is done by hand goes by it.
    """
    if lacks_folder(found.tree) is not None:
        return
    context, note, revision, branch = found.context, None, found.tree.revision, found.branch
    if revision != WORKTREE:
        told = found.refused and asdict(found.refused)
        signed = found.settings.git.verify_signatures
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


def _next(context: Context, revision: str, remembered: str | None, *, starts: bool) -> InForce:
    """Return the newest commit of the branch in force, if it may follow the last accepted one; else that one."""
    accepted = last = Revision.at(context, context.checkout.at(revision))
    tree, settings = accepted.tree, accepted.settings
    named = context.branch or settings.git.branch
    branch = named or remembered
    try:
        branch = branch or _checked_out(context, revision)
        newest = branch
        for on, head in _tips(accepted, branch):
            untrusted = _untrusted(last, head)
            if untrusted is not None:
                return InForce(context, tree, settings, branch, untrusted, assumed=named is None)
            newest, last = on, Revision.at(context, head)
        if (starts or context.tolerant) and (why := lacks_folder(last.tree, hires=starts)) is not None:
            raise _NotRead(why, last.tree.revision)
    except _NotRead as error:
        refused = Untrusted(error.head, error.head, error.author, str(error), unreadable=True)
        return InForce(context, tree, settings, branch, refused, assumed=named is None)
    except SettingsError as error:
        if not (context.tolerant or starts):
            raise
        commit = context.checkout.tip_id(str(branch), settings.git.remote) or str(branch)
        refused = Untrusted(commit, commit, "", str(error), unreadable=True)
        return InForce(context, tree, settings, branch, refused, assumed=named is None)
    return _as_head_says(last, newest)


def _first(head: Revision, remembered: str | None, acted_on: str | None) -> InForce:
    """Return the newest commit of the branch in force on a first run, by the settings of HEAD."""
    context = head.context
    branch = context.branch or head.settings.git.branch or remembered or _checked_out(context, acted_on)
    *_, (newest, tree) = _tips(head, branch)
    first = Revision.at(context, tree)
    _refuse_planted(first)
    return _accept_first(first, newest)


def _tips(known: Revision, branch: str) -> Iterator[tuple[str, CommitTree]]:
    """Yield the newest commit of a branch, then that of the branch that it names, until one names its own.

    The caller judges each before it takes the next, for only then do its settings count. Those of the revision that is
    `known` say where the state is. Raises _NotRead.
    """
    context, rules = known.context, known.settings
    head: CommitTree | None = None
    seen: list[str] = []
    while branch not in seen:
        seen.append(branch)
        head = _tip(context, branch, rules.git.remote, head)
        _refuse_planted(replace(known, tree=head))
        yield branch, head
        rules = context.settings(head)
        following = context.branch or rules.git.branch or branch
        if following == branch:
            return
        branch = following
    assert head is not None
    raise _NotRead(f"git.branch goes round in a circle: {' names '.join((*seen, branch))}", head.revision)


def _tip(context: Context, branch: str, remote: str, named_by: CommitTree | None) -> CommitTree:
    checkout = context.checkout
    try:
        head = checkout.tip(branch, remote)
        if (found := checkout.extents.endless(head.revision)) is not None:
            raise _NotRead(f"commit {head.revision[:12]}: {found}", head.revision)
    except _NotRead:
        raise
    except RepositoryError as error:
        if named_by is None:
            raise _NotRead(str(error), checkout.tip_id(branch, remote) or branch) from error
        author = checkout.commit(named_by.revision).author
        why = f"commit {named_by.revision[:12]} by {author} is not accepted, for it names a branch: {error}"
        raise _NotRead(why, named_by.revision, author) from error
    return head


def _checked_out(context: Context, acted_on: str | None) -> str:
    """Return the branch that HEAD is on, where nobody named one and none is remembered.

    It has to contain the revision that was acted on last, if that is known. Raises _NotRead.
    """
    checkout = context.checkout
    name = checkout.checked_out
    how = "name it with git.branch in config/reconciler.yaml, or on this machine with --branch"
    if name is None:
        raise _NotRead(f"HEAD of {checkout.root} is detached, and no branch is named that counts: {how}", "HEAD")
    head = checkout.head_id()
    if acted_on is None or head is None or acted_on == head:
        return name
    if not checkout.has(acted_on) or not checkout.descends(head, acted_on):
        raise _NotRead(
            f"it is not known which branch counts: HEAD is on {name}, which does not contain {acted_on[:12]}, the last "
            f"accepted revision: {how}",
            head,
        )
    return name


def _untrusted(last: Revision, head: CommitTree) -> Untrusted | None:
    """Say why a commit may not follow the last accepted one, by the rules of that one; None if it may.

    Raises _NotRead where the commits between the two, or what it trusts from, cannot be read.
    """
    if head.revision == last.tree.revision:
        return None
    try:
        return _first_untrusted(last, head)
    except RepositoryError as error:
        author = last.context.checkout.commit(head.revision).author
        why = f"commit {head.revision[:12]} by {author} is not accepted: {error}"
        raise _NotRead(why, head.revision, author) from error


def _first_untrusted(last: Revision, head: CommitTree) -> Untrusted | None:
    context, rules, base = last.context, last.settings, last.tree.revision
    checkout = context.checkout
    if (found := checkout.extents.first_endless(head.revision, base)) is not None:
        commit, why = found
        return Untrusted(head.revision, commit, checkout.commit(commit).author, str(why))
    if rules.git.verify_signatures:
        return first_untrusted(checkout, base, head.revision, home_of(context.root, rules))
    after = context.settings(head)
    if after.git.verify_signatures:  # it is switched on: as on a first run
        return first_untrusted(checkout, after.git.trusted_from, head.revision, home_of(context.root, after))
    return None


def _accept_first(first: Revision, branch: str | None = None) -> InForce:
    """Decide on a first run: the commit, if those since `trusted_from` are signed or need not be."""
    context, settings, revision = first.context, first.settings, first.tree.revision
    if settings.git.verify_signatures:
        if revision == WORKTREE:
            raise RepositoryError(
                f"{context.root} is no git checkout, or has no commit: git.verify_signatures has none to look at"
            )
        base = settings.git.trusted_from
        untrusted = first_untrusted(context.checkout, base, revision, home_of(context.root, settings))
        if untrusted is not None:
            since = (
                f"since git.trusted_from, {base[:12]}" if base else "of the whole history, for want of git.trusted_from"
            )
            raise RepositoryError(
                f"{untrusted}. All commits {since} have to be signed, and none is accepted yet: {VOUCH}"
            )
    return _as_head_says(first, branch)


def _as_head_says(head: Revision, branch: str | None) -> InForce:
    """Put the commit in force; or the worktree, if its settings say so.

    Then the worktree's settings count, but for `source` and `state`: where the ledger is, no edit changes.
    """
    context, settings = head.context, head.settings
    if settings.source == "worktree":
        tree = context.checkout.worktree()
        with suppress(SettingsError):  # which whoever reads its files raises
            committed = {"source": settings.source, "state": settings.state}
            settings = context.settings(tree).model_copy(update=committed)
        return InForce(context, tree, settings)
    assumed = branch is not None and context.branch is None and settings.git.branch is None
    return InForce(context, head.tree, settings, branch, assumed=assumed)


def _refuse_planted(revision: Revision) -> None:
    """Refuse to open a state that a commit may have put there, before a byte of it is read.

    Git replaces what it ignores without a word, SQLite takes a log that lies beside a database for its own, and a cache
    says what is in files that nobody reads again.
    """
    root, head, file = revision.context.checkout.root, revision.tree, revision.location.file
    if not isinstance(head, CommitTree):
        return
    state = Path(os.path.normpath(file)) if file is not None else None  # links as they are: one may be planted, too
    planted = [*head.below(PurePosixPath(HIRES_CACHE).parent.as_posix())]
    if state is not None and state.is_relative_to(root):
        inside = PurePosixPath(state.relative_to(root).as_posix())
        folders = [folder.as_posix() for folder in inside.parents if folder.name]
        ours = folders[:1] or [inside.with_name(inside.name + ending).as_posix() for ending in FILES]
        planted += [path for place in ours for path in head.below(place)]
        planted += [folder for folder in folders if head.find(folder) is not None]
    planted = [path for path in planted if PurePosixPath(path).name not in _HARMLESS]
    if planted:
        raise RepositoryError(
            f"commit {head.revision[:12]} has {planted[0]} in it, where the state is kept: what stands there may be "
            "that commit's. Take it out of git, and bring the state back from a copy"
        )


def _noted(head: Revision) -> Remembered:
    """Read what the ledger remembers."""
    with head.location.reader() as reading:
        return from_ledger(reading)


def _from_checkout(context: Context) -> Remembered:
    """Read the checkout's refs. A torn one counts as absent.

    Raises RepositoryError if one is unknown now: to continue without it would be to trust HEAD.
    """
    repository = context.checkout.repository
    if repository is None:
        return NOTHING
    revision = branch = None
    with suppress(KeyError, ValueError, pygit2.GitError), _readable(context, REF):
        found = repository.references[REF].peel(pygit2.Commit).id
        repository.odb.read_header(found)  # from the disk: this process may remember what is gone since
        revision = str(found)
    with suppress(KeyError, ValueError, pygit2.GitError), _readable(context, BRANCH):
        target = repository.lookup_reference(BRANCH).target
        branch = target.removeprefix(HEADS) if isinstance(target, str) else None
    return Remembered(revision, branch)


def from_ledger(ledger: LedgerReader) -> Remembered:
    """Read the ledger's notes."""
    note, last = _note(ledger), LastPass.read(ledger.notes.get(LAST)).revision
    acted_on = None if last == WORKTREE else last
    # Earlier releases noted only what was signed.
    return Remembered(note.get("revision"), note.get("branch"), note.get("signed", "revision" in note), acted_on)


def refused(ledger: LedgerReader) -> Untrusted | None:
    """Return what the last pass refused, from the ledger."""
    note = _note(ledger).get("refused")
    return Untrusted(**note) if note else None


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
