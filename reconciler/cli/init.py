"""`reconcile init`: a new repository, ready to commit. What is in it stands in `template/`, as plain files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli.options import Asked, shared
from reconciler.model.errors import RepositoryError, UsageError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["init"]

HIDDEN = "dot-"
"""How the template writes the dot that a file's name begins with: package data leaves dot files out."""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@shared
@click.pass_obj
def init(asked: Asked, folder: Path) -> int:
    """Make a new repository in DIR: settings, a manifest, a person, a sequence, and what to do first.

    DIR is made where it is not there; one that is not empty is refused.
    """
    from importlib.resources import files

    from reconciler.cli.logs import tell
    from reconciler.cli.text import emit_json, say

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty: give the name of a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = sorted(_copy(files("reconciler.cli") / "template", folder))
    except OSError as error:
        raise RepositoryError(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    in_git = _git(folder)
    if asked.output == "json":
        emit_json({"folder": str(folder), "files": written, "git": in_git})
    else:
        say("\n".join(str(folder / name) for name in written))
    steps = ["" if in_git else "git init", 'git add . && git commit -m "Access as files"', "reconcile validate"]
    tell(f"next, in {folder}:")
    for step in filter(None, steps):
        tell(f"  {step}")
    tell("then README.md: a GnuPG key, a service's secrets, and the first `reconcile --dry-run`")
    return 0


def _copy(source: Traversable, target: Path) -> list[str]:
    """Copy the template, giving the paths that were written."""
    written = []
    for item in source.iterdir():
        name = item.name
        if name.startswith(HIDDEN):
            name = f".{name.removeprefix(HIDDEN)}"
        if item.is_dir():
            (target / name).mkdir()
            written += [f"{name}/{inner}" for inner in _copy(item, target / name)]
        else:
            (target / name).write_bytes(item.read_bytes())
            written.append(name)
    return written


def _git(folder: Path) -> bool:
    """Make the folder a git repository; False where there is no git to do it with."""
    import shutil
    import subprocess

    program = shutil.which("git")
    if program is None:
        return False
    # -c and not --initial-branch: gits before 2.28 know neither, and only the former does them no harm.
    command = [program, "-c", "init.defaultBranch=main", "init", "--quiet", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603  no shell
