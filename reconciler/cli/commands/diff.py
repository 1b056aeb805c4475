"""`reconcile diff`: show what a pull request changes, offline and without any secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import echo, emit_json
from reconciler.model.errors import Problem, SettingsError, Severity
from reconciler.model.value import replace

if TYPE_CHECKING:
    from reconciler.repository.files import Files, Reader
    from reconciler.repository.git.checkout import Checkout, File, Tree
    from reconciler.review.difference import Difference, Side
    from reconciler.review.validated import Validated

__all__ = ["compared", "diff"]


@click.command()
@click.argument("base")
@click.argument("head", default="HEAD")
@shared(csv=False)
def diff(options: SharedOptions, base: str, head: str) -> int:
    """Show what HEAD changes compared with BASE: grants added, changed and removed, new hosts, problems.

    BASE and HEAD are revisions; HEAD may be `worktree`, the files on disk. Offline, and without a key. If main has
    moved on since the branch began, compare with the merge base: `reconcile diff $(git merge-base main HEAD)`. With
    --output markdown: a comment ready to post. Exits with 1 if a file at HEAD has an error.
    """
    from reconciler.cli.output.difference import as_markdown, as_table
    from reconciler.repository.git.checkout import Checkout
    from reconciler.repository.git.checkout import ignored as ignored_of

    checkout = Checkout.open(options.repo)
    found, problems = compared(checkout, base, head)
    # Only of what is checked out can somebody mean files that are not committed yet.
    ignored = ignored_of(checkout, checkout.checked_out) if found.head == checkout.head_id() else []
    for each in ignored:
        note(each)
    if options.output == "json":
        emit_json({**found.as_json(), "ignored": ignored})
    else:
        echo(as_markdown(found) if options.output == "markdown" else as_table(found))
    return 1 if any(problem.severity is Severity.ERROR for problem in problems) else 0


def compared(checkout: Checkout, base: str, head: str) -> tuple[Difference, list[Problem]]:
    """Compare two revisions; return the head's problems too."""
    from reconciler.repository.files import Reader
    from reconciler.repository.git.checkout import WORKTREE
    from reconciler.review.difference import compare
    from reconciler.review.problems import today_of
    from reconciler.review.validated import Validated

    now = datetime.now(UTC)
    reader, validated = Reader(root=checkout.root), Validated()
    before = _side(reader, checkout.at(base), now, validated, may_be_empty=True)
    tree = checkout.worktree() if head == WORKTREE else checkout.at(head)
    after = _side(reader, tree, now, validated, base=before.files)
    after = replace(after, problems=[*_unwalkable(checkout, before.revision, tree), *after.problems])
    day = today_of(after.files, now) if after.files is not None else now.date()
    return compare(before, after, day), after.problems


def _unwalkable(checkout: Checkout, base: str, head: Tree) -> Iterator[Problem]:
    """Report the first commit of the branch that cannot be walked: after the merge it would be refused."""
    from reconciler.repository.git.checkout import WORKTREE

    if WORKTREE in (base, head.revision):
        return
    if (found := checkout.extents.first_endless(head.revision, base)) is not None:
        yield Problem(f"commit {found[0][:12]}", None, str(found[1]))


def _side(
    reader: Reader,
    tree: Tree,
    now: datetime,
    validated: Validated,
    *,
    may_be_empty: bool = False,
    base: Files | None = None,
) -> Side:
    """Read one revision; with `may_be_empty`, it may be from before the repository had hires and manifests.

    The rules of `base` judge it too.
    """
    from reconciler.review.difference import Side
    from reconciler.review.problems import hosts_of, problems_of

    if may_be_empty and not (tree.has("hires") and tree.has("manifests")):
        tree = _EmptyTree(tree)
    validated.begin(tree)
    try:
        files = reader.load(tree)
    except SettingsError as error:
        return Side(tree.revision, None, error.problems, [])
    problems = problems_of(files, now, tree, base=base, validated=validated)
    return Side(tree.revision, files, problems, hosts_of(files, tree))


class _EmptyTree:
    """A revision without `hires/` or `manifests/`, as if they were empty folders."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.revision = tree.revision

    def files(self, folder: str) -> Iterator[File]:
        return self._tree.files(folder)

    def find(self, path: str) -> File | None:
        return self._tree.find(path)

    def has(self, folder: str) -> bool:  # noqa: ARG002  every folder counts as present
        return True

    def read(self, file: File, limit: int | None = None) -> bytes:
        return self._tree.read(file, limit)
