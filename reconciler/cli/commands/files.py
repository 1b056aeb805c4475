"""What files say, offline and without any secret: `reconcile validate`, `diff`, `schema` and `test`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from reconciler.cli import complete
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import annotation, code, count, echo, emit, emit_json, problem_line
from reconciler.model.errors import Problem, SettingsError, Severity, UsageError
from reconciler.model.text import cut, hint, printable
from reconciler.model.value import fields, replace
from reconciler.repository.naming import Kind

if TYPE_CHECKING:
    from reconciler.repository.files import Files, Reader
    from reconciler.repository.git.checkout import Checkout
    from reconciler.repository.git.trees import Tree
    from reconciler.review.difference import Difference
    from reconciler.review.problems import Host, Side
    from reconciler.review.validated import Validated
    from reconciler.workshop.testing import CaseResult

LONGEST = 400
"""Characters of an answer that are shown."""


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
    from reconciler.review.validated import Validated

    checkout = Checkout.open(options.repo)
    validated = Validated(checkout)
    reader = Reader(root=checkout.root, known=validated.summaries)
    tree = checkout.at(rev) if rev else checkout.worktree(validated.stamped)
    if isinstance(tree, CommitTree) and (endless := checkout.extents.endless(tree.revision)) is not None:
        raise endless
    side = _side(reader, tree, datetime.now(UTC), validated, programs=options.programs)
    problems, hosts = side.problems, side.hosts
    if isinstance(tree, FolderTree) and side.files is not None:
        validated.keep(tree, side.files.hires)
    found = {"problems": [each.as_json() for each in problems], "hosts": [host.as_json() for host in hosts]}
    emit(options, found, _table(problems, hosts), markdown=_markdown(problems, hosts))
    if options.output != "json" and os.environ.get("GITHUB_ACTIONS") == "true":
        for problem in problems:
            click.echo(annotation(problem))
    return 1 if any(problem.severity is Severity.ERROR for problem in problems) else 0


def _headline(problems: list[Problem], hosts: list[Host]) -> str:
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
    ignored = ignored_of(checkout, checkout.checked_out, "compared") if found.head == checkout.head_id() else []
    for each in ignored:
        note(each)
    if options.output == "json":
        emit_json({**found.as_json(), "ignored": ignored})
    else:
        echo(as_markdown(found) if options.output == "markdown" else as_table(found))
    return 1 if any(problem.severity is Severity.ERROR for problem in problems) else 0


def compared(checkout: Checkout, base: str, head: str) -> tuple[Difference, list[Problem]]:
    """Compare two revisions; return the head's problems too."""
    from reconciler.model.decision_inputs import Policy
    from reconciler.repository.files import Reader
    from reconciler.repository.git.trees import WORKTREE
    from reconciler.review.difference import compare
    from reconciler.review.validated import Validated

    now = datetime.now(UTC)
    reader, validated = Reader(root=checkout.root), Validated()
    before = _side(reader, checkout.at(base), now, validated, may_be_empty=True)
    tree = checkout.worktree() if head == WORKTREE else checkout.at(head)
    after = _side(reader, tree, now, validated, base=before.files)
    # A commit of the branch that cannot be walked would be refused after the merge.
    committed = WORKTREE not in (before.revision, tree.revision)
    if committed and (found := checkout.extents.first_endless(tree.revision, before.revision)) is not None:
        endless = Problem(f"commit {found[0][:12]}", None, str(found[1]))
        after = replace(after, problems=[endless, *after.problems])
    day = Policy(after.files.settings, now).today if after.files is not None else now.date()
    return compare(before, after, day), after.problems


def _side(
    reader: Reader,
    tree: Tree,
    now: datetime,
    validated: Validated,
    *,
    may_be_empty: bool = False,
    base: Files | None = None,
    programs: Collection[str] = (),
) -> Side:
    """Read one revision; with `may_be_empty`, it may be from before the repository had hires and manifests.

    The rules of `base` judge it too. `programs` are those of this machine.
    """
    from reconciler.repository.git.trees import OverlayTree
    from reconciler.review.problems import Side, hosts_of, problems_of

    if may_be_empty and not (tree.has("hires") and tree.has("manifests")):
        revision, tree = tree.revision, OverlayTree({"hires/.gitkeep": b"", "manifests/.gitkeep": b""}, tree)
        tree.revision = revision
    validated.begin(tree)
    try:
        files = reader.load(tree)
    except SettingsError as error:
        return Side(tree.revision, None, error.problems, [])
    problems = problems_of(files, now, tree, base=base, validated=validated, programs=programs)
    return Side(tree.revision, files, problems, hosts_of(files, tree, programs))


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete.integrations)
@shared(csv=False)
def test(options: SharedOptions, names: tuple[str, ...]) -> int:
    """Run the cases in manifests/NAME.test.yaml, of all manifests without a NAME.

    A case has a made-up person, what the service answers, and what a pass makes of it. Offline: sends nothing, needs no
    key and no state. Exits with 1 if a case fails, or a file has an error.
    """
    import asyncio

    from reconciler.repository.config_files import read_cases
    from reconciler.repository.git.checkout import Checkout
    from reconciler.workshop.testing import run_cases, sources_of

    tree = Checkout.open(options.repo).worktree()
    sources = sources_of(tree)
    loaded = read_cases(tree, sources)
    for name in names:
        if name not in loaded:
            what = f"there is no manifests/{name}.test.yaml" if name in sources else f"there is no manifest {name}"
            raise UsageError(f"{what}{hint(name, loaded)}")
    chosen = {name: loaded[name] for name in sorted(names or loaded)}
    results = asyncio.run(run_cases(chosen, sources))
    problems = [problem for each in chosen.values() for problem in each.problems]
    failed = sum(bool(result.failures) for _, _, result in results)
    cases = [_case_as_json(name, line, result) for name, line, result in results]
    found = {"cases": cases, "problems": [problem.as_json() for problem in problems]}
    emit(options, found, _case_lines(chosen.keys(), results, problems))
    return 1 if failed or problems else 0


def _case_as_json(name: str, line: int | None, result: CaseResult) -> dict[str, Any]:
    return {
        "manifest": name,
        "case": result.case.name,
        "line": line,
        "passed": not result.failures,
        **fields(result, "status", "reason", "failures", "doubts", "sends"),
    }


def _case_lines(
    names: Any, results: list[tuple[str, int | None, CaseResult]], problems: list[Problem]
) -> Iterator[str]:
    for problem in problems:
        yield printable(str(problem))
    for name in names:
        of = [(line, result) for manifest, line, result in results if manifest == name]
        for line, result in of:
            if result.failures:
                yield f"FAILED {name}, line {line}: {printable(result.case.name)}"
                yield from (printable(f"  {each}") for each in result.failures)
                yield from map(printable, _exchanges(result))
            else:
                yield from (printable(f"{name}, line {line}: {result.case.name}: {each}") for each in result.doubts)
    failed = sum(bool(result.failures) for _, _, result in results)
    passed = len(results) - failed
    yield f"{count(passed, 'case')} of {count(len(names), 'manifest')} passed" + (
        f", {failed} failed" if failed else ""
    )


def _exchanges(result: CaseResult) -> Iterator[str]:
    """Return each request with its answer and what the rules found, then what is sent: the case's, the program's."""
    for each in result.exchanges:
        yield f"    request   {each.request.method} {each.request.url}  ({each.part})"
        if each.request.content:
            yield f"              {_cut(each.request.content.decode(errors='replace'))}"
        answered = f"none: {each.why}" if each.answer is None else f"{each.answer.status} {_cut(each.answer.text)}"
        yield f"    answer    {answered}"
        for rule in each.rules:
            first, *more = rule.lines
            yield f"    rule      {first}"
            yield from (f"              {line}" for line in more)
    listed = () if result.case.sends is None else result.case.sends
    for wanted in listed:
        said = _sent(wanted.method or "any method", wanted.url or "any URL", wanted.data)
        yield f"    the case lists           {said}"
    for sent in result.sends:
        yield f"    the program would send   {_sent(sent['method'], sent['url'], sent['body'])}"


def _sent(method: str, url: str, body: Any) -> str:
    return f"{method} {url}" + ("" if body is None else f" {_cut(json.dumps(body, ensure_ascii=False, default=str))}")


def _cut(text: str) -> str:
    return cut(text, LONGEST)
