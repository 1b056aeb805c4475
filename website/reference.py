"""Writes docs/options.md from the command line's own definitions: `python -m website.reference`, as `make docs` does.

The page is committed, so that it can be read in the repository too; a test sees that it is what this would write.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from reconciler.cli import reconcile
from reconciler.cli.options import shared

PAGE = Path(__file__).parents[1] / "docs" / "options.md"

BEGINNING = """\
# Every command and option

This page is generated from the program by `make docs`. For an overview, statuses, events and exit codes, see
[commands](commands.md).

Every option can be set with its environment variable. For a repeatable option, separate the values by blanks. Every
command has `-h` and `--help`.

## Shared options

These can be given before or after the name of every command.
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its full name, in the help's order."""

    def below(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for word in command.list_commands(context):
                inner = command.get_command(context, word)
                assert inner is not None
                yield from below(inner, f"{name} {word}")

    yield from below(reconcile, "reconcile")


def text() -> str:
    """The page."""
    parts = [BEGINNING, *_table(_shared())]
    for name, command in commands():
        # A command keeps the help option of the first context that asks for it, so let it be the program's own.
        context = click.Context(command, **reconcile.context_settings)
        usage = " ".join(command.collect_usage_pieces(context))
        parts += ["", f"## {name}", "", "```", f"{name} {usage}", "```", "", _prose(command)]
        if own := options_of(command):
            parts += ["", *_table(own)]
    return "\n".join(parts) + "\n"


def options_of(command: click.Command) -> list[click.Option]:
    """The options that a command has beside the shared ones."""
    names = {option.name for option in _shared()}
    return [each for each in command.params if isinstance(each, click.Option) and each.name not in names]


def _shared() -> list[click.Option]:
    @click.command()
    @shared()
    def nothing(_: object) -> None: ...

    return [each for each in nothing.params if isinstance(each, click.Option)]


def _prose(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(_marked(" ".join(paragraph.split())) for paragraph in paragraphs)


def _marked(text: str) -> str:
    """Options as code; what is in backticks already stays as it is."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part[:1] == "`" else re.sub(r"(?<!\S)(--[a-z-]+)", r"`\1`", part) for part in parts)


def _table(options: list[click.Option]) -> Iterator[str]:
    yield "| option | environment variable | description |"
    yield "| --- | --- | --- |"
    for option in options:
        context = click.Context(click.Command("none"))
        written = ", ".join(f"`{name}`" for name in option.opts)
        if not option.is_flag:
            value = option.make_metavar(context).strip("[]").replace("|", "\\|")
            written = f"{written[:-1]} {value}`"
        told = _marked(" ".join((option.help or "").split())).replace("|", "\\|")
        default = option.default if option.show_default or isinstance(option.type, click.Choice) else None
        if isinstance(default, str):
            told += f" Default: `{default}`."
        yield f"| {written} | {f'`{option.envvar}`' if option.envvar else ''} | {told} |"


if __name__ == "__main__":
    PAGE.write_text(text())
