"""`reconcile state copy` and `backup`: copy the state to another place, such as a fleet's server, or into a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from reconciler.cli.context import locations_of, state_of
from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.text import count, emit
from reconciler.model.errors import LedgerError, UsageError

__all__ = ["state"]


@click.group()
def state() -> None:
    """Copy the state, or back it up."""


@state.command(short_help="Copy the state into a file, also while a daemon runs")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@shared(csv=False)
def backup(options: SharedOptions, file: Path) -> int:
    """Copy the state into FILE, which is not there yet, also while a daemon runs.

    Only you can read the copy. To restore it, see docs/how-to/back-up.md.
    """
    here = state_of(options)
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

    here, there = locations_of(options, _checked(source), _checked(target))
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
