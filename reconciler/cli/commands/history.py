"""What the state holds: `reconcile history` shows the events in the ledger, `state copy` and `backup` copy it all."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.commands.proof import Compared, compared, export
from reconciler.cli.commands.proof import checkpoint as signed_checkpoint
from reconciler.cli.context import Here, suggest_from_ledger
from reconciler.cli.options import (
    FilePath,
    HistoryFilter,
    SharedOptions,
    of_hires,
    of_integrations,
    option,
    shared,
    since,
    until,
)
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import code, columns, count, echo, emit, emit_csv, emit_json, emit_json_items, in_words
from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError, UsageError
from reconciler.model.status import EventType
from reconciler.model.text import hint, printable
from reconciler.model.value import fields, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from reconciler.ledger.entries import Event
    from reconciler.repository.git.checkout import Checkout

COLUMNS = (
    *("at", "hire", "access", "integration", "event", "revision", "author", "signer", "detail"),
    *("granted_in", "approved_by", "digest", "by"),
)


@click.group(invoke_without_command=True, subcommand_metavar="[COMMAND]")
@of_hires
@of_integrations
@option("--event", "events", multiple=True, metavar="NAME", help="Only this event; repeatable.")
@since
@until
@option("--verify", is_flag=True, help="Verify the history and the ledger instead.")
@option("--checkpoint", metavar="FILE", help="With --verify: by this checkpoint, too.")
@option("--key", metavar="KEY", help="Its public key, if not CHECKPOINT_KEY's.")
@shared(tolerant=True)
def history(
    options: SharedOptions,
    /,
    *,
    events: tuple[str, ...],
    verify: bool,
    checkpoint: str | None,
    key: str | None,
    **given: Any,
) -> int:
    """Show what happened: when, to whom, at which commit, and who committed it. Oldest first.

    Sends no request and creates no state. JSON and CSV also have the signer of a signed commit.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return 0
    if (checkpoint is not None and not verify) or (key is not None and checkpoint is None):
        raise UsageError("--checkpoint is for --verify, and --key for --checkpoint")
    chosen = HistoryFilter(**given)
    filters = (*chosen.names, *events)
    if verify:
        if filters or chosen.since or chosen.until:
            raise UsageError("--verify looks at the whole history: leave the filters out")
        if options.output == "csv":
            raise UsageError("--verify has one answer, and no CSV: choose table, json or markdown")
        return _verify(options, checkpoint, key)
    here = Here.of(options)
    begin, end = chosen.period(here.settings.timezone)
    types = [_event_type(name) for name in events]
    with here.state.reader() as ledger:
        found = ledger.history.lines(
            hires=chosen.hires, integrations=chosen.integrations, events=types, since=begin, until=end
        )
        first = next(found, None)
        if first is None and filters:
            words = (("since", chosen.since), ("until", chosen.until))
            when = "".join(f" {word} {text}" for word, text in words if text)
            meant = suggest_from_ledger(ledger, *chosen.names)
            note(f"the ledger tells nothing of {', '.join(filters)}{when}{meant}")
        _show(options, here, (_row(line.shown()) for line in chain([] if first is None else [first], found)))
    return 0


history.add_command(export)
history.add_command(signed_checkpoint, "checkpoint")


def _show(options: SharedOptions, here: Here, rows: Iterator[dict[str, Any]]) -> None:
    """Write the rows; all are kept only for what is headed by their number."""
    from reconciler.cli.output.report import page

    match options.output:
        case "json":
            emit_json_items(_with_signers(here, rows))
        case "csv":
            signed = ({**row, "approved_by": ", ".join(row["approved_by"])} for row in _with_signers(here, rows))
            emit_csv(COLUMNS, signed)
        case "markdown":
            all_rows, checkout = list(rows), here.context.checkout
            echo(f"**{_headline(all_rows)}**\n")
            for row in all_rows:
                where = " ".join(code(part) for part in (row["hire"], row["access"] or row["integration"]) if part)
                parts = [row["event"], *([code(row["detail"])] if row["detail"] else []), *_said(row, checkout, code)]
                echo(f"- {row['at']} {where}: {', '.join(parts)}")
        case _:
            all_rows = list(rows)
            page([_headline(all_rows), *_table(all_rows, here.context.checkout)])


def _event_type(name: str) -> EventType:
    known = [str(kind) for kind in EventType]
    if name not in known:
        raise UsageError(f"--event {name}: there is no such event{hint(name, known)}; there are {', '.join(known)}")
    return EventType(name)


def _verify(options: SharedOptions, checkpoint: str | None, key: str | None) -> int:
    """Say whether the chain is whole and agrees with the ledger, or what breaks it first."""
    with Here.of(options).state.reader() as ledger:
        chain, disagrees = ledger.history.verify_agreement()
    found = Compared(None) if checkpoint is None else compared(options, checkpoint, key)
    contradicts, timestamp = found.contradicts, stamp(found.timestamp)
    broken = chain.broken or disagrees or contradicts
    if options.output == "json":
        result = {"lines": chain.lines, "erased": chain.erased, "digest": chain.digest, "broken": broken}
        emit_json({"whole": broken is None, **result, **({} if checkpoint is None else {"timestamp": timestamp})})
    elif chain.broken is not None:
        echo(f"the history is broken at {printable(chain.broken)}")
    elif disagrees is not None:
        echo(f"the history and the ledger disagree about {printable(disagrees)}")
    elif contradicts is not None:
        echo(f"the history does not hold what the checkpoint covers: {printable(contradicts)}")
    else:
        erased = f", {chain.erased} of them erased" if chain.erased else ""
        whole = f"the history is whole: {count(chain.lines, 'line')}, none changed or taken out since it was written"
        echo(f"{whole}{erased}; digest {chain.digest or 'none'}")
        if timestamp is not None:
            echo(f"the checkpoint was there at {timestamp}, says the authority that timestamped it")
    if found.unverified is not None:
        note(f"the checkpoint's timestamp was not verified: {found.unverified}", "warning")
    return 0 if broken is None else 1


def _row(line: Event) -> dict[str, Any]:
    return {
        **fields(line, "at"),
        **fields(line.key, "hire", "access"),
        **fields(line, "integration", "event", "revision", "author"),
        "signer": None,
        **fields(line, "by", "detail", "granted_in", "approved_by"),
        "values": (line.data or {}).get("values"),
        "digest": line.digest,
    }


def _with_signers(here: Here, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add to each row who signed its commit."""
    for row in rows:
        revision = row["revision"]
        yield {**row, "signer": here.signer(revision) if revision and revision != "worktree" else None}


def _headline(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing happened"
    kinds = Counter(row["event"] for row in rows)
    summary = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return f"{count(len(rows), 'event')} from {rows[0]['at']} to {rows[-1]['at']}: {summary}"


def _table(rows: list[dict[str, Any]], checkout: Checkout) -> list[str]:
    from reconciler.cli.output.report import beside

    whose = ("/".join(filter(None, (row["hire"], row["access"]))) or row["integration"] for row in rows)
    lines = columns([(row["at"], who, row["event"]) for row, who in zip(rows, whose, strict=True)])
    width = max(map(len, lines), default=0)
    said = (", ".join(filter(None, (row["detail"], *_said(row, checkout, str)))) for row in rows)
    return [part for line, text in zip(lines, said, strict=True) for part in beside(f"{line:<{width}}  ", text, "    ")]


def _said(row: dict[str, Any], checkout: Checkout, quote: Callable[[str], str]) -> Iterator[str]:
    """Say with which values it was, at which commit, and who gave and approved the grant.

    A line's author is who gave its grant, in an earlier commit perhaps than the one that was acted on.
    """
    revision, given, author = row["revision"], row["granted_in"], row["author"]
    began = row["event"] == EventType.ATTEMPT_STARTED
    if row["values"] and not began:
        yield f"with {quote(in_words(row['values']))}"
    if revision:
        made = None if given in (None, revision, "worktree") else checkout.commit_if_there(revision)
        who = author if given in (None, revision) else made and made.author
        yield " by ".join([f"at {quote(revision[:12])}", *([quote(who)] if who else [])])
    if given and given != revision and author:
        yield f"given in {quote(given[:12])} by {quote(author)}"
    if row["approved_by"] and not began:
        yield f"approved by {', '.join(map(quote, row['approved_by']))}"


@click.group()
def state() -> None:
    """Copy the state, or back it up."""


@state.command(short_help="Copy the state into a file, also while a daemon runs")
@click.argument("file", type=FilePath(dir_okay=False))
@shared(csv=False, tolerant=True)
def backup(options: SharedOptions, file: Path) -> int:
    """Copy the state into FILE, which is not there yet, also while a daemon runs.

    Only you can read the copy. To restore it, see docs/how-to/back-up.md.
    """
    here = Here.of(options).state
    here.back_up(file)
    emit(options, {"from": str(here), "to": str(file)}, [f"copied to {file}"])
    return 0


@state.command(short_help="Copy a state to another place, completely or not at all")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@shared(csv=False)
def copy(options: SharedOptions, source: str, target: str) -> int:
    """Copy the state FROM one place TO another, completely or not at all.

    Both are URLs as in the setting `state`: sqlite:///path or postgresql://user@host/database. Stop the daemon first:
    no process may have locked FROM. TO must have no state. The setting `state` decides which of them is used.
    """
    from reconciler.ledger.copying import copy as copied

    known = Here.of(options).force  # its initial data has the password, of another state too
    urls = ({"state": _checked(url)} for url in (source, target))
    here, there = (replace(known, settings=known.settings.model_copy(update=url)).location for url in urls)
    if str(here) == str(there):
        raise UsageError("FROM and TO are the same")
    if not here.exists():
        raise LedgerError(f"{here} has no state: nothing was copied")
    with here.locked("reconcile state copy", datetime.now(UTC)) as locked:
        chain = copied(here, locked.ledger, there)
        grants = sum(locked.ledger.grants.counts().values())
    lines = f"{count(chain.lines, 'line')} of the history"
    emit(
        options,
        {"from": str(here), "to": str(there), "grants": grants, "lines": chain.lines, "digest": chain.digest},
        [
            f"copied to {there}: {count(grants, 'grant')}, {lines}, which are whole (digest {chain.digest or 'none'})",
            "Set `state` in config/reconciler.yaml to it, commit, and start the daemon again; then delete the old one.",
        ],
    )
    return 0


def _checked(url: str) -> str:
    """Check a URL like the setting `state`. Raises UsageError without repeating it, as it may contain a password."""
    from pydantic import ValidationError

    from reconciler.model.settings import Settings

    try:
        return Settings.model_validate({"state": url}).state
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
