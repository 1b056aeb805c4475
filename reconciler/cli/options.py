"""The options that every command takes, before or after its name, those of a pass, and the exit codes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import Struct

from reconciler.cli import complete
from reconciler.model.clock import moment
from reconciler.model.errors import UsageError
from reconciler.model.selection import Selection
from reconciler.model.status import Status
from reconciler.model.value import Frozen
from reconciler.repository.discovery import repository

if TYPE_CHECKING:
    from reconciler.model.grant import Key

T = TypeVar("T")

EMPTY = "is empty: give it a value, or leave it out"

PENDING = 2
"""The exit code (docs/commands.md, "Exit codes") where nothing is wrong, and something is to be done."""

WRONG_USAGE = 64

INTERRUPTED = 130
"""Ctrl-C: 128 and the signal's number, as shells have it."""


class SharedOptions(Struct):
    """The shared options of one call."""

    path: Path | None = None
    branch: str | None = None
    program: tuple[str, ...] = ()
    output: str = "table"
    log_format: str = "console"
    verbose: bool = False
    tolerant: bool = False
    """Whether the command goes on where git cannot be read as a pass needs it; see Context."""

    @property
    def repo(self) -> Path:
        """The repository's root, found when it is first needed. Raises RepositoryError if there is none."""
        return repository(self.path)

    @property
    def programs(self) -> dict[str, Path]:
        """The programs that requests may run, by name. Raises UsageError."""
        if not self.program:
            return {}
        from reconciler.transports.opening import named_programs

        return named_programs(self.program, self.repo)


class Filter(Frozen, kw_only=True):
    """Which grants to show, and `by` what to group them: those of these hires, integrations and statuses, unless empty.

    With `only_changes`, those with an action pending.
    """

    hires: tuple[str, ...] = ()
    integrations: tuple[str, ...] = ()
    by: str = "person"
    statuses: tuple[str, ...] = ()
    only_changes: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The hires and the integrations."""
        return *self.hires, *self.integrations

    def shows(self, status: str, action: str) -> bool:
        """Whether a grant is shown."""
        pending = action not in ("none", "wait")
        return (not self.statuses or status in self.statuses) and (pending or not self.only_changes)


class _Option(click.Option):
    """An option with an environment variable, which its errors name and its help omits: all follow one rule."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        return f"{super().get_error_hint(ctx)} (env var: {self.envvar!r})"


class _Shared(_Option):
    """An option of every command; a command's help has one line for all of them."""

    FOLDED = ("--repo, --branch, --program, --output, --log-format, -v", "Shared: see `reconcile --help`.")

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the help of the option; in a command's help, the first has the line for all."""
        if ctx.parent is None:
            return super().get_help_record(ctx)
        return self.FOLDED if self.name == "path" else None


def option(*names: str, cls: type[click.Option] = _Option, **settings: Any) -> Callable[[Any], Any]:
    """Make an option with its environment variable: RECONCILE_ and the option's long name.

    An option that means something else than another of its name has the command in its variable's name, too.
    """
    long = next(name for name in names if name.startswith("--"))
    settings.setdefault("envvar", "RECONCILE_" + long.strip("-").replace("-", "_").upper())
    return click.option(*names, cls=cls, **settings)


of_hires = option(
    "--hire", "hires", multiple=True, metavar="ID", shell_complete=complete.hires, help="Only this hire; repeatable."
)
of_integrations = option(
    "--integration",
    "integrations",
    multiple=True,
    metavar="NAME",
    shell_complete=complete.integrations,
    help="Only this integration; repeatable.",
)
since = option("--since", metavar="WHEN", help="A date, an ISO time, or an age such as 7d.")
until = option("--until", metavar="WHEN", help="Like --since; a date includes the whole day.")


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    options = ctx.ensure_object(SharedOptions)
    source = ctx.get_parameter_source(parameter.name or "")
    given = source is not click.core.ParameterSource.DEFAULT
    if value == "":
        raise click.BadParameter(EMPTY, ctx, parameter)
    if value == PAGE and ctx.parent is not None and not ctx.command_path.endswith("review check"):
        raise click.UsageError(HTML_HELP, ctx)
    # An option after the command replaces the same one before it; a default replaces neither.
    if given or ctx.parent is None:
        setattr(options, parameter.name or "", value)


STATUSES = [str(status) for status in Status]
PAGE = "html"
CSV_HELP = (
    "--output csv is for status, history, unmanaged, unused, review check and a pass: choose table, json or markdown"
)
HTML_HELP = "--output html is for `review check`: choose table, json, markdown or csv"
OUTPUTS = ("table", "json", "markdown", "csv", PAGE)


class FilePath(click.Path):
    """A path; an empty word, which `Path` takes for the current folder, is none."""

    def __init__(self, **given: Any) -> None:
        super().__init__(path_type=Path, **given)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Make the path."""
        if value == "":
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


def _shared(*names: str, **settings: Any) -> Callable[[Any], Any]:
    return option(*names, cls=_Shared, callback=_remember, expose_value=False, **settings)


_SHARED = (
    _shared("-v", "--verbose", is_flag=True, help="Log more."),
    _shared(
        "--log-format", type=click.Choice(["console", "json"]), default="console", help="Format of logs on stderr."
    ),
    _shared(
        "--output",
        type=click.Choice(OUTPUTS),
        default="table",
        help="Format of results; csv is for status, history, unmanaged, unused, review check and a pass, html only "
        "for review check.",
    ),
    _shared(
        "--program",
        multiple=True,
        metavar="NAME=PATH",
        help="The program that `exec:NAME` means in manifests; repeatable.",
    ),
    _shared(
        "--repo",
        "path",
        type=FilePath(file_okay=False),
        help="The repository's root.  [default: the repository of the current folder]",
    ),
)
_BRANCH = _shared(
    "--branch", metavar="NAME", help="The branch in force on this machine.  [default: git.branch in the settings]"
)


def shared(*, branch: bool = True, csv: bool = True, tolerant: bool = False) -> Callable[[Any], Any]:
    """Add the shared options to a command, and give its function them first.

    Without `branch`, the command has a --branch of its own; without `csv`, it refuses that output. A `tolerant` one is
    for taking access away by hand, or for showing the ledger: it goes on where settings cannot be read (see Context).
    """

    def decorated(function: Any) -> Any:
        @click.pass_obj
        @wraps(function)
        def command(options: SharedOptions, /, *args: Any, **given: Any) -> Any:
            if options.output == "csv" and not csv:
                raise UsageError(CSV_HELP)
            _refuse_empty(given)
            options.tolerant = tolerant
            return function(options, *args, **given)

        for add in (_BRANCH, *_SHARED) if branch else _SHARED:
            command = add(command)
        return command

    return decorated


def _refuse_empty(given: Mapping[str, Any]) -> None:
    """Raise UsageError for an empty word, as a script gives for a variable that is not set: it must not mean all."""
    for each in click.get_current_context().command.params:
        value = given.get(each.name or "")
        if value == "" or (isinstance(value, tuple) and "" in value):
            name = each.opts[-1] if isinstance(each, click.Option) else each.human_readable_name
            raise UsageError(f"{name} {EMPTY}")


def as_given(name: str, text: str, read: Callable[[str], T], how: str | None = None) -> T:
    """Read an option's text. Raises UsageError where that cannot be done, with `how` to write it or why not."""
    try:
        return read(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{name} {text}: {how or error}") from None


def key_and_value(text: str) -> tuple[str, str]:
    """Read a --value. Raises UsageError."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"--value {text}: write KEY=VALUE, such as --value ROLE=member")
    return key, value


def filters(function: Any) -> Any:
    """Add --status and --only-changes, which filter every output."""
    changes = option("--only-changes", is_flag=True, help="Show only grants with an action pending.")
    statuses = option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice(STATUSES),
        metavar="S",
        help="Show only this status; repeatable.",
    )
    return statuses(changes(function))


class HistoryFilter(Frozen, kw_only=True):
    """Which lines of the history are meant."""

    hires: tuple[str, ...]
    integrations: tuple[str, ...]
    since: str | None
    until: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The hires and the integrations."""
        return *self.hires, *self.integrations

    def period(self, timezone: str) -> tuple[datetime | None, datetime | None]:
        """Return the time of --since and the end of that of --until. Raises UsageError."""
        read = partial(moment, now=datetime.now(UTC), timezone=timezone)
        begin = None if self.since is None else as_given("--since", self.since, read)
        end = None if self.until is None else as_given("--until", self.until, partial(read, ends=True))
        if begin is not None and end is not None and end <= begin:
            what = f"--until {self.until} lies before --since {self.since}"
            raise UsageError(f"{what}: nothing can have happened between them")
        return begin, end


class PassOptions(Filter, kw_only=True):
    """The options of a pass, as `pass_options` adds them. It covers these hires and integrations."""

    dry_run: bool = False
    rev: str | None = None
    worktree: bool = False
    detailed_exitcode: bool = False
    yes_really: bool = False
    no_removals: bool = False
    yes: bool = False
    grants: frozenset[Key] | None = None

    @property
    def selection(self) -> Selection:
        """Return what the pass covers."""
        return Selection(
            hires=frozenset(self.hires) if self.hires else None,
            integrations=frozenset(self.integrations) if self.integrations else None,
            grants=self.grants,
        )

    def refuse_contradiction(self) -> None:
        """Raise UsageError for options that exclude each other."""
        if (self.rev or self.worktree) and not self.dry_run:
            raise UsageError("--rev and --worktree plan and never execute: add --dry-run")
        if self.rev and self.worktree:
            raise UsageError("--rev and --worktree exclude each other: leave one out")
        if self.dry_run and self.yes_really:
            raise UsageError("--yes-really lets something through, a dry run lets nothing: leave one out")


def pass_options(function: Any) -> Any:
    """Add the options of a pass."""
    for add in (
        filters,
        option("--yes", is_flag=True, help="At a terminal: apply the plan without asking."),
        option("--no-removals", is_flag=True, help="Revoke nothing in this pass; orphans are reported."),
        option("--yes-really", is_flag=True, help="Override a tripped guard, once."),
        option("--detailed-exitcode", is_flag=True, help="Exit with 2 if changes are pending."),
        of_integrations,
        of_hires,
        option("--by", type=click.Choice(["person", "integration"]), default="person", help="Group rows by this."),
        option("--worktree", is_flag=True, help="Plan the uncommitted files; with --dry-run only."),
        option("--rev", metavar="REV", help="Plan another commit; with --dry-run only."),
        option("--dry-run", is_flag=True, help="Observe and plan; change nothing."),
    ):
        function = add(function)
    return function
