"""Fetch and fast-forward with the `git` program (docs/design/rules.md, "Source of truth"; `program`).

Nothing that a person has at hand is ever lost: where the branch is checked out git merges with `--ff-only`, which
refuses to touch an edited file or an ignored one; elsewhere the fetch moves the branch itself, which git refuses for
anything but a fast-forward and for a branch that another worktree has checked out.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pygit2

from reconciler.repository.git.extent import Endless, Extents
from reconciler.repository.git.program import CREDENTIALS, TIMEOUT_SECONDS, GitFailed
from reconciler.repository.git.program import git as run
from reconciler.repository.reach import helper_of_a_commit

__all__ = ["TIMEOUT_SECONDS", "fetch"]


_LOCK = re.compile(r"nable to create '([^']+\.lock)': File exists")


def fetch(
    root: Path,
    remote: str,
    name: str,
    timeout: float = TIMEOUT_SECONDS,
    stopped: Callable[[], bool] | None = None,
) -> str | None:
    """Fetch a branch of a remote and fast-forward the branch of that name.

    Gives None where it went well, also where there was nothing new; else a sentence that says why not. The remote is no
    longer waited for once `stopped` says so.
    """
    branch = f"refs/heads/{name}"
    if not pygit2.reference_is_valid_name(branch):
        return f"{name!r} is no name of a branch: mend git.branch in config/reconciler.yaml"
    where = CREDENTIALS.sub("***", f"{name} from {remote}")
    try:
        if (objection := helper_of_a_commit(root)) is not None:
            return f"{where} is not fetched: {objection}"
        checked_out = run(root, "symbolic-ref", "--quiet", "HEAD", timeout=timeout, ok=(0, 1)) == branch
        target = "" if checked_out else f":{branch}"
        what = ("fetch", "--no-recurse-submodules", "--", remote, f"{branch}{target}")
        run(root, *what, timeout=timeout, stopped=stopped)
        if checked_out:
            fetched = run(root, "rev-parse", "FETCH_HEAD", timeout=timeout)
            repository = pygit2.Repository(str(root))
            Extents(repository).refuse(repository[fetched].peel(pygit2.Commit).tree_id)  # git would write it all out
            # What git ignores may be the state itself: a commit must not put another in its place.
            run(root, "merge", "--quiet", "--ff-only", "--no-overwrite-ignore", "FETCH_HEAD", timeout=timeout)
    except Endless as error:
        return f"{where} cannot be taken over: {error}"
    except FileNotFoundError:
        return "git is not installed, so nothing can be fetched: install it, or set git.fetch to null"
    except OSError as error:
        return f"git does not start: {error.strerror}; it is tried again"
    except subprocess.TimeoutExpired:
        return f"fetching {where} took longer than {timeout:g} s and was given up"
    except GitFailed as error:
        return f"{where} cannot be taken over: {_why(error, remote, name)}"
    return None


def _why(failed: GitFailed, remote: str, branch: str) -> str:
    """Return git's own message, or a clearer one if there is one."""
    said = str(failed)
    if "would be overwritten" in said:
        files = ", ".join(line.strip() for line in said.splitlines() if line.startswith("\t"))
        return f"uncommitted edits are in the way ({files}): commit or discard them"
    if "non-fast-forward" in said or "fast-forward" in said:
        return (
            f"the local branch {branch} has commits that {remote} does not have: push them, or "
            f"`git reset` the branch to {remote}/{branch}"
        )
    if (lock := _LOCK.search(said)) is not None:
        return f"git's lock {lock[1]} is in the way: where no git is running there, a power cut left it: delete it"
    if "couldn't find remote ref" in said:
        return f"the remote has no branch {branch}: mend git.branch in config/reconciler.yaml"
    if "checked out at" in said:
        return f"another worktree has {branch} checked out: fast-forward it there"
    return failed.gist
