"""`reconcile validate`: report every problem of every file, offline; and `reconcile schema`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args

import click

from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.text import annotation, code, count, emit, emit_json, printable, problem_line
from reconciler.model.errors import SettingsError, Severity
from reconciler.repository.naming import Kind

if TYPE_CHECKING:
    from reconciler.model.errors import Problem
    from reconciler.review.problems import Host

__all__ = ["schema", "validate"]


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
