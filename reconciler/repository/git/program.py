"""Run the `git` program: no prompt, no hook, no other repository, and a time limit.

There is no terminal and no askpass; a command that takes too long ends with everything that it started. What a git hook
that started us left in the environment is taken out, for it would lead git elsewhere. Hooks and core.fsmonitor are
programs that may stand in the checkout, where a commit can change them, and replacements are other commits than the
ones that are acted on: all are off.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

__all__ = ["CREDENTIALS", "TIMEOUT_SECONDS", "GitFailed", "git"]

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
    """A git command failed; the text is its message."""

    @property
    def gist(self) -> str:
        """The line of the message that says why."""
        lines = [line.strip() for line in str(self).splitlines() if line.strip()]
        found = (line for line in lines if line.startswith(("fatal:", "error:", "! ")))
        line = next(found, lines[-1] if lines else "git gave no reason")
        return line.removeprefix("fatal: ").removeprefix("error: ").removeprefix("! ")


def git(
    root: Path,
    *arguments: str,
    timeout: float = TIMEOUT_SECONDS,
    ok: tuple[int, ...] = (0,),
    environment: Mapping[str, str] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> str:
    """Return the output of a git command in the checkout at `root`, stripped.

    It is terminated once `stopped` says so, and counts as failed. Raises GitFailed for an exit code that is not `ok`,
    FileNotFoundError where git is not installed, and subprocess.TimeoutExpired.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
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
    with process:
        try:
            out, said = _said(process, timeout, stopped)
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
