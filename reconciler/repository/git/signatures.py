"""Verify that every commit between two is signed by a trusted key, OpenPGP or SSH (docs/settings.md).

Which commits those are is read from the objects themselves, as libgit2 reads them and as the program acts on them; the
`git` program verifies each signature. Who is trusted must not be for a commit to say: OpenPGP keys are those of a
GnuPG home, with full or ultimate validity there, SSH keys those of git's own gpg.ssh.allowedSignersFile, and neither
may be a file that git could write into the work tree, nor be named by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import pygit2

from reconciler.model.errors import RepositoryError
from reconciler.model.revision_status import Untrusted
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.program import (
    GitFailed,
    GitUnavailable,
    git,
    helper_of_a_commit,
    objection_to_home,
    settings,
)

_TRUSTED = ("-c", "gpg.minTrustLevel=fully")
"""What git asks of a signature beyond being right; an SSH key among the allowed signers counts as fully trusted."""

_PGP, _SSH = b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"


class _Distrusted(Exception):
    """A commit is not trusted; the text says why."""


def first_untrusted(checkout: Checkout, base: str | None, head: str, home: str | None) -> Untrusted | None:
    """Return the first commit that `head` adds to `base`, over all parents, without a trusted signature.

    None where each is trusted. `base` is None for the whole history; `home` is the GnuPG home, None for GnuPG's own.
    Raises RepositoryError where the checkout has no git or not these commits.
    """
    verifying = _Verifying(checkout, checkout.of_git("there are no commits whose signatures could be seen"), home)
    commit = head
    try:
        for commit in verifying.between(base, head):
            verifying.see(commit)
    except _Distrusted as error:
        return Untrusted(head, commit, _printable(checkout.commit(commit).author), str(error))
    except (pygit2.GitError, OSError, KeyError, ValueError) as error:
        raise RepositoryError(f"the commits up to {head[:12]} cannot be read just now ({error})") from error
    return None


def signer(checkout: Checkout, revision: str, home: str | None) -> str | None:
    """Return the owner of the key of a commit's good signature, as git names it; None if there is none.

    A good signature says that the commit is unchanged since it was signed; `first_untrusted` decides which keys to
    trust.
    """
    if checkout.repository is None:
        return None
    try:
        commit = checkout.repository.get(revision)
        if not isinstance(commit, pygit2.Commit) or not commit.gpg_signature[0]:
            return None
        if objection_to_home(checkout.root, home) or helper_of_a_commit(checkout.root):
            return None
        environment = {} if home is None else {"GNUPGHOME": home}
        shown = ("show", "--no-patch", "--no-show-signature", "--format=%G? %GS", revision)
        output = git(checkout.root, *shown, environment=environment)
    except (GitFailed, OSError, ValueError):
        return None
    quality, _, name = output.partition(" ")
    return _printable(name) if quality in ("G", "U") and name else None


class _Verifying:
    def __init__(self, checkout: Checkout, repository: pygit2.Repository, home: str | None) -> None:
        self._root = checkout.root
        self._repository = repository
        self._home = home

    def between(self, base: str | None, head: str) -> list[str]:
        """The commits, parents first. Raises _Distrusted where `head` does not go on from `base`.

        The parents are those that each commit itself names. What libgit2 and git take for them comes out of a graft, a
        shallow file, a replacement or a commit graph too, and each of those could hide one.
        """
        if base is None:
            new = self._history(head)
        else:
            self._commit(base)
            new = self._history(head, base)
            if base not in new:
                raise _Distrusted(f"it does not go on from {base[:12]}, the last one accepted: history was rewritten")
            if any(not parents for commit, parents in new.items() if commit != base):
                # A merge brought a branch that began before the last accepted one: what that had is accepted with it.
                accepted = self._history(base)
                new = {commit: parents for commit, parents in new.items() if commit not in accepted}
            new.pop(base, None)
        hidden = next((commit for commit in new if not isinstance(self._repository.get(commit), pygit2.Commit)), None)
        if hidden is not None:
            raise _Distrusted(
                f"the checkout is shallow or damaged, and hides {hidden[:12]}, which comes before it: run "
                "`git fetch --unshallow`"
            )
        return list(new)

    def _history(self, tip: str, end: str | None = None) -> dict[str, tuple[str, ...]]:
        """What a commit goes back to, parents first and `end` last of its line; with the parents of each."""
        found: dict[str, tuple[str, ...]] = {}
        entered: set[str] = set()
        waiting: list[tuple[str, tuple[str, ...] | None]] = [(tip, None)]
        while waiting:
            commit, parents = waiting.pop()
            if parents is not None:
                found[commit] = parents
            elif commit not in entered:
                entered.add(commit)
                named = () if commit == end else self._parents(commit)
                waiting.append((commit, named))
                waiting += [(parent, None) for parent in named]
        return found

    def _parents(self, commit: str) -> tuple[str, ...]:
        """The parents that a commit names in its own bytes; none where the checkout does not have it."""
        try:
            header, _, _ = self._repository.read(commit)[1].partition(b"\n\n")
        except KeyError:
            return ()
        lines = (line.split(b" ") for line in header.splitlines())
        return tuple(parts[1].decode("ascii", "replace") for parts in lines if parts[0] == b"parent" and parts[1:])

    def see(self, revision: str) -> None:
        """Raises _Distrusted where the commit is not signed by a trusted key."""
        commit = self._commit(revision)
        signature, _ = commit.gpg_signature
        if not signature:
            raise _Distrusted("it is not signed")
        if signature.startswith(_PGP):
            objection = self._objection_to_home
        elif signature.startswith(_SSH):
            objection = self._objection_to_signers
        else:
            raise _Distrusted("its signature is neither OpenPGP's nor SSH's")
        if objection is not None:
            raise _Distrusted(objection)
        environment = {} if self._home is None else {"GNUPGHOME": self._home}
        try:
            git(self._root, *_TRUSTED, "verify-commit", "--raw", revision, environment=environment)
        except GitUnavailable as error:
            raise _Distrusted(f"its signature cannot be verified: {error}") from None
        except GitFailed as error:
            raise _Distrusted(_why(str(error))) from None

    def _commit(self, revision: str) -> pygit2.Commit:
        found = self._repository.get(revision)
        if not isinstance(found, pygit2.Commit):
            raise RepositoryError(f"{self._root} has no commit {revision}: fetch it (a shallow clone: --unshallow)")
        return found

    @cached_property
    def _objection_to_home(self) -> str | None:
        return objection_to_home(self._root, self._home) or self._objection_to_settings

    @cached_property
    def _objection_to_signers(self) -> str | None:
        with _asking_git():
            known = any(name == "gpg.ssh.allowedsignersfile" for _, name, _ in settings(self._root))
        if not known:
            return (
                "it is signed with an SSH key, and git's gpg.ssh.allowedSignersFile does not say whose is trusted: set "
                "it with `git config`, to a file outside the repository"
            )
        return self._objection_to_settings

    @cached_property
    def _objection_to_settings(self) -> str | None:
        """Why git's own settings leave it to a commit who is trusted, or None."""
        with _asking_git():
            return helper_of_a_commit(self._root)


@contextmanager
def _asking_git() -> Iterator[None]:
    try:
        yield
    except (GitFailed, OSError):
        raise _Distrusted("git cannot say what its settings about signatures are: run `git config --list`") from None


def _why(said: str) -> str:
    """What is wrong with a signature, from what git, gpg or ssh-keygen said of it."""
    statuses = [
        line.removeprefix("[GNUPG:] ").split(" ", 2) for line in said.splitlines() if line.startswith("[GNUPG:]")
    ]
    found = {parts[0]: parts[1:] for parts in statuses}

    def key(status: str) -> str:
        return _printable(" ".join(found[status]))

    for status, text in _STATUSES.items():
        if status in found:
            return text.format(key=key(status), id=key(status).partition(" ")[0])
    if "GOODSIG" in found:
        id_, _, owner = key("GOODSIG").partition(" ")
        return f"its key {id_} ({owner}) is known and not trusted: certify it with `gpg --edit-key {id_}`, if it is"
    if "No principal matched" in said or 'Good "git" signature with' in said:
        name = re.search(r"key (\S+)", said)
        return f"its SSH key {name[1] if name else ''} is not among the allowed signers at that time".replace("  ", " ")
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("[GNUPG:]")]
    return f"its signature is not valid: {_printable(lines[-1])}" if lines else "its signature is not valid"


_STATUSES = {
    "BADSIG": "its signature by {key} is bad: the commit was altered after it was signed",
    "REVKEYSIG": "its key {key} is revoked",
    "EXPKEYSIG": "its key {key} has expired",
    "EXPSIG": "its signature by {key} has expired",
    "NO_PUBKEY": "its key {id} is not in the GnuPG home: import it and say that it is trusted, if it is",
}
"""What gpg's status lines mean, the gravest first."""


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "�" for char in text)[:200]
