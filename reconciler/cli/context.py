"""What commands share: the context, what is in force, the state's ledger, commands for who has it, and suggestions."""

from __future__ import annotations

import getpass
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from reconciler.cli.options import SharedOptions
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import emit
from reconciler.model.errors import (
    ReconcilerError,
    RepositoryError,
    SecretsError,
    SettingsError,
    StateLockedError,
    UsageError,
)
from reconciler.model.failpoints import Reached, unwatched
from reconciler.model.secret import Redactor
from reconciler.model.text import hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from reconciler.engine.context import Context, SystemClock
    from reconciler.engine.run.accepted import InForce
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.ledger.writer import LedgerWriter
    from reconciler.model.grant import Key
    from reconciler.model.settings import Settings
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Files

__all__ = [
    "Refused",
    "context_in_force",
    "context_of",
    "desired_in_force",
    "enqueue",
    "files_in_force",
    "in_force",
    "ledger_of",
    "names_in",
    "no_such_grant",
    "no_such_hire",
    "requester",
    "run_in_context",
    "settings_of",
    "show_handed_over",
    "show_outcome",
    "state_of",
    "suggest",
    "suggest_from_ledger",
    "until_stopped",
    "use_key",
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
        tolerant=options.tolerant,
    )


def run_in_context(options: SharedOptions, redactor: Redactor, work: Callable[[Context], Awaitable[T]]) -> T:
    """Run `work` in an event loop, and close its context."""
    import asyncio

    async def run() -> T:
        async with aclosing(context_of(options, redactor)) as context:
            return await work(context)

    return asyncio.run(run())


def in_force(context: Context, *, uncommitted: bool = False, starts: bool = False) -> InForce:
    """Read what is in force: the last accepted revision, or the worktree; `starts` is for a daemon."""
    from reconciler.engine.run import accepted

    return accepted.in_force(context, uncommitted=uncommitted, starts=starts)


def context_in_force(options: SharedOptions, redactor: Redactor | None = None) -> tuple[Context, InForce]:
    """Make a context, and read what is in force."""
    context = context_of(options, redactor)
    return context, in_force(context)


def desired_in_force(context: Context, force: InForce) -> Desired:
    """Return what git wants today, by what is in force."""
    return context.desired(context.reader.load(force.tree), context.today(force.settings))


def settings_of(options: SharedOptions) -> Settings:
    """Read the settings in force."""
    return context_in_force(options)[1].settings


def state_of(options: SharedOptions) -> StateLocation:
    """Find the state that the settings in force name. Raises LedgerError if it was lost."""
    return kept_state(*context_in_force(options))


def kept_state(context: Context, force: InForce) -> StateLocation:
    """Find the state that the settings in force name. Raises LedgerError if it was lost."""
    from reconciler.engine.trust import refuse_fresh_start

    location = context.state(force.settings, force.tree)
    refuse_fresh_start(context.checkout, location)
    return location


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


SHORT = 12
"""Characters of a commit's id that are shown."""


def no_such_grant(key: Key, desired: Desired, remembered: Collection[str]) -> ReconcilerError:
    """Make the error for a grant that does not exist; `remembered` are the hire's accesses in the ledger."""
    if problems := desired.broken_hires.get(key.hire):
        return RepositoryError(problems[0].clause)
    if key.hire not in desired.hires and not remembered:
        return UsageError(f"there is no hire {key.hire}{hint(key.hire, desired.hires)}")
    names = {*remembered, *(grant.key.access for grant in desired.grants(key.hire))}
    has = f"it has {', '.join(sorted(names))}" if names else "it has no access entries"
    return UsageError(f"{key.hire} has no access entry {key.access}: {has}{hint(key.access, names)}")


def no_such_hire(hire: str, desired: Desired, ledger: LedgerReader) -> ReconcilerError:
    """Make the error for a hire that git does not have, or not any more."""
    if problems := desired.broken_hires.get(hire):
        return RepositoryError(f"the file of {hire} has an error: {problems[0].clause}")
    revisions = {each.revision for each in ledger.history.removals([hire]).values() if each.revision is not None}
    if revisions:
        since = ", ".join(sorted(revision[:SHORT] for revision in revisions))
        return UsageError(
            f"{hire} is not in git any more, since {since}: `git log -- 'hires/{hire}.*'` says who removed it"
        )
    if hire in ledger.grants.hires():
        return UsageError(f"{hire} is not in git any more; `reconcile status` shows what is left of it")
    return UsageError(f"there is no hire {hire}{hint(hire, desired.hires)}")


def suggest_from_ledger(ledger: LedgerReader, *names: str | None) -> str:
    """Suggest a name (`; did you mean …?`) for the first that is no hire, access or integration of the ledger."""
    given = [name for name in names if name is not None]
    return suggest(given, ledger.grants.names()) if given else ""


def suggest(names: Sequence[str], known: Collection[str]) -> str:
    """Suggest a name (`; did you mean …?`) for the first that is not known."""
    return next((hint(name, known) for name in names if name not in known), "")


class Refused(ReconcilerError):
    """The command cannot be done now; the text says why."""


def requester() -> str:
    """Name the user and the machine, as the history shows who gave a command."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def enqueue(
    options: SharedOptions,
    kind: str,
    *,
    hire: str | None = None,
    access: str | None = None,
    integration: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Enqueue a command for the process that locked the state."""
    ledger = state_of(options).writer()
    try:
        use_key(options, ledger)
        about = {"hire": hire, "access": access, "integration": integration}
        ledger.commands.enqueue(kind, now=datetime.now(UTC), by=requester(), data=data, **about)
    finally:
        ledger.close()


def use_key(options: SharedOptions, ledger: LedgerWriter) -> None:
    """Open the state's key, by which commands count. Raises SecretsError if that cannot be done here."""
    from reconciler.engine.trust import sealing_of

    context, force = context_in_force(options)
    if (fault := sealing_of(context, force.settings, force.tree, ledger).fault) is not None:
        raise SecretsError(f"a command counts only from somebody who has the state's key: {fault}")


def show_outcome(
    options: SharedOptions, kind: str, grants: Iterable[Key], said: str, *, handed_over: bool = False
) -> None:
    """Show what came of a command on grants: what it said, or the object of docs/commands.md, "JSON"."""
    named = [{"hire": key.hire, "access": key.access} for key in grants]
    emit(options, {"command": kind, "grants": named, "handed_over": handed_over}, [said])


def show_handed_over(
    options: SharedOptions, kind: str, grants: Collection[Key], what: str, holder: StateLockedError
) -> None:
    """Show that a command was handed to the process that locked the state, and where to see that it is done."""
    show_outcome(options, kind, grants, f"handed over: {what}", handed_over=True)
    note(f"{holder.who}, which was asked to {what}: `reconcile status` shows when it is done")
