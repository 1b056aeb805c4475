"""Read what git had of a row's hire when the row was last planned: whether there was a file, and its address."""

from __future__ import annotations

from pathlib import PurePosixPath

from reconciler.model.errors import RepositoryError
from reconciler.model.grant import Record
from reconciler.repository.git.checkout import WORKTREE, Checkout
from reconciler.repository.git.parts import parse_version
from reconciler.repository.hire_index import stem_of

__all__ = ["FormerFiles"]


class FormerFiles:
    """The hires' files at the revisions of rows' last passes."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        self._addresses: dict[tuple[str, str], str] = {}
        self._stems_at: dict[str, frozenset[str]] = {}

    def was_gone(self, record: Record) -> bool:
        """Whether a row's hire had no file at the revision of the row's last pass; False if that is not known."""
        revision = record.revision or WORKTREE
        if revision == WORKTREE:
            return False
        stems = self._stems_at.get(revision)
        if stems is None:
            try:
                stems = frozenset(stem_of(file.path) for file in self._checkout.at(revision).files("hires"))
            except RepositoryError:
                stems = frozenset((record.key.hire,))
            self._stems_at[revision] = stems
        return record.key.hire not in stems

    def address(self, record: Record) -> str:
        """Return the address of a row's hire at the revision of its last pass; empty if that is not known."""
        path, _, _ = record.source.rpartition(":")
        if PurePosixPath(path).stem != record.key.hire:
            path = f"hires/{record.key.hire}.yaml"  # the source is a sequence
        place = record.revision or WORKTREE, path
        if place not in self._addresses:
            self._addresses[place] = self._address_at(*place)
        return self._addresses[place]

    def _address_at(self, revision: str, path: str) -> str:
        if revision == WORKTREE:
            return ""
        try:
            tree = self._checkout.at(revision)
            file = tree.find(path)
            version = parse_version(tree.read(file), path) if file is not None else None
        except RepositoryError:
            return ""
        return "" if version is None else version.email
