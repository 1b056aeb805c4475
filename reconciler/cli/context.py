"""The context of a command, what is in force in its repository, and the ledger of its state."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from reconciler.cli.options import SharedOptions
from reconciler.model.errors import RepositoryError, SettingsError
from reconciler.model.failpoints import Reached, unwatched
from reconciler.model.secret import Redactor

if TYPE_CHECKING:
    from reconciler.engine.context import Context, SystemClock
    from reconciler.engine.run.accepted import InForce
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.model.settings import Settings
    from reconciler.repository.files import Files

__all__ = [
    "context_in_force",
    "context_of",
    "files_in_force",
    "ledger_of",
    "locations_of",
    "names_in",
    "run_in_context",
    "settings_of",
    "state_of",
    "until_stopped",
]

T = TypeVar("T")


def context_of(
    options: SharedOptions,
    redactor: Redactor | None = None,
    clock: SystemClock | None = None,
    reached: Reached = unwatched,
) -> Context:
    """Make a context; a command that shows nothing secret needs no `redactor`."""
    from reconciler.engine.context import Context, SystemClock

    return Context(
        options.repo,
        SystemClock() if clock is None else clock,
        Redactor() if redactor is None else redactor,
        reached,
        branch=options.branch,
        programs=options.programs,
    )


def run_in_context(options: SharedOptions, redactor: Redactor, work: Callable[[Context], Awaitable[T]]) -> T:
    """Run `work` in an event loop, and close its context."""
    import asyncio

    async def run() -> T:
        async with aclosing(context_of(options, redactor)) as context:
            return await work(context)

    return asyncio.run(run())


def context_in_force(options: SharedOptions, redactor: Redactor | None = None) -> tuple[Context, InForce]:
    """Make a context, and read what is in force: the last accepted revision, or the worktree."""
    from reconciler.engine.run.accepted import in_force

    context = context_of(options, redactor)
    return context, in_force(context)


def settings_of(options: SharedOptions) -> Settings:
    """Read the settings in force."""
    return context_in_force(options)[1].settings


def state_of(options: SharedOptions) -> StateLocation:
    """Find the state that the settings in force name."""
    context, force = context_in_force(options)
    return context.state(force.settings, force.tree)


def locations_of(options: SharedOptions, *urls: str) -> list[StateLocation]:
    """Find states at other URLs, with the password of the settings in force."""
    context, force = context_in_force(options)
    return [context.state(force.settings.model_copy(update={"state": url}), force.tree) for url in urls]


@contextmanager
def ledger_of(options: SharedOptions) -> Iterator[LedgerReader]:
    """Open the ledger for reading; an empty one if there is none."""
    with state_of(options).reader() as ledger:
        yield ledger


def files_in_force(options: SharedOptions) -> Files | None:
    """Read the files in force, for what the ledger does not have: form fields and names. None if there are none."""
    try:
        context, force = context_in_force(options)
        return context.reader.load(force.tree)
    except (RepositoryError, SettingsError):
        return None


def names_in(files: Files | None, hires: Collection[str]) -> dict[str, str]:
    """Each one's name, where the files in force have it; to read one may mean to parse a file."""
    if files is None:
        return {}
    return {hire: loaded.model.full_name for hire in hires if (loaded := files.hires.get(hire)) is not None}


@contextmanager
def until_stopped(clock: SystemClock) -> Iterator[None]:
    """While the block runs, SIGTERM and SIGINT start nothing new and cut waits short; attempts in flight finish."""
    import asyncio

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, clock.stopping.set)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
