"""The real program in processes of its own, without the half second that its imports take each time.

A `Nursery` is one process that has everything imported and does nothing but fork: each child is the program from its
`main` on, with its own memory, files and locks, and is killed like any other process. What the program compiles when it
is first used is compiled before. Tests of the start itself, such as those in tests/cli/test_quick.py and
tests/cli/test_bare_machine.py, begin the program as its users do.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import io
import json
import logging
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import sqlalchemy as sa
from pydantic import BaseModel

from tests.servers import PATIENCE

if TYPE_CHECKING:
    from tests.repo import Repo

PR_SET_PDEATHSIG = 1


@dataclass
class Process:
    """One child, with as much of `subprocess.Popen` as tests need."""

    nursery: Nursery = field(repr=False)
    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self.returncode is None:
            self.returncode = self.nursery.ask(poll=self.pid)
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has ended. Raises TimeoutExpired where it does not."""
        until, pause = time.monotonic() + PATIENCE, 0.001
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"child {self.pid}", PATIENCE)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Where the children come from; use it as a context manager."""

    def __init__(self, *modules: str) -> None:
        """`modules` are imported too: those of the functions that are called."""
        self._modules = modules
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._nothing = os.open(os.devnull, os.O_RDWR)
        self._socket, theirs = socket.socketpair()
        self._answers = self._socket.makefile("rb")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forked", str(theirs.fileno()), *self._modules],
                cwd=Path(__file__).parents[1],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._answers.close()
        self._socket.close()
        os.close(self._nothing)
        self._process.wait()

    def start(
        self,
        function: Callable[..., object],
        *arguments: str,
        cwd: Path,
        env: Mapping[str, str],
        streams: Sequence[int | IO[Any] | None],
        terminal: bool = False,
        given: Mapping[str, Any] | None = None,
    ) -> Process:
        """A function in a process of its own: `arguments` are the command line, `streams` stdin, stdout and stderr.

        A stream that is None is /dev/null. `given` is what the function takes, in what JSON can hold. It returns its
        exit code, or exits. With `terminal`, stdin is the terminal that controls it: Ctrl-C is typed there.
        """
        files = [self._nothing if stream is None else stream for stream in streams]
        pid = self.ask(
            [file if isinstance(file, int) else file.fileno() for file in files],
            call=[function.__module__, function.__qualname__],
            arguments=arguments,
            given=dict(given or {}),
            terminal=terminal,
            cwd=str(cwd),
            environment=dict(env),
        )
        return Process(self, pid)

    def call(self, repo: Repo, function: Callable[..., int], log: Path, **given: Any) -> Process:
        """A function of a test's own in the repository; what it writes is in the log."""
        with log.open("ab", buffering=0) as written:
            streams = (None, written, written)
            return self.start(function, cwd=repo.root, env=repo.environment(), streams=streams, given=given)

    def ask(self, files: Sequence[int] = (), **wish: Any) -> Any:
        """One wish, one answer."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(wish).encode() + b"\n"], files)
            answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"the nursery ended with {self._process.wait()}")
        return json.loads(answer)


@cache
def nursery() -> Nursery:
    """The one of this process, for whatever has no modules of its own; it ends when this process does."""
    made = Nursery().__enter__()
    atexit.register(made.__exit__)
    return made


def die_with_parent() -> None:
    """Be killed when the process that made this one ends: nobody is left behind where a trial is cut off."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(wishes: socket.socket, modules: Sequence[str]) -> None:
    """Import the whole program, then fork for as long as somebody asks."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # as `main` has it, before pydantic is imported
    import sqlite3  # noqa: F401

    import anyio._backends._asyncio  # noqa: F401
    import jinja2  # noqa: F401
    import procrastinate  # noqa: F401
    import uvicorn.lifespan.off  # noqa: F401
    import uvicorn.loops.auto  # noqa: F401
    from alembic import migration, operations  # noqa: F401
    from cryptography.hazmat.primitives.ciphers import aead  # noqa: F401
    from cryptography.hazmat.primitives.kdf import hkdf  # noqa: F401

    import reconciler
    from reconciler.transports.http.transport import _tls

    # The driver of directories has to be built, and may not be here.
    left_out = ("__main__", "demo", "transports.ldap")
    for module in pkgutil.walk_packages(reconciler.__path__, "reconciler."):
        if not module.name.removeprefix("reconciler.").startswith(left_out):
            importlib.import_module(module.name)
    _tls()  # the certificates of half the world: read once
    for name in modules:
        importlib.import_module(name)
    _complete(BaseModel)
    share_compiled()
    with tempfile.TemporaryDirectory() as folder:
        _rehearse(Path(folder).resolve())
    gc.collect()
    gc.freeze()
    while wish := _next(wishes):
        answer = _answer(*wish, wishes)
        wishes.sendall(json.dumps(answer).encode() + b"\n")


def _complete(model: type[BaseModel]) -> None:
    """Build what the program's models leave until they are first used: it takes as long as a pass."""
    for each in model.__subclasses__():
        if each.__module__.startswith("reconciler."):
            each.model_rebuild()
        _complete(each)


def share_compiled() -> None:
    """Share compiled SQL between all ledgers of this process: SQLAlchemy keeps it by engine and dialect."""
    create_engine, shared = sa.create_engine, list[tuple[sa.Dialect, Any]]()

    def create(*args: Any, **given: Any) -> sa.Engine:
        engine = create_engine(*args, **given)
        if engine.dialect.name == "sqlite":
            shared.append((engine.dialect, engine._compiled_cache))
            engine.dialect, engine._compiled_cache = shared[0]
        return engine

    sa.create_engine = create


def _rehearse(root: Path) -> None:
    """Give somebody access and take it away: what the program compiles for that takes as long as to do it.

    Nothing is left that a child could tell from the first use, and no thread, which a fork would cut off.
    """
    import pygit2
    import structlog

    from reconciler.cli import run
    from tests.servers import AccountService

    checkout = pygit2.init_repository(root, initial_head="main")
    who = pygit2.Signature("Ida Admin", "ida@example.com")

    def commit(**files: Any) -> None:
        for folder, content in files.items():
            (root / folder).mkdir(exist_ok=True)
            (root / folder / "tool.yaml").write_text(json.dumps(content))
        checkout.index.add_all()
        checkout.index.write()
        parents = [] if checkout.head_is_unborn else [checkout.head.target]
        checkout.create_commit("HEAD", who, who, "Change", checkout.index.write_tree(), parents)

    ada = {"email": "ada@example.com", "first_name": "Ada", "last_name": "Example"}
    os.environ.update(GNUPGHOME=str(root), GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")
    said = io.StringIO()
    with AccountService() as tool, chdir(root), redirect_stdout(said), redirect_stderr(said):
        (root / "config").mkdir()
        (root / "config" / "reconciler.yaml").write_text("prune: revoke\n")
        commit(manifests=tool.manifest(listing=True, revoke=True), hires={**ada, "access": ["tool"]})
        codes = [run(["--output", "json"]), run(["explain", "tool", "tool"])]
        commit(hires={**ada, "access": []})
        codes += [run([]), run(["status"])]
        sent = [request.method for request in tool.requests]
    assert (codes, sent.count("POST"), sent.count("DELETE")) == ([0] * 4, 1, 1), said.getvalue()
    assert threading.active_count() == 1
    structlog.reset_defaults()
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    logging.captureWarnings(capture=False)
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    logging.root.handlers.clear()
    logging.raiseExceptions = True


def _next(wishes: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next wish, with the files that came with it; None once nobody is there to ask."""
    text, files = b"", list[int]()
    while not text.endswith(b"\n"):
        piece, more, _, _ = socket.recv_fds(wishes, 1 << 16, 3)
        if not piece:
            return None
        text += piece
        files += more
    return json.loads(text), files


def _answer(wish: dict[str, Any], files: list[int], wishes: socket.socket) -> int | None:
    if "poll" in wish:
        ended, status = os.waitpid(wish["poll"], os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if ended else None
    pid = os.fork()
    if pid == 0:
        _become(wish, files, wishes)
    for file in files:
        os.close(file)
    return pid


def _become(wish: dict[str, Any], files: list[int], wishes: socket.socket) -> None:
    """The function, and never back: what a Python process does at its end is done here."""
    code: object = 1
    try:
        die_with_parent()
        wishes.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts in the background with it ignored
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        if wish["terminal"]:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  as an interpreter opens it at its start
        os.environ.clear()
        os.environ.update(wish["environment"])
        time.tzset()
        os.chdir(wish["cwd"])
        module, name = wish["call"]
        sys.argv = ["reconcile", *wish["arguments"]]
        code = getattr(importlib.import_module(module), name)(**wish["given"])
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:  # noqa: BLE001  as the interpreter itself would
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(code)


def _leave(code: object) -> None:
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if isinstance(code, str):
            print(code, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  there is nobody to raise it to
        traceback.print_exc()
        code = 120
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
