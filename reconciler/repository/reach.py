"""Detect what a commit can control: files of the checkout that git's own settings would run or read.

A commit can write any path of the worktree but `.git`. A program, key or setting there, or reached through a link
there, is controlled by the committer, not by the machine: it is never run and never trusted.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from reconciler.model.settings import Settings
from reconciler.repository.git.program import git

__all__ = ["committable", "helper_of_a_commit", "home_of", "objection_to_home", "settings"]

MOST_LINKS = 40
"""Links on one path, as the kernel has it."""

_RUN = re.compile(
    r"core\.(sshcommand|gitproxy|alternaterefscommand|editor|pager|askpass)|gpg(\..+)?\.(program|defaultkeycommand)"
    r"|credential\.(.+\.)?helper|filter\..+\.(clean|smudge|process)|merge\..+\.driver|diff\.external"
    r"|diff\..+\.(command|textconv)|remote\..+\.(uploadpack|receivepack|vcs)"
)
"""Settings of git whose value is run. `git` itself switches hooks and core.fsmonitor off (`program`)."""


def home_of(root: Path, settings: Settings) -> str | None:
    """Return the GnuPG home that the settings name, relative to the repository's root; None for GnuPG's own."""
    return None if settings.gnupg_home is None else str(root / Path(settings.gnupg_home).expanduser())


def committable(root: Path, path: str | Path) -> bool:
    """Whether a commit could put something at this path: by its name, or through a link on the way to it."""
    given = root / Path(path).expanduser()
    return _inside(root, Path(os.path.normpath(given))) or any(_inside(root, place) for place in _steps(given))


def _inside(root: Path, place: Path) -> bool:
    return place.is_relative_to(root) and place != root and place.relative_to(root).parts[0] != ".git"


def _steps(path: Path) -> Iterator[Path]:
    """Yield every place that the kernel passes on the way to a path, including targets of links."""
    here, waiting, links = Path("/"), list(reversed(path.parts[1:])), 0
    while waiting:
        part = waiting.pop()
        if part == "..":
            here = here.parent
            continue
        here /= part
        yield here
        try:
            target = here.readlink()
        except OSError:
            continue  # no link, or nothing there
        links += 1
        if links > MOST_LINKS:
            return
        here = here.parent
        if target.is_absolute():
            here, target = Path("/"), target.relative_to("/")
        waiting += reversed(target.parts)


def objection_to_home(root: Path, home: str | None) -> str | None:
    """Return why a GnuPG home must not be used, None for GnuPG's own; None if it may be.

    Its settings name programs that gpg and its agent run, and its keyring says who is trusted.
    """
    found = home or os.environ.get("GNUPGHOME") or "~/.gnupg"
    if not committable(root, found):
        return None
    return (
        f"the GnuPG home {found} is in the repository, where a commit can add keys and name programs that are run: "
        "move it out, and set gnupg_home"
    )


def helper_of_a_commit(root: Path) -> str | None:
    """Return why git must not be run here: its settings name a file that a commit can change.

    None where none does. Raises GitFailed, OSError and subprocess.TimeoutExpired.
    """
    mend = "which is in the repository, where a commit can change it: move it out"
    for origin, name, value in settings(root):
        source = origin.removeprefix("file:")
        if source != origin and committable(root, source):
            return f"git takes {name} from {source}, {mend}"
        trusts = name.startswith("gpg.") and (name.endswith("file") or "/" in value)
        if (trusts and committable(root, value)) or (_RUN.fullmatch(name) and _runs_committed(root, value)):
            return f"git's {name} is {value}, {mend}"
    return None


def settings(root: Path) -> list[tuple[str, str, str]]:
    """Return git's settings for a checkout: source, name and value; raises like `helper_of_a_commit`."""
    parts = git(root, "config", "--null", "--show-origin", "--includes", "--list").split("\0")
    pairs = [(origin, *setting.partition("\n")) for origin, setting in zip(parts[::2], parts[1::2], strict=False)]
    return [(origin, name, value) for origin, name, _, value in pairs]


def _runs_committed(root: Path, command: str) -> bool:
    """Whether a command line names a file that a commit can change."""
    try:
        arguments = shlex.split(command.removeprefix("!"))
    except ValueError:
        arguments = command.split()
    for place, word in enumerate(arguments):
        path = os.path.expandvars(word.rpartition("=")[2] if word.startswith("-") or place else word)
        named = "/" in path or (place > 0 and path not in ("", ".") and os.path.lexists(root / path))
        if named and not path.startswith(("$", "-")) and committable(root, path):
            return True
    return False
