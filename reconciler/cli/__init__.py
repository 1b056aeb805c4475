"""The command `reconcile`: parse arguments, call the engine, show results on stdout, and prose and logs on stderr.

Each command is a module that imports what it needs when it runs, so that `--help` is fast.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from keyword import iskeyword
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import (
    HTML_HELP,
    INTERRUPTED,
    PAGE,
    WRONG_USAGE,
    PassOptions,
    SharedOptions,
    pass_options,
    shared,
)
from reconciler.cli.output.logs import begin, note, shown
from reconciler.model.clock import Stopped
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.text import hint

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from click.shell_completion import CompletionItem

SECTIONS = {
    "Start": {
        "init": ("init", "A new repository, ready to commit"),
        "add": ("init", "Copy a ready manifest for a service; --list lists them"),
        "demo": ("init", "The whole program on this machine, with sample services"),
    },
    "Files": {
        "validate": ("files", "Report every problem of every file, offline"),
        "try": ("try_manifest", "Check one person in the open, and see each answer"),
        "test": ("files", "Run the cases of manifests, offline"),
        "diff": ("files", "Show what a pull request changes, offline"),
        "schema": ("files", "Print the JSON Schema of a kind of file, for editors"),
    },
    "Passes": {
        "daemon": ("daemon", "Run until stopped: a pass on every commit and interval"),
        "status": ("status", "Show the ledger: every grant and its status"),
        "explain": ("explain", "Show one grant: its values, attempts and next steps"),
        "history": ("history", "Show what happened, when, and at which commit"),
    },
    "One grant or person": {
        "check": ("at_once", "Check grants now, and act as a pass over them would"),
        "retry": ("manual", "Retry failed grants at the next pass, with two attempts"),
        "run": ("manual", "Run one access entry now, whatever its check says"),
        "accept": ("manual", "Accept a grant that you fixed by hand"),
        "revoke": ("manual", "Revoke what git no longer wants"),
        "lock": ("at_once", "Lock somebody out now, whatever git says"),
        "unlock": ("at_once", "End a lock: git is followed again"),
        "forget": ("manual", "Erase a former hire from the ledger"),
    },
    "People and accounts": {
        "import": ("imports", "Import people from an HR system or a CSV"),
        "adopt": ("accounts", "Write hires' files for existing accounts"),
        "unmanaged": ("accounts", "Show the accounts that git does not know"),
        "unused": ("accounts", "Show the accounts that nobody used for a while"),
        "request": ("request", "Ask for access for a while; list and tidy requests"),
        "desk": ("request", "A page where people without git ask for access"),
        "review": ("review", "Review who has access: start a review, check it"),
    },
    "Services": {
        "initial-data": ("initial_data", "Encrypt, check and rekey a service's secrets"),
        "oauth": ("services", "Authorize services that use OAuth"),
        "options": ("services", "Show the choices of a form field"),
    },
    "The state": {
        "state": ("history", "Copy the state from a file to a server, or back"),
    },
}
"""The help's sections: each command's module, and what it does in at most 60 characters."""

COMMANDS = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}
"""The module of each command."""

EPILOG = "Every option has an environment variable, RECONCILE_ and its name: RECONCILE_OUTPUT=json."

VERSION_HELP = "Show the version of the program and of a state's schema, and exit."


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click's
    if not wanted or ctx.resilient_parsing:
        return
    from reconciler import __version__
    from reconciler.ledger.reading import HEAD

    click.echo(f"reconcile {__version__}, schema {HEAD}")
    ctx.exit()


class _Commands(click.Group):
    """Finds commands in their modules; help and completion import none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of a pass, then those of every command, then the commands by section."""
        records = [(each, record) for each in self.get_params(ctx) if (record := each.get_help_record(ctx)) is not None]
        for title, every in (("Options of a pass", False), ("Options of every command", True)):
            with formatter.section(title):
                formatter.write_dl([record for each, record in records if each.expose_value is not every])
        widest = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), what) for name, (_, what) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, with what each does, and options."""
        from click.shell_completion import CompletionItem

        helps = {name: what for section in SECTIONS.values() for name, (_, what) in section.items()}
        found = [CompletionItem(name, help=what) for name, what in helps.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; Ctrl-C aborts it here, because click would write an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the one that was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"No such command {args[0]!r}{hint(args[0], list(COMMANDS))}", ctx) from error

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f"reconciler.cli.commands.{COMMANDS[name]}")
        attribute = f"{name}_" if iskeyword(name) else name.replace("-", "_")
        command: click.Command = getattr(module, attribute)
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help=VERSION_HELP)
@pass_options
@shared()
def reconcile(options: SharedOptions, /, **wanted: object) -> None:
    """Provision the accounts that the files in git describe.

    Without a command, run one pass over the commit at HEAD and exit. With --dry-run, only observe and plan.
    """
    ctx = click.get_current_context()
    if options.output == PAGE and ctx.invoked_subcommand != "review":
        raise click.UsageError(HTML_HELP, ctx)
    if ctx.invoked_subcommand is not None:
        typed = click.core.ParameterSource.COMMANDLINE
        of_pass = [each for each in ctx.command.params if each.name in wanted]
        given = [each for each in of_pass if ctx.get_parameter_source(each.name or "") is typed]
        if given:
            named = ", ".join(each.opts[-1] for each in given)
            raise click.UsageError(f"{named} belongs to a pass: leave it out, or leave out {ctx.invoked_subcommand}")
        return
    from reconciler.cli.commands.one_pass import one_pass

    ctx.exit(one_pass(options, PassOptions(**wanted)))  # type: ignore[arg-type]


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code."""
    begin(arguments)
    try:
        code = reconcile.main(list(arguments), prog_name="reconcile", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, Stopped):
        if sys.stderr.isatty():
            click.echo(err=True)  # ends the line on which the terminal shows ^C
        note("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        note(text.getvalue().removesuffix("\n"), "error")
        return WRONG_USAGE
    except ReconcilerError as error:
        note(f"error: {shown(error)}", "error")
        return WRONG_USAGE if isinstance(error, UsageError) else 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else its reader is gone, and there is nowhere to report it
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            note(f"error: {os.strerror(error.errno)}: what was to be written is not complete", "error")
        # Most likely it is stdout: replace it, because flushing the rest at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def many_objects() -> None:
    """Run the garbage collector less often: imports and a pass make many objects that stay.

    With Python's own thresholds it takes a fifth of a pass's time; with a larger first or second one, or a smaller
    third one, answers wait for it.
    """
    gc.set_threshold(5_000, 2, 1_000)


class _Lossy(io.FileIO):
    """Standard error, which loses what it cannot take: no work may depend on whether its log can be written."""

    def write(self, data: ReadableBuffer, /) -> int:
        """Write data, and return how much of it was dealt with."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(memoryview(data)) if written is None else written


def usable_streams() -> None:
    """Let a command do its work whatever its standard streams are: closed, full, left by their reader, or not UTF-8.

    Results are escaped where standard output's encoding lacks a character. A closed stream is opened on nothing, as the
    next file that is opened would take its number, and what is written to the stream.
    """
    if isinstance(sys.stderr, io.TextIOWrapper):
        raw = _Lossy(sys.stderr.fileno(), "w", closefd=False)
        encoding = sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  pathlib is slow to import; it stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _in_utf8() -> None:
    """Begin anew where Python has another encoding for the names of files than UTF-8, which git has everywhere.

    Else somebody's file would be another one, or none. Standard streams keep the encoding of the terminal.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    streams = {} if sys.stdout is None else {"PYTHONIOENCODING": sys.stdout.encoding}
    program = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    os.execve(sys.executable, program, {**streams, **os.environ})  # noqa: S606  this program itself


def main() -> None:
    """Run as the console script."""
    _in_utf8()
    many_objects()
    usable_streams()
    # To look for plugins, pydantic reads the metadata of every package of the installation; one would see every value.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    code = run(sys.argv[1:])
    gc.freeze()  # the collection at exit would take a fifth of the time of a pass over a thousand hires
    sys.exit(code)
