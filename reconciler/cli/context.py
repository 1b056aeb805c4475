"""What commands share: the context, what is in force, the state's ledger, commands for who has it, and suggestions."""

from __future__ import annotations

import getpass
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

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
    from reconciler.engine.context import Context, SystemClock
    from reconciler.engine.run.accepted import InForce
    from reconciler.ledger.opening import StateLocation
    from reconciler.ledger.reader import LedgerReader
    from reconciler.ledger.writer import LedgerWriter
    from reconciler.model.grant import Key
    from reconciler.model.settings import Settings
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Files

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


class Here:
    """What a command works on, read once: what is in force in a context, its files, and the state that it names."""

    def __init__(self, context: Context) -> None:
        from reconciler.engine.run.accepted import in_force

        self.context = context
        self.force: InForce = in_force(context)

    @classmethod
    def of(cls, options: SharedOptions, redactor: Redactor | None = None) -> Here:
        """Make a context too; a command that shows nothing secret needs no `redactor`."""
        return cls(context_of(options, redactor))

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.force.settings

    @cached_property
    def files(self) -> Files:
        """The files in force."""
        return self.force.files

    @cached_property
    def files_if_read(self) -> Files | None:
        """The files in force, for what the ledger does not have: form fields and names. None if they cannot be read."""
        try:
            return self.files
        except (RepositoryError, SettingsError):
            return None

    @cached_property
    def desired(self) -> Desired:
        """What git wants today."""
        return self.context.desired(self.files, self.force.today)

    @cached_property
    def state(self) -> StateLocation:
        """The state that the settings name. Raises LedgerError if it was lost."""
        from reconciler.engine.trust import state_of

        return state_of(self.force)

    @cached_property
    def signer(self) -> Callable[[str], str | None]:
        """Tells who signed a commit; git is asked once for each."""
        from reconciler.repository.git.program import home_of
        from reconciler.repository.git.signatures import signer

        home = home_of(self.context.root, self.settings)
        return cache(lambda commit: signer(self.context.checkout, commit, home))

    @contextmanager
    def writer(self) -> Iterator[LedgerWriter]:
        """Open the ledger to leave commands in it. Raises SecretsError if they would not count."""
        with closing(self.state.writer()) as ledger:
            self.use_key(ledger)
            yield ledger

    def use_key(self, ledger: LedgerWriter) -> None:
        """Open the state's key, by which commands count. Raises SecretsError if that cannot be done here."""
        from reconciler.engine.trust import vault_of

        if (fault := vault_of(self.force, ledger).fault) is not None:
            raise SecretsError(f"a command counts only from somebody who has the state's key: {fault}")

    def enqueue(self, kind: str, *, data: Mapping[str, Any] | None = None, **about: str | None) -> None:
        """Enqueue a command about a hire, an access entry or an integration for the process that locked the state."""
        with self.writer() as ledger:
            ledger.commands.enqueue(kind, now=datetime.now(UTC), by=requester(), data=data, **about)


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


def named_grants(here: Here, hire: str | None, access: str | None, integration: str | None) -> frozenset[Key]:
    """Return the grants that a command is about which takes one, a person's, a service's or all, of git and the ledger.

    Raises Refused if there are none: what is selected may well be gone, and is no wrong usage.
    """
    desired = here.desired
    with here.state.reader() as ledger:
        known = {record.key: record.integration for record in ledger.grants.records([hire] if hire else None)}
    for each in (hire,) if hire else desired.hires:
        known |= {grant.key: grant.integration for grant in desired.grants(each, once=True)}
    found = {key for key, name in known.items() if access in (None, key.access) and integration in (None, name)}
    if not found and (hire or integration):
        names = [each for each in (hire, access, integration) if each]
        people = {*desired.hires, *(key.hire for key in known)}
        meant = suggest(names, {*people, *desired.files.manifests, *(key.access for key in known)})
        raise Refused(f"there is no grant {' '.join(names)}: `reconcile status` shows what there is{meant}")
    return frozenset(found)


def requester() -> str:
    """Name the user and the machine, as the history shows who gave a command."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def show_outcome(
    options: SharedOptions, kind: str, grants: Iterable[Key], said: str, *, handed_over: bool = False
) -> None:
    """Show what came of a command on grants: what it said, or the object of docs/commands.md, "JSON"."""
    named = [{"hire": key.hire, "access": key.access} for key in grants]
    emit(options, {"command": kind, "grants": named, "handed_over": handed_over}, [said])


def show_handed_over(
    options: SharedOptions, kind: str, grants: Collection[Key], holder: StateLockedError, what: str | None = None
) -> None:
    """Show that a command was handed to the process that locked the state, and where to see that it is done."""
    what = what or f"{kind} {', '.join(map(str, grants))}"
    show_outcome(options, kind, grants, f"handed over: {what}", handed_over=True)
    note(f"{holder.who}, which was asked to {what}: `reconcile status` shows when it is done")
