"""The settings in force, the state that they name, and its ledger, for commands."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.context import context_of
from reconciler.cli.options import SharedOptions
from reconciler.model.errors import RepositoryError, SettingsError

if TYPE_CHECKING:
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings
    from reconciler.repository.files import Files

__all__ = ["files_in_force", "ledger_of", "locations_of", "names_in", "settings_of", "state_of"]


def settings_of(options: SharedOptions) -> Settings:
    """Read the settings in force: those of the last accepted revision, or of the worktree."""
    from reconciler.engine.run.accepted import in_force

    return in_force(context_of(options)).settings


def state_of(options: SharedOptions) -> StateLocation:
    """Find the state that the settings in force name."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options)
    force = in_force(context)
    return context.state(force.settings, force.tree)


def locations_of(options: SharedOptions, *urls: str) -> list[StateLocation]:
    """Find states at other URLs, with the password of the settings in force."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options)
    force = in_force(context)
    return [context.state(force.settings.model_copy(update={"state": url}), force.tree) for url in urls]


@contextmanager
def ledger_of(options: SharedOptions) -> Iterator[LedgerReader]:
    """Open the ledger for reading; an empty one if there is none."""
    with state_of(options).reader() as ledger:
        yield ledger


def files_in_force(options: SharedOptions) -> Files | None:
    """Read the files in force, for what the ledger does not have: form fields and names. None if there are none."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options)
    try:
        return context.reader.load(in_force(context).tree)
    except (RepositoryError, SettingsError):
        return None


def names_in(files: Files | None, hires: Collection[str]) -> dict[str, str]:
    """Each one's name, where the files in force have it; to read one may mean to parse a file."""
    if files is None:
        return {}
    return {hire: loaded.model.full_name for hire in hires if (loaded := files.hires.get(hire)) is not None}
