"""`reconcile unused`: show the accounts that nobody used for a while. It takes nothing away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.commands.unmanaged import compared, known_integration
from reconciler.cli.context import run_in_context
from reconciler.cli.options import PENDING, SharedOptions, of_integrations, option, shared
from reconciler.cli.output.logs import begin_redacting, note
from reconciler.cli.output.text import as_csv, code, count, emit, printable, table
from reconciler.model.clock import stamp
from reconciler.model.errors import UsageError
from reconciler.requests.last_used import last_used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from reconciler.engine.context import Context
    from reconciler.review.unmanaged import ComparedListing

__all__ = ["unused"]

COLUMNS = ("integration", "hire", "account", "last_used")


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
    from reconciler.engine.run.accepted import in_force

    idle, redactor = _span(span), begin_redacting()

    async def compare(context: Context) -> tuple[list[ComparedListing], datetime]:
        tree = in_force(context).tree
        for name in integrations:
            known_integration(context.reader.load(tree), name)
        return await compared(context, tree, integrations), context.clock.now()

    found, now = run_in_context(options, redactor, compare)
    for each in found:
        if each.fault is not None:
            note(f"{each.integration}: the listing was not read whole: {redactor.redact(each.fault)}", "error")
    rows = [redactor.redact_all(row) for row in _rows(found, now - idle, now)]
    unknown = [each.integration for each in found if not (each.complete and each.tells_use)]
    if options.output == "csv":
        click.echo(as_csv(COLUMNS, ([row[name] or "" for name in COLUMNS] for row in rows)), nl=False)
    else:
        whole = {"unused": rows, "unknown": unknown}
        emit(options, whole, _table(rows, unknown, span), markdown=_markdown(rows, unknown, span))
    return PENDING if detailed_exitcode and rows else 0


def _span(text: str) -> timedelta:
    from reconciler.model.base import duration

    try:
        found = duration(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--for {text}: {error}") from None
    if not found:
        raise UsageError(f"--for {text}: write how long nobody used them, such as 90d")
    return found


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


UNKNOWN = "not known, because the listing could not be read or does not say when accounts were used"


def _headline(rows: list[dict[str, Any]], unknown: list[str], span: str) -> str:
    services = f"of {count(len(unknown), 'integration')} it is not known" if unknown else "every integration says it"
    return f"{count(len(rows), 'account')} not used for {span}; {services}"


def _table(rows: list[dict[str, Any]], unknown: list[str], span: str) -> Iterator[str]:
    from reconciler.cli.output.table import columns

    yield _headline(rows, unknown, span)
    shown = (
        (row["integration"], row["hire"] or "no hire", row["account"], f"last used {row['last_used']}") for row in rows
    )
    yield from columns([[printable(cell) for cell in row] for row in shown])
    if unknown:
        yield f"{UNKNOWN}: {printable(', '.join(unknown))}"


def _markdown(rows: list[dict[str, Any]], unknown: list[str], span: str) -> Iterator[str]:
    yield f"**{_headline(rows, unknown, span)}**"
    yield from table(COLUMNS, rows)
    if unknown:
        yield ""
        yield f"{UNKNOWN}: {', '.join(map(code, unknown))}"
