"""`reconcile unmanaged`, `unused` and `adopt`: what accounts services have, and git does not know. None is removed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, run_in_context
from reconciler.cli.options import PENDING, SharedOptions, as_given, of_integrations, option, shared
from reconciler.cli.output.logs import begin_redacting, note, set_up
from reconciler.cli.output.text import code, columns, count, emit, emit_csv, emit_json, fit, table
from reconciler.model.base import duration
from reconciler.model.clock import stamp
from reconciler.model.errors import Severity, UsageError
from reconciler.model.text import printable
from reconciler.requests.record import last_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from reconciler.engine.context import Context
    from reconciler.model.secret import Redactor
    from reconciler.repository.files import Files
    from reconciler.review.unmanaged import ComparedListing

COLUMNS = ("integration", "account", "email", "kind", "near", "first_seen", "reason")


@click.command()
@of_integrations
@option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are accounts that git does not know.")
@shared()
def unmanaged(options: SharedOptions, *, integrations: tuple[str, ...], detailed_exitcode: bool) -> int:
    """Show the accounts that git does not know: no hire has a grant for them. Nothing is removed.

    Reads the listing (`exists.list`) of each integration, and compares it with the committed files, the ledger and
    config/ignore.yaml. Changes nothing. Exits with 1 if a listing cannot be read completely.
    """
    from reconciler.review.population import compared

    redactor = begin_redacting(options)

    async def compare(context: Context) -> tuple[str, list[ComparedListing], bool]:
        here = Here(context)
        return here.force.tree.revision, await compared(here.force, integrations), ignores_nothing(here.files)

    revision, found, broken = run_in_context(options, redactor, compare)
    _note_faults(found, redactor)
    rows = [redactor.redact_all(account.as_json()) for each in found for account in each.accounts]
    listings = [each.as_json() for each in found]
    if options.output == "csv":
        emit_csv(COLUMNS, rows)
    else:
        whole = {"revision": revision, "integrations": listings, "accounts": rows}
        emit(options, whole, _table(found, rows), markdown=_markdown(found, rows))
    if broken or any(each.fault is not None for each in found):
        return 1
    return PENDING if detailed_exitcode and any(each.unknown for each in found) else 0


def _note_faults(found: Iterable[ComparedListing], redactor: Redactor) -> None:
    for each in found:
        if each.fault is not None:
            note(f"{each.integration}: the listing was not read whole: {redactor.redact(each.fault)}", "error")


def ignores_nothing(files: Files) -> bool:
    """Whether `config/ignore.yaml` has errors, which are reported: then it ignores nothing."""
    from reconciler.repository.config_files import IGNORE

    wrong = [each for each in files.problems if each.file == IGNORE and each.severity is Severity.ERROR]
    for problem in wrong:
        note(str(problem), "error")
    return bool(wrong)


def _headline(found: list[ComparedListing]) -> str:
    unknown = sum(each.unknown for each in found)
    read = sum(each.complete for each in found)
    left = len(found) - read
    without = f"; of {count(left, 'integration')} it is not known" if left else ""
    return f"{count(unknown, 'account')} that git does not know, in {count(read, 'listing')}{without}"


def _counts(each: ComparedListing) -> str:
    if each.fault is not None:
        return "not read whole"
    if not each.complete:
        return f"not known: {each.unlisted}"
    from reconciler.review.unmanaged import AccountKind

    counts = ", ".join(f"{each.of(kind)} {kind}" for kind in AccountKind if each.of(kind))
    return f"{each.listed} listed, {each.matched} matched{counts and f', {counts}'}"


def _table(found: list[ComparedListing], rows: list[dict[str, Any]]) -> Iterator[str]:
    yield _headline(found)
    for each in found:
        yield printable(f"{each.integration}: {_counts(each)}")
    if rows:
        yield ""
    shown = []
    for row in rows:
        near, seen = f"like {row['near']}" if row["near"] else "", (row["first_seen"] or "")[:10]
        shown.append((row["integration"], row["account"], row["kind"], near, seen, row["reason"]))
    yield from columns(shown)


def _markdown(found: list[ComparedListing], rows: list[dict[str, str | None]]) -> Iterator[str]:
    yield f"**{_headline(found)}**"
    yield ""
    for each in found:
        yield f"- {code(each.integration)}: {_counts(each)}"
    yield from table(COLUMNS, rows)


UNUSED_COLUMNS = ("integration", "hire", "account", "last_used")


@click.command()
@option("--for", "span", required=True, metavar="90d", help="For how long nobody used them.")
@of_integrations
@option("--detailed-exitcode", is_flag=True, help="Exit with 2 if there are such accounts.")
@shared()
def unused(options: SharedOptions, *, span: str, integrations: tuple[str, ...], detailed_exitcode: bool) -> int:
    """Show the accounts that nobody used for a while, by what their services say (`exists.list`, `used`).

    Reads the listings, and takes nothing away. What is not known is not unused: the services that do not say it, or
    whose listing cannot be read, are named.
    """
    from reconciler.review.population import compared

    now = datetime.now(UTC)
    since = as_given("--for", span, lambda text: now - duration(text))
    if since == now:
        raise UsageError(f"--for {span}: write how long nobody used them, such as 90d")
    redactor = begin_redacting(options)
    found = run_in_context(options, redactor, lambda context: compared(Here(context).force, integrations))
    _note_faults(found, redactor)
    rows = [redactor.redact_all(row) for row in _rows(found, since, now)]
    unknown = [each.integration for each in found if not (each.complete and each.tells_use)]
    if options.output == "csv":
        emit_csv(UNUSED_COLUMNS, rows)
    else:
        _show_unused(options, rows, unknown, span)
    return PENDING if detailed_exitcode and rows else 0


def _rows(found: Iterable[ComparedListing], before: datetime, now: datetime) -> Iterator[dict[str, Any]]:
    """List what was last used before a time, longest ago first within each integration."""
    from reconciler.review.unmanaged import AccountKind

    for each in found:
        known: list[tuple[datetime, str, str | None]] = [
            (at, name, hire) for (hire, _), (name, at) in each.used.items()
        ]
        for account in each.accounts:
            at = last_used(account.account.used, now)
            if account.kind is AccountKind.UNMANAGED and at is not None:
                known.append((at, account.account.name, account.hire))
        for at, name, hire in sorted(set(known), key=lambda row: (row[0], row[1], row[2] or "")):
            if at < before:
                yield {"integration": each.integration, "hire": hire, "account": name, "last_used": stamp(at)}


UNTOLD = "not known, because the listing could not be read or does not say when accounts were used"


def _show_unused(options: SharedOptions, rows: list[dict[str, Any]], unknown: list[str], span: str) -> None:
    services = f"of {count(len(unknown), 'integration')} it is not known" if unknown else "every integration says it"
    headline = f"{count(len(rows), 'account')} not used for {span}; {services}"
    shown = [
        (row["integration"], row["hire"] or "no hire", row["account"], f"last used {row['last_used']}") for row in rows
    ]
    lines, markdown = [headline, *columns(shown)], [f"**{headline}**", *table(UNUSED_COLUMNS, rows)]
    if unknown:
        lines.append(f"{UNTOLD}: {printable(', '.join(unknown))}")
        markdown += ["", f"{UNTOLD}: {', '.join(map(code, unknown))}"]
    emit(options, {"unused": rows, "unknown": unknown}, lines, markdown=markdown)


@click.command()
@click.argument("integration", shell_complete=complete.integrations)
@click.argument("accounts", metavar="[ACCOUNT]...", nargs=-1)
@option(
    "--all", "everybody", is_flag=True, help="Every account that git does not know, except ignored and orphaned ones."
)
@option("--write", is_flag=True, help="Write the files to the work tree: all of them, or none.")
@shared(csv=False)
def adopt(options: SharedOptions, integration: str, accounts: tuple[str, ...], *, everybody: bool, write: bool) -> int:
    """Print hires' files for existing accounts of INTEGRATION, or the line that an existing file lacks.

    The values come from `fields` of the manifest's list. With --write, an existing file gets the line, and no other
    byte of it changes. After you commit the files, the next pass finds the accounts and sends nothing.
    """
    from reconciler.intake.adopt import proposed
    from reconciler.intake.files import write_all

    if bool(accounts) == everybody:
        raise UsageError("name accounts, or take --all; `reconcile unmanaged` lists those that git does not know")
    redactor = set_up(options)
    found, refused = run_in_context(options, redactor, lambda context: proposed(context, integration, accounts))
    if write:
        before = {each.path: each.before for each in found if each.before is not None}
        write_all(options.repo, {each.path: each.content for each in found}, before)
    if options.output == "json":
        files = [{"hire": e.hire, "file": e.path, "new": e.before is None, "text": e.text} for e in found]
        emit_json({"files": redactor.redact_all(files), "written": write})
    else:
        text = "\n".join(f"# {each.path}\n{each.text}" for each in found)
        click.echo(fit(redactor.redact(text)), nl=False)
    for each in found:
        if each.also:
            note(f"{each.hire} is given {', '.join(each.also)} too: a pass makes what is not there yet", "warning")
    if write and found:
        next_steps = "`git add hires && git diff --staged`, commit, and `reconcile --dry-run`"
        note(f"{count(len(found), 'file')} written; next: {next_steps}")
    elif not (found or refused):
        note(f"{integration} has no account to adopt")
    for why in refused:
        note(f"not adopted: {redactor.redact(why)}", "error")
    return 1 if refused else 0
