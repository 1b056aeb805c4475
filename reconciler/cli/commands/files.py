"""What files say, offline and without any secret: `reconcile validate`, `diff` and `schema`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import click

from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import annotation, code, count, echo, emit, emit_json, printable, problem_line
from reconciler.model.errors import Problem, SettingsError, Severity
from reconciler.model.value import replace
from reconciler.repository.naming import Kind

if TYPE_CHECKING:
    from reconciler.repository.files import Files, Reader
    from reconciler.repository.git.checkout import Checkout, File, Tree
    from reconciler.review.difference import Difference, Side
    from reconciler.review.problems import Host
    from reconciler.review.validated import Validated

__all__ = ["compared", "diff", "schema", "validate"]


@click.command()
@option("--rev", metavar="REV", help="Read a commit instead of the files on disk.")
@shared(csv=False)
def validate(options: SharedOptions, rev: str | None) -> int:
    """Report every problem of every file, with line and what to do, and list the hosts of requests.

    Reads the files on disk, committed or not. Offline: sends nothing, needs no key. Exits with 1 if a file has an
    error. On GitHub's runners each problem is also written as an annotation.
    """
    from reconciler.repository.files import Reader
    from reconciler.repository.git.checkout import Checkout
    from reconciler.repository.git.trees import CommitTree, FolderTree
    from reconciler.review.problems import hosts_of, problems_of
    from reconciler.review.validated import Validated

    checkout = Checkout.open(options.repo)
    validated = Validated(checkout)
    reader = Reader(root=checkout.root, known=validated.summaries)
    tree = checkout.at(rev) if rev else checkout.worktree(validated.stamped)
    if isinstance(tree, CommitTree) and (endless := checkout.extents.endless(tree.revision)) is not None:
        raise endless
    validated.begin(tree)
    hosts: list[Host] = []
    try:
        files = reader.load(tree)
    except SettingsError as error:
        problems = error.problems
    else:
        problems = problems_of(files, datetime.now(UTC), tree, validated=validated, programs=options.programs)
        hosts = hosts_of(files, tree, options.programs)
        if isinstance(tree, FolderTree):
            validated.keep(tree, files.hires)
    found = {"problems": [each.as_json() for each in problems], "hosts": [host.as_json() for host in hosts]}
    emit(options, found, _table(problems, hosts), markdown=_markdown(problems, hosts))
    if options.output != "json" and os.environ.get("GITHUB_ACTIONS") == "true":
        for problem in problems:
            click.echo(annotation(problem))
    return 1 if any(problem.severity is Severity.ERROR for problem in problems) else 0


def _headline(problems: list[Problem], hosts: list[Host]) -> str:
    """Sum up the problems and hosts in one line."""
    wrong = sum(problem.severity is Severity.ERROR for problem in problems)
    warned = len(problems) - wrong
    parts = [text for number, text in ((wrong, count(wrong, "error")), (warned, count(warned, "warning"))) if number]
    refused = sum(not host.allowed for host in hosts)
    closing = f", of which {refused} not allowed" if refused else ""
    return f"{', '.join(parts) or 'all files are in order'}; requests would go to {count(len(hosts), 'host')}{closing}"


def _table(problems: list[Problem], hosts: list[Host]) -> Iterator[str]:
    yield _headline(problems, hosts)
    yield from (printable(str(problem)) for problem in problems)
    for host in hosts:
        yield f"host {host.host}  ({printable(', '.join(host.files))}){'' if host.allowed else '  NOT ALLOWED'}"


def _markdown(problems: list[Problem], hosts: list[Host]) -> Iterator[str]:
    yield from (f"**{_headline(problems, hosts)}**", "", *map(problem_line, problems))
    for host in hosts:
        mark = "" if host.allowed else " **not allowed**"
        yield f"- host {code(host.host)} from {', '.join(map(code, host.files))}{mark}"


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(get_args(Kind)))
@shared()
def schema(options: SharedOptions, kind: Kind) -> int:  # noqa: ARG001
    """Print the JSON Schema of a kind of file, regardless of --output.

    KIND is manifest, hire, sequence, settings, ignore, import, policy, review, test, request or requestable.

    A new repository has the schemas in .schemas/. YAML's language server in an editor finds one by a file's first line:
    `# yaml-language-server: $schema=../.schemas/hire.json`
    """
    from reconciler.repository.documents.schema import json_schema

    emit_json(json_schema(kind))
    return 0


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
