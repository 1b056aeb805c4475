"""`reconcile review`: start an access review, and check that every line is decided."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, Refused, run_in_context
from reconciler.cli.options import SharedOptions, as_given, of_integrations, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import count, echo, emit, emit_csv, emit_json, takes_utf8
from reconciler.model.errors import UsageError
from reconciler.model.value import replace
from reconciler.repository.naming import line_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from reconciler.engine.context import Context, Revision
    from reconciler.model.secret import Redactor
    from reconciler.repository.git.trees import Tree
    from reconciler.review.proof import Stand
    from reconciler.review.signed_off import Judged
    from reconciler.review.unmanaged import ComparedListing

UNDECIDED = 2


@click.group()
def review() -> None:
    """Review who has access: start a period's review, and check that it is complete."""


@review.command()
@click.argument("period", shell_complete=complete.periods)
@of_integrations
@option("--by", envvar="RECONCILE_REVIEW_BY", type=click.Choice(["manager"]), help="Write a folder for each manager.")
@option("--due", metavar="DATE", help="The day by which all lines have to be decided.")
@shared()
def start(
    options: SharedOptions, period: str, integrations: tuple[str, ...], *, by: str | None, due: str | None
) -> int:
    """Query every service once, and write who has what.

    Writes config/reviews/PERIOD/<integration>.yaml for each integration; with --by manager in a folder for each
    manager, nobody/ for who has none. Reviewers set each line's decision to `keep` or `remove`, and commit. This
    command commits nothing and changes nothing at a service. Exits with 1 if a service could not be read completely,
    or if PERIOD was started already.
    """
    from reconciler.intake.files import path_of, review_text, write_all
    from reconciler.model.base import day as day_of
    from reconciler.repository.reviews import REVIEWS

    if options.output in ("csv", "html"):
        raise UsageError("--output csv and html are for `review check`: choose table, json or markdown")
    _check_period(period)
    day = None if due is None else as_given("--due", due, day_of, "write a date, such as 2026-12-15").isoformat()
    redactor = set_up(options)
    split = by is not None
    answered, found = run_in_context(
        options, redactor, lambda context: _started(context, period, integrations, split=split)
    )
    found = {name: {**data, **({} if day is None else {"due": day})} for name, data in found.items()}
    first = line_in(options.repo, "review", f"{REVIEWS}/{period}").encode()
    files = {path_of(period, *key): (key[0], _masked(data, redactor)) for key, data in found.items()}
    write_all(options.repo, {path: first + review_text(data, path) for path, (_, data) in files.items()}, {})
    started = [_as_started(name, path, data) for path, (name, data) in files.items()]
    lines = count(sum(each["lines"] for each in started), "line")
    by_when = "" if day is None else f", by {day}"
    headline = f"review {period}: {lines} to decide over, in {count(len(started), 'file')}{by_when}"
    parts = [f"{each['file']}: {count(each['lines'], 'line')}, {_whole(each)}" for each in started]
    emit(options, {"period": period, "reviews": started}, [headline, *parts])
    here = Here.of(options)
    if day is not None and day < here.force.today.isoformat():
        note(f"--due {day}: that day is over, and the review overdue from the start", "warning")
    faults = {each.integration: each.fault for each in answered if each.fault is not None}
    for name, fault in faults.items():
        path = ", ".join(each["file"] for each in started if each["integration"] == name)
        again = f"delete it, and start it again with --integration {name}, before it is committed"
        note(f"{path} is not whole: {redactor.redact(fault)}; {again}", "error")
    note(
        "next: commit the files as they are; then put `keep` or `remove` behind each decision, commit, and "
        f"`reconcile review check {period}`"
    )
    return 1 if faults else 0


def _masked(data: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Redact what services said. What git says stays as it is, because it is compared."""
    parts = {True: ("who", "values"), False: ("values",)}
    lines = [
        line | {key: redactor.redact_all(line[key]) for key in parts[line["access"] is None]} for line in data["lines"]
    ]
    return {**data, "lines": lines}


@review.command()
@click.argument("period", shell_complete=complete.periods)
@shared()
def check(options: SharedOptions, period: str) -> int:
    """Check whether a period's review is complete.

    Reads the committed files, and the removals in the ledger. Exits with 0 if the review is complete, with 2 if lines
    are undecided, and with 1 if a file was edited or removed, a listing was incomplete, a person decided on their own
    access or on a grant of theirs, or access to be removed still exists. --output csv and html are the evidence: they
    name who decided each line.
    """
    from reconciler.cli.output.evidence import COLUMNS, as_page, as_rows, as_table

    _check_period(period)
    here = Here.of(options, set_up(options))
    tree, found, stood = _judged(options, here, period)
    match options.output:
        case "json":
            emit_json({"period": period, "revision": tree.revision, "reviews": [each.as_json() for each in found]})
        case "csv":
            emit_csv(COLUMNS, as_rows(found, stood))
        case "html":
            page = as_page(found, period, tree.revision, stood)
            click.echo(page if takes_utf8() else page.encode("ascii", "xmlcharrefreplace"), nl=False)
        case _:
            echo("\n".join(as_table(found, period, here.force.today, markdown=options.output == "markdown")))
    if options.output in ("csv", "html"):
        for problem in (problem for each in found for problem in each.problems):
            note(str(problem), str(problem.severity))
    if any(each.doubtful or each.open for each in found):
        return 1
    return UNDECIDED if any(each.undecided for each in found) else 0


def _check_period(period: str) -> None:
    from reconciler.repository.reviews import PERIOD

    if not PERIOD.fullmatch(period):
        raise UsageError(f"PERIOD {period!r}: write letters, digits, `.`, `_` and `-`, at most 64, such as 2026-Q4")


def _judged(options: SharedOptions, here: Here, period: str) -> tuple[Tree, list[Judged], Stand | None]:
    """Judge a review; for evidence, name people, and say where the history stood."""
    from reconciler.repository.git.checkout import ignored_edits
    from reconciler.repository.reviews import REVIEWS
    from reconciler.review.proof import stand
    from reconciler.review.signed_off import judge, name_people

    context, tree = here.context, _committed(here).tree
    folder = f"{REVIEWS}/{period}/"
    if edits := [path for path in ignored_edits(context.checkout) if path.startswith(folder)]:
        note(f"not committed, and so not counted: {', '.join(edits[:5])}{' and more' if len(edits) > 5 else ''}")
    evidence = options.output in ("csv", "html")
    with here.state.reader() as ledger:
        found = judge(context.checkout, tree, period, ledger, load=context.reader.load, signer=here.signer)
        stood = stand(ledger, context.checkout, here.settings, here.force.own) if evidence else None
    if evidence:
        name_people(found, context.checkout, tree, here.signer)
    return tree, found, stood


def _committed(here: Here) -> Revision:
    """Return the commit in force: the last trusted one where commits have to be signed, else HEAD, for any `source`."""
    from reconciler.repository.git.trees import WORKTREE

    checkout, force = here.context.checkout, here.force
    if not checkout.is_git:
        raise Refused(f"{here.context.root} is no git checkout: a review is signed off by commits")
    _ = here.state  # raises where it was lost
    if force.refused is not None:
        note(f"what is not accepted is not counted: {force.refused}", "warning")
    return replace(force, tree=checkout.head()) if force.tree.revision == WORKTREE else force


async def _started(
    context: Context, period: str, integrations: Collection[str], *, split: bool
) -> tuple[list[ComparedListing], Mapping[tuple[str, str | None], dict[str, Any]]]:
    """Ask the services, and make the data of each integration's review; with `split`, of each manager's people."""
    from reconciler.cli.commands.accounts import ignores_nothing
    from reconciler.review.population import known_integration, population

    revision = _committed(Here(context))
    files = revision.files
    for name in integrations:
        known_integration(files, name)
    names = sorted(set(integrations) or {*files.manifests, *files.broken["manifests"]})
    if not names:
        raise UsageError("there is no manifest: nobody can have access to anything")
    _refuse_restart(context, revision.tree, period, names=names, every=not integrations)
    if ignores_nothing(files):
        raise Refused("nothing is written: every account that is to be ignored would be a line")
    return await population(revision, names, every=not integrations, split=split)


def _refuse_restart(context: Context, tree: Tree, period: str, *, names: Collection[str], every: bool) -> None:
    """Refuse to start a review whose file exists, committed or not, or was removed by a commit."""
    from reconciler.repository.attribution.origins import origins_of
    from reconciler.repository.reviews import REVIEWS

    folder = f"{REVIEWS}/{period}"
    there = {file.path for each in (tree, context.checkout.worktree()) for file in each.files(folder)}
    was = origins_of(context.checkout.root, tree.revision, folder).commits
    found, taken = (
        sorted(path for path in paths if every or PurePosixPath(path).stem in names) for paths in (there, was)
    )
    if found:
        more = "; for an integration that was added since, give --integration NAME" if every else ""
        raise Refused(f"the review {period} was started already: {', '.join(found)}{more}")
    if taken:
        commit = was[taken[0]][0][:12]
        raise Refused(
            f"the review {period} was started already, in {commit}, and {', '.join(taken)} was taken away since: "
            f"`git checkout {commit} -- {taken[0]}` brings it back"
        )


def _as_started(integration: str, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
    lines = len(data["lines"])
    begun = {"lines": lines, "undecided": lines, "open": 0}
    counts = {key: data[key] for key in ("listed", "matched", "ignored", "complete")}
    return {"integration": integration, "file": path, "due": data.get("due"), **begun, "problems": [], **counts}


def _whole(each: Mapping[str, Any]) -> str:
    if each["complete"]:
        return f"{each['listed']} listed, {each['matched']} matched, {each['ignored']} ignored"
    return "not read whole" if each["listed"] is not None else f"no listing, {each['matched']} found by their checks"
