"""The real program in processes of its own, without the half second that its imports take each time.

A `Nursery` is one process that has everything imported and does nothing but fork: each child is the program from its
`main` on, with its own memory, files and locks, and is killed like any other process.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.repo import Repo

__all__ = ["Child", "Nursery", "die_with_parent"]

PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """One call of the program."""

    nursery: Nursery = field(repr=False)
    pid: int
    _log: Path

    @property
    def log(self) -> str:
        """What it wrote so far, on either stream."""
        return self._log.read_text(errors="replace")

    def kill9(self) -> None:
        """SIGKILL, as a power cut would be; it is gone when this returns. One that ended by itself before is told."""
        os.kill(self.pid, signal.SIGKILL)
        code = self.wait()
        assert code == -signal.SIGKILL, f"it had ended by itself, with {code}:\n{self.log}"

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal."""
        code: int = self.nursery.ask(wait=self.pid)
        return code


class Nursery:
    """Where the children come from; use it as a context manager."""

    def __init__(self, *modules: str) -> None:
        """`modules` are imported too: those of the functions that are called."""
        self._modules = modules

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="nursery-")
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forked", *self._modules],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._folder.cleanup()

    def start(self, repo: Repo, *arguments: str) -> Child:
        """`reconcile <arguments>` in the repository."""
        self._count += 1
        log = Path(self._folder.name, str(self._count))
        log.touch()
        return self._born(repo, log, start=arguments)

    def call(self, repo: Repo, function: Callable[..., int], log: Path, **given: Any) -> Child:
        """A function of a test's own in the repository, with arguments that JSON can hold; it gives the exit code."""
        return self._born(repo, log, call=f"{function.__module__}:{function.__qualname__}", given=given)

    def _born(self, repo: Repo, log: Path, **wish: Any) -> Child:
        pid = self.ask(**wish, cwd=str(repo.root), environment=repo.environment(), log=str(log))
        return Child(self, pid, log)

    def ask(self, **wish: Any) -> Any:
        """One wish, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the nursery ended with {self._process.wait(10)}")
        return json.loads(answer)


def die_with_parent() -> None:
    """Be killed when the process that made this one ends: nobody is left behind where a trial is cut off."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve() -> None:
    """Import what a daemon and a pass import, then fork for as long as somebody asks."""
    import sqlite3  # noqa: F401

    import httpcore  # noqa: F401
    import uvicorn  # noqa: F401
    from alembic import command, config  # noqa: F401

    import reconciler.cli.daemon  # noqa: F401
    import reconciler.cli.manual  # noqa: F401
    import reconciler.cli.progress  # noqa: F401
    import reconciler.daemon.loop  # noqa: F401
    import reconciler.web.serve  # noqa: F401
    from reconciler.requests.connections import _tls

    _tls()  # the certificates of half the world: read once
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin.buffer:
        wish = json.loads(line)
        if "wait" in wish:
            answer = os.waitstatus_to_exitcode(os.waitpid(wish["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                _become(wish)
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _become(wish: dict[str, Any]) -> None:
    """The program, and never back."""
    from reconciler.cli import run

    code = 70
    die_with_parent()
    try:
        log = os.open(wish["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(wish["environment"])
        os.chdir(wish["cwd"])
        if "call" in wish:
            module, _, name = wish["call"].partition(":")
            code = getattr(importlib.import_module(module), name)(**wish["given"])
        else:
            code = run(wish["start"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
