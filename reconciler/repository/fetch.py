"""Fetch and fast-forward with the `git` program (DESIGN section 3, Source of truth).

Nothing that a person has at hand is ever lost: where the branch is checked out git merges with `--ff-only`, which
refuses to touch an edited file; elsewhere the fetch moves the branch itself, which git refuses for anything but a
fast-forward and for a branch that another worktree has checked out. Git never asks: no terminal, no askpass, 60 s.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pygit2

from reconciler.model.settings import Git

__all__ = ["TIMEOUT", "fetch"]

TIMEOUT = 60.0
"""Seconds that one git command may take."""

_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never",
    "LC_ALL": "C",
}
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
"""What a git hook that starts us would leave behind, and would lead git into another repository."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class _GitFailed(Exception):
    """A git command came to nothing; the text is what it said."""


def fetch(root: Path, git: Git, timeout: float = TIMEOUT) -> str | None:
    """Fetch `git.branch` of `git.remote` and fast-forward the branch of that name.

    Gives None where it went well, also where there was nothing new; else a sentence that says why not.
    """
    branch = f"refs/heads/{git.branch}"
    if not pygit2.reference_is_valid_name(branch):
        return f"git.branch {git.branch!r} is no name of a branch: mend it in config/reconciler.yaml"
    where = _CREDENTIALS.sub("***", f"{git.branch} from {git.remote}")
    try:
        checked_out = _git(root, timeout, "symbolic-ref", "--quiet", "HEAD", ok=(0, 1)) == branch
        target = "" if checked_out else f":{branch}"
        _git(root, timeout, "fetch", "--no-recurse-submodules", "--", git.remote, f"{branch}{target}")
        if checked_out:
            _git(root, timeout, "merge", "--quiet", "--ff-only", "FETCH_HEAD")
    except FileNotFoundError:
        return "git is not installed, so nothing can be fetched: install it, or set git.fetch to null"
    except subprocess.TimeoutExpired:
        return f"fetching {where} took longer than {timeout:g} s and was given up"
    except _GitFailed as error:
        return f"{where} cannot be taken over: {_why(str(error), git)}"
    return None


def _why(said: str, git: Git) -> str:
    """Git's own words, where there is a better sentence replaced by it."""
    if "would be overwritten" in said:
        files = ", ".join(line.strip() for line in said.splitlines() if line.startswith("\t"))
        return f"uncommitted edits are in the way ({files}): commit or discard them"
    if "non-fast-forward" in said or "fast-forward" in said:
        return (
            f"the local branch {git.branch} has commits that {git.remote} does not have: push them, or "
            f"`git reset` the branch to {git.remote}/{git.branch}"
        )
    if "couldn't find remote ref" in said:
        return f"the remote has no branch {git.branch}: mend git.branch in config/reconciler.yaml"
    if "checked out at" in said:
        return f"another worktree has {git.branch} checked out: fast-forward it there"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "no reason")
    return fatal.removeprefix("fatal: ").removeprefix("error: ")


def _git(root: Path, timeout: float, *arguments: str, ok: tuple[int, ...] = (0,)) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE} | _QUIET
    process = subprocess.Popen(  # noqa: S603  no shell; the settings' names stand after `--`
        ["git", "-C", str(root), *arguments],  # noqa: S607  whichever git the user has
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    with process:
        try:
            out, said = process.communicate(timeout=timeout)
        finally:
            if process.poll() is None:
                # ssh and helpers of git's would live on, and hold the pipe: the whole group ends.
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode not in ok:
        raise _GitFailed(_CREDENTIALS.sub("***", said))
    return out.strip()
