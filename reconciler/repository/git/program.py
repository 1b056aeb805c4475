"""Run the `git` program: no prompt, no hook, no other repository, and a time limit.

There is no terminal and no askpass; a command that takes too long ends with everything that it started. What a git hook
that started us left in the environment is taken out, for it would lead git elsewhere. Hooks and core.fsmonitor are
programs that may stand in the checkout, where a commit can change them, and replacements are other commits than the
ones that are acted on: all are off.

A commit can write any path of the worktree but `.git`. A program, key or setting there, or reached through a link
there, is controlled by the committer, not by the machine: it is never run and never trusted.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic

from reconciler.model.settings import Settings

TIMEOUT_SECONDS = 60.0
"""Seconds that one git command may take."""

OFTEN, FAREWELL = 0.2, 2.0
"""Seconds between two looks at whether to stop, and those that a command then gets to take its locks away."""

CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")
"""What stands before the host of a remote's address."""

_OFF = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "protocol.ext.allow=never"),
    *("-c", "submodule.recurse=false"),
)
_QUIET = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "LC_ALL": "C",
}
_ELSEWHERE = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE"),
)


class GitFailed(Exception):
    """A git command failed, or could not be run to its end; the text is its message, or says why."""

    @property
    def gist(self) -> str:
        """The line of the message that says why."""
        lines = [line.strip() for line in str(self).splitlines() if line.strip()]
        found = (line for line in lines if line.startswith(("fatal:", "error:", "! ")))
        line = next(found, lines[-1] if lines else "git gave no reason")
        return line.removeprefix("fatal: ").removeprefix("error: ").removeprefix("! ")


class GitUnavailable(GitFailed):
    """Git could not be asked: it is not installed, does not start, or hangs."""


def git(
    root: Path,
    *arguments: str,
    timeout: float = TIMEOUT_SECONDS,
    ok: tuple[int, ...] = (0,),
    environment: Mapping[str, str] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> str:
    """Return the output of a git command in the checkout at `root`, stripped.

    It is terminated once `stopped` says so, and counts as failed. Raises GitFailed for an exit code that is not `ok`
    too, GitUnavailable where git does not start, or takes longer than the timeout.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    try:
        process = subprocess.Popen(  # noqa: S603  no shell; the settings' names stand after `--`
            ["git", "-C", str(root), *_OFF, *arguments],  # noqa: S607  whichever git the user has
            env={**inherited, **(environment or {}), **_QUIET},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise GitUnavailable("git is not installed: install it") from None
    except OSError as error:
        raise GitUnavailable(f"git does not start: {error.strerror}") from None
    with process:
        try:
            out, said = _said(process, timeout, stopped)
        except subprocess.TimeoutExpired:
            raise GitUnavailable(f"git took longer than {timeout:g} s and was given up") from None
        finally:
            if process.poll() is None:
                # ssh and helpers of git's would live on, and hold the pipe: the whole group ends.
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode not in ok:
        raise GitFailed(CREDENTIALS.sub("***", said))
    return out.strip()


def _said(process: subprocess.Popen[str], timeout: float, stopped: Callable[[], bool] | None) -> tuple[str, str]:
    if stopped is None:
        return process.communicate(timeout=timeout)
    until = monotonic() + timeout
    while not stopped():
        try:
            return process.communicate(timeout=min(OFTEN, max(0.0, until - monotonic())))
        except subprocess.TimeoutExpired:
            if monotonic() >= until:
                raise
    os.killpg(process.pid, signal.SIGTERM)
    return process.communicate(timeout=FAREWELL)


# --- what a commit can control ----------------------------------------------------------------------------------------

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
    return None if settings.gnupg_home is None else str(root.resolve() / Path(settings.gnupg_home).expanduser())


def committable(root: Path, path: str | Path) -> bool:
    """Whether a commit could put something at this path: by its name, or through a link on the way to it."""
    given = root / Path(path).expanduser()
    return _inside(root, Path(os.path.normpath(given))) or any(_inside(root, place) for place in _steps(given))


def leads_through(path: Path, folder: Path) -> bool:
    """Whether a path is within a folder, its `.git` too, or one of its links leads through it."""
    inside = folder.resolve()
    return any(place.is_relative_to(inside) for place in _steps(path))


def _inside(root: Path, place: Path) -> bool:
    depth = len(root.parts)
    within = place.parts[depth:]
    return place.parts[:depth] == root.parts and bool(within) and within[0] != ".git"


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

    None where none does. Raises GitFailed, and OSError where a path on the way cannot be looked at.
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
    """Return git's settings for a checkout: source, name and value. Raises GitFailed."""
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
