"""Find the repository that a command is about.

It is the folder that `--repo` names, or the nearest one, from the current folder upwards, that is a git checkout or has
a repository's folders. Commands do not guess: outside a repository there are no grants to show.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from reconciler.model.errors import RepositoryError
from reconciler.model.revision_status import REF
from reconciler.repository.naming import FOLDERS

NEXT = "give the repository's root with --repo, or run `reconcile init` for a new one"


def repository(given: Path | None) -> Path:
    """Return the root. Raises RepositoryError with the next step if there is none."""
    if given is not None:
        root = given
        if root.is_dir() and not any((root / folder).is_dir() for folder in FOLDERS) and not _committed(root):
            raise RepositoryError(f"{given} is no repository: it has no hires/ and no manifests/; {NEXT}")
        return root
    here = Path.cwd()
    for root in (here, *here.parents):
        if _holds(root):
            return root
        if (root / ".git").exists():
            if _committed(root):
                return root
            raise RepositoryError(f"the git checkout {root} has no hires/ and no manifests/: {NEXT}")
    raise RepositoryError(f"there is no repository in {here} or above it: {NEXT}")


def _holds(root: Path) -> bool:
    """Whether a folder on disk has what a repository consists of; of a checkout, any of it."""
    has = [folder for folder in FOLDERS if (root / folder).is_dir()]
    if (root / ".git").exists():
        return bool(has)
    return ("hires" in has and len(has) > 1) or (root / "config" / "reconciler.yaml").is_file()


def _committed(root: Path) -> bool:
    """Whether the commit of a checkout, or the last accepted one, has the folders, although they are not on disk."""
    if not (root / ".git").exists():
        return False
    from reconciler.repository.git.checkout import Checkout

    checkout = Checkout.open(root)
    for revision in ("HEAD", REF):
        with suppress(RepositoryError):
            if any(checkout.at(revision).has(folder) for folder in FOLDERS):
                return True
    return False
