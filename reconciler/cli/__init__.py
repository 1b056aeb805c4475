"""`reconcile`: parses, asks the engine, and shows. Results go to stdout, prose and logs to stderr.

Each command lives in a module of its own that imports what it needs when it runs, so that `--help` stays quick.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from collections.abc import Sequence
from keyword import iskeyword

import click

from reconciler.cli.options import Asked, pass_options, shared

__all__ = ["main", "run"]

WRONG_USAGE = 64

COMMANDS = {
    "daemon": "daemon",
    "validate": "validate",
    "diff": "diff",
    "status": "status",
    "explain": "explain",
    "history": "history",
    "retry": "by_hand",
    "accept": "by_hand",
    "revoke": "by_hand",
    "forget": "forget",
    "run": "by_hand",
    "unmanaged": "unmanaged",
    "import": "imports",
    "adopt": "adopt",
    "options": "options_of",
    "initial-data": "initial_data",
    "oauth": "oauth",
    "schema": "schema",
    "init": "init",
    "add": "add",
    "demo": "demo",
}
"""Which module has which command; the order is the help's."""


VERSION_HELP = "Show the version of the program and of a state's schema, and exit."


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  click's
    if not wanted or ctx.resilient_parsing:
        return
    from reconciler import __version__
    from reconciler.ledger.schema import HEAD

    click.echo(f"reconcile {__version__}, schema {HEAD}")
    ctx.exit()


class _Commands(click.Group):
    """Finds commands in their modules, and lets one be added there without a line here but its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from reconciler.repository.documents.problems import near

            raise click.UsageError(f"No such command {args[0]!r}{near(args[0], list(COMMANDS))}", ctx) from error

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f"reconciler.cli.{COMMANDS[name]}")
        called = f"{name}_" if iskeyword(name) else name.replace("-", "_")
        command: click.Command = getattr(module, called)
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help=VERSION_HELP)
@pass_options
@shared
@click.pass_context
def reconcile(ctx: click.Context, /, **wanted: object) -> None:
    """Make the accounts that the files in git ask for exist.

    Without a command: one pass over the committed state, then exit. With --dry-run it only observes and plans.
    """
    if ctx.invoked_subcommand is not None:
        given = [each for each in ctx.command.params if each.name in wanted and _typed(ctx, each.name)]
        if given:
            options = ", ".join(each.opts[-1] for each in given)
            raise click.UsageError(f"{options} belongs to a pass: leave it out, or leave out {ctx.invoked_subcommand}")
        return
    from reconciler.cli.one_pass import one_pass

    ctx.exit(one_pass(ctx.ensure_object(Asked), **wanted))  # type: ignore[arg-type]


def _typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def run(arguments: Sequence[str]) -> int:
    """Run the command line and give its exit code."""
    from reconciler.cli.logs import begin, shown, tell
    from reconciler.model.clock import Stopped
    from reconciler.model.errors import ReconcilerError, UsageError

    begin(arguments)
    try:
        code = reconcile.main(list(arguments), prog_name="reconcile", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (click.Abort, Stopped):
        tell("interrupted")
        return 130
    except click.ClickException as error:
        told = io.StringIO()
        error.show(told)
        tell(told.getvalue().removesuffix("\n"), "error")
        return WRONG_USAGE
    except UsageError as error:
        tell(f"error: {shown(error)}", "error")
        return WRONG_USAGE
    except ReconcilerError as error:
        tell(f"error: {shown(error)}", "error")
        return 1
    except BrokenPipeError:
        # Whoever read the output went away; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        # Most likely the output; what is still to be written of it would fail once more at the end.
        tell(f"error: {os.strerror(error.errno)}: what was to be written is not complete", "error")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    code = run(sys.argv[1:])
    gc.freeze()  # a fifth of a thousand people's audit would go into looking through what is left, for nothing
    sys.exit(code)
