"""Programs as a transport: one process for each request, spoken to in CGI/1.1 (RFC 3875).

It gets method, path, query and headers in its environment, and data on its standard input; its standard output is the
answer. It runs in a temporary folder and in a process group of its own, which is killed at the timeout, when the
program ends, and with this process. It inherits nothing else of this process: no environment, no descriptors.

An exit code other than 0 is a broken connection: the program may have done something before.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process, SubprocessStreamProtocol
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, cast
from urllib.parse import unquote_to_bytes

from reconciler import __version__
from reconciler.model.errors import TransportError
from reconciler.model.log import event_log
from reconciler.repository.git.program import leads_through
from reconciler.transports.address import Address
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.transports.transport import Watch

HEAD_BYTES = 100 * 1024
"""Bytes of an answer's headers."""

ERROR_BYTES = 64 * 1024
"""Bytes of its standard error that are read; the rest is thrown away."""

ERROR_CHARACTERS = 4000
"""Characters of it that go to the log."""

PIECE_BYTES = 64 * 1024

OWN = frozenset({"content-type", "content-length", "proxy"})
"""Headers that are no `HTTP_…`: what CGI has another name for, and what programs take for their proxy."""


class Programs:
    """Runs programs. `programs` are the machine's, by name; `root` is the checkout, in which none of them is."""

    def __init__(self, programs: Mapping[str, Path], root: Path, redact: Callable[[str], str]) -> None:
        self._programs = programs
        self._root = root
        self._redact = redact
        self._reaper = Reaper()

    async def send(self, request: RenderedRequest, address: Address, watch: Watch) -> Response:
        """Run a program; see `Transport`."""
        name = address.program
        program = self._programs[name]
        if leads_through(program, self._root):
            raise TransportError(f"{program} is within the checkout, where a commit could change it", left=False)
        environment = _environment(request, address)
        with tempfile.TemporaryDirectory(prefix="reconcile-") as folder, _input(request.content) as given:
            loop = asyncio.get_running_loop()
            start = partial(
                loop.subprocess_exec,
                partial(_Group, limit=PIECE_BYTES, loop=loop),
                program,
                stdin=given,
                stdout=PIPE,
                stderr=PIPE,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
            self._reaper.start()
            watch.leaves()
            try:
                transport, protocol = await start()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else str(error)
                raise TransportError(f"{program} cannot be run: {why}", left=False) from None
            process, said = Process(transport, protocol, loop), bytearray()
            try:
                self._reaper.notify(process.pid)
                watch.has_left()
                answer = await _printed(process, request.most, said)
                code = await process.wait()
            finally:  # at the timeout too
                if text := said.decode(errors="replace").strip():
                    event_log().warning("program.stderr", program=name, text=self._redact(text)[:ERROR_CHARACTERS])
                await self._end(process, transport)
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise TransportError(f"the program {how}", left=True)
        return _answer(answer, request.most)

    async def aclose(self) -> None:
        """Let go of what watches over the programs."""
        self._reaper.close()

    async def _end(self, process: Process, transport: asyncio.SubprocessTransport) -> None:
        """Kill what is left of a program's group, and close the pipes: something of another group may hold them."""
        _kill(process.pid)
        for output in (1, 2):
            if (pipe := transport.get_pipe_transport(output)) is not None:
                pipe.close()
        self._reaper.notify(process.pid)
        await asyncio.shield(process.wait())


class _Group(SubprocessStreamProtocol):
    """The pipes of a program. What it leaves behind would keep them open, so its group ends with it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The program runs."""
        super().connection_made(transport)
        self._pid = cast("asyncio.SubprocessTransport", transport).get_pid()

    def process_exited(self) -> None:
        """It has ended."""
        _kill(self._pid)
        super().process_exited()


def _kill(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _environment(request: RenderedRequest, address: Address) -> dict[bytes, bytes]:
    """Return the environment of RFC 3875, section 4.1, with PATH and LANG. Raises TransportError."""
    path, _, query = address.target.partition("?")
    meta: dict[str, str | bytes] = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"access-reconciler/{__version__}",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "REMOTE_ADDR": "127.0.0.1",
        "SCRIPT_NAME": "",
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_bytes(path),
        "QUERY_STRING": query,
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }
    if request.content is not None:
        meta["CONTENT_LENGTH"] = str(len(request.content))
    for name, value in request.headers:
        if name.lower() == "content-type":
            meta["CONTENT_TYPE"] = value
        elif name.lower() not in OWN:
            meta[f"HTTP_{name.upper().replace('-', '_')}"] = value
    encoded = {
        name.encode(): value if isinstance(value, bytes) else value.encode(errors="replace")
        for name, value in meta.items()
    }
    if b"\0" in b"".join(encoded.values()):
        raise TransportError("a value has a NUL in it, which no environment can hold", left=False)
    return encoded


@contextmanager
def _input(content: bytes | None) -> Iterator[int]:
    """Return what a program reads from.

    All of it is there before the program begins: from a pipe it would take a part, or nothing, for the whole where this
    process is killed. It is in memory where that can be, for it may have secrets.
    """
    if content is None:
        yield DEVNULL
        return
    in_memory = hasattr(os, "memfd_create")  # Linux
    with open(os.memfd_create("input"), "w+b") if in_memory else tempfile.TemporaryFile() as file:  # noqa: PTH123
        file.write(content)
        file.seek(0)
        yield file.fileno()


async def _printed(process: Process, most: int, said: bytearray) -> bytes:
    """Read what a program prints, until it ends: return its answer, and add its standard error to what it `said`."""
    assert process.stdout is not None
    assert process.stderr is not None
    answer = bytearray()
    await asyncio.gather(_read(process.stdout, HEAD_BYTES + most + 1, answer), _read(process.stderr, ERROR_BYTES, said))
    return bytes(answer)


async def _read(stream: asyncio.StreamReader, most: int, kept: bytearray) -> None:
    """Read to the end; keep so many bytes."""
    while piece := await stream.read(PIECE_BYTES):
        kept += piece[: max(0, most - len(kept))]


def _answer(printed: bytes, most: int) -> Response:
    """Return what a program printed as an answer. Raises TransportError where it has no headers (RFC 3875, 6.2)."""
    headers: dict[str, str] = {}
    place = 0
    while place < HEAD_BYTES:
        end = printed.find(b"\n", place)
        line = printed[place : end if end >= 0 else len(printed)].rstrip(b"\r").decode(errors="replace")
        place = end + 1
        name, colon, value = line.partition(":")
        if not line and headers and end >= 0:
            break
        if end < 0 or not colon or not name or name != name.strip():
            raise TransportError("the answer is no CGI: it begins with header lines and an empty line", left=True)
        if name.lower() == "status" and "status" in headers:
            raise TransportError("the answer is no CGI: it has two lines of Status", left=True)
        headers[name.lower()] = value.strip()
    else:
        raise TransportError(f"the answer is headed by more than {HEAD_BYTES // 1024} KiB", left=True)
    said = headers.pop("status", "302" if "location" in headers else "200")
    status = said[:3]
    if said[3:4].isdigit() or not (status.isascii() and status.isdigit() and 200 <= int(status) <= 599):
        raise TransportError("the answer is no CGI: its Status is no number from 200 to 599", left=True)
    content = printed[place:]
    return Response(int(status), headers, content[:most], len(content) > most)


_CODE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
groups = set()
for line in sys.stdin:
    groups.symmetric_difference_update([int(line)])
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Reaper:
    """Is notified of each group when it begins, and when it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it runs: before a program begins, so that the program is soon known to it."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-I", "-S", "-c", _CODE]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def notify(self, group: int) -> None:
        """Note that a group has begun, or that it has ended."""
        self.start()
        try:
            self._input.write(b"%d\n" % group)
            self._input.flush()
        except OSError:  # somebody killed it
            self.close()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin

    def close(self) -> None:
        """End it; what still runs is killed."""
        if self._process is not None:
            self._process.communicate()
            self._process = None
