"""Programs on this machine: what they are given, what they answer, and that none outlives its request."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from structlog.testing import capture_logs

from reconciler.model.errors import UsageError
from reconciler.transports.opening import named_programs
from reconciler.transports.program import Programs
from tests.servers import PATIENCE, eventually
from tests.transports.watching import Progress, exchange, refused

pytestmark = pytest.mark.anyio

Write = Callable[..., Programs]

SENDING = """
import asyncio, pathlib
from reconciler.transports.program import Programs
from tests.transports.watching import Progress, exchange
class Told(Progress):
    def has_left(self):
        print("left", flush=True)
tool = Programs({{"tool": pathlib.Path({tool!r})}}, pathlib.Path("/nowhere"), str)
asyncio.run(exchange(tool, "POST", "exec:tool/x", content=bytes({size}), progress=Told()))
"""


def killed_once(condition: Callable[[], Any], tool: Path, script: str, size: int) -> Any:
    """Another process has a program run with so much input, and is killed once that runs and the condition holds."""
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    code = SENDING.format(tool=str(tool), size=size)
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"left\n"
            return eventually(condition)
        finally:
            daemon.kill()


@pytest.fixture
def program(tmp_path: Path) -> Write:
    """Makes the program `tool` of a shell script."""

    def write(script: str) -> Programs:
        path = tmp_path / "tool"
        path.write_text(f"#!/bin/sh\n{dedent(script)}")
        path.chmod(0o755)
        return Programs({"tool": path}, tmp_path / "checkout", lambda text: text.replace("s3cret", "***"))

    return write


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descriptors() -> int:
    """How many this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def written(path: Path) -> list[int]:
    """The processes whose numbers a program wrote, once it did."""
    text = path.read_text() if path.is_file() else ""
    return [int(pid) for pid in text.split()] if text.endswith("\n") else []


async def test_a_program_is_spoken_to_in_cgi(program, monkeypatch):
    """Method, path, query, headers and data are its own; nothing of this process's environment is."""
    monkeypatch.setenv("RECONCILE_KEY", "s3cret")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.com")
    tool = program(
        f"""\
        printf 'Status: 201 Created\\r\\nX-Kind: Account\\r\\n\\r\\n'
        {sys.executable} -c 'import json, os, sys
        print(json.dumps({{"env": dict(os.environ), "args": sys.argv[1:], "data": sys.stdin.read(), "cwd": os.getcwd(),
                          "open": sorted(map(int, os.listdir("/proc/self/fd")))[:-1]}}))'
        """
    )
    headers = {"Content-Type": "application/json", "X-Key": "k", "Proxy": "http://evil.example.com"}
    answer = await exchange(tool, "POST", "exec:tool/users/ada%40x%2Fy?a=%41&b", headers, b'{"a": 1}')
    assert (answer.status, answer.headers) == (201, {"x-kind": "Account"})
    got: Any = answer.json()
    assert (got["data"], got["args"], got["open"]) == ('{"a": 1}', [], [0, 1, 2])
    assert not os.path.exists(got["cwd"])  # noqa: PTH110, ASYNC240
    got["env"] = {
        name: value for name, value in got["env"].items() if name not in ("PWD", "OLDPWD", "_", "SHLVL", "LC_CTYPE")
    }
    assert got["env"].pop("SERVER_SOFTWARE").startswith("access-reconciler/")
    assert got["env"] == {
        "CONTENT_LENGTH": "8",
        "CONTENT_TYPE": "application/json",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "HTTP_X_KEY": "k",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "PATH": os.environ["PATH"],
        "PATH_INFO": "/users/ada@x/y",
        "QUERY_STRING": "a=%41&b",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    await tool.aclose()


@pytest.mark.parametrize(
    ("prints", "status"),
    [
        ("printf 'Content-Type: text/plain\\n\\nfound'", 200),
        ("printf 'Status: 404\\n\\n'", 404),
        ("printf 'Location: /elsewhere\\n\\n'", 302),
    ],
    ids=["usual", "status", "redirect"],
)
async def test_an_answer_has_a_status(program, prints, status):
    tool = program(prints)
    assert (await exchange(tool, "GET", "exec:tool/x")).status == status
    await tool.aclose()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo found", "no CGI"),
        ("printf '\\nfound'", "no CGI"),
        ("printf 'Status: 200\\n'", "no CGI"),
        ("printf 'Status: fine\\n\\n'", "its Status is no number"),
        ("printf 'Status: 4040\\n\\n'", "its Status is no number"),
        ("printf 'Status: 500\\nStatus: 404\\n\\n'", "two lines of Status"),
        ("printf 'Status: 200\\n\\nfound'; exit 3", "ended with exit code 3"),
        ("printf 'Status: 200\\n\\nfound'; kill -TERM $$", "killed by signal 15"),
    ],
    ids=["no-header", "empty-head", "no-end", "no-status", "four-digits", "two-statuses", "exit-code", "signal"],
)
async def test_what_is_no_answer_leaves_the_request_in_doubt(program, script, why):
    tool = program(script)
    error = await refused(tool, "POST", "exec:tool/x", content=b"{}")
    assert why in str(error)
    assert error.left
    await tool.aclose()


async def test_a_program_that_cannot_be_run_has_done_nothing(program, tmp_path):
    tool = program("true")
    (tmp_path / "tool").chmod(0o644)
    error = await refused(tool, "POST", "exec:tool/x", content=b"{}")
    assert not error.left
    assert "Permission denied" in str(error)
    (tmp_path / "tool").unlink()
    assert not (await refused(tool, "POST", "exec:tool/x")).left
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/evil").write_text("#!/bin/sh\n")
    (tmp_path / "tool").symlink_to("checkout/evil")
    assert "within the checkout" in str(await refused(tool, "POST", "exec:tool/x"))
    assert not (await refused(tool, "GET", "exec:tool/a%00b")).left
    await tool.aclose()


async def test_what_it_leaves_behind_ends_with_it(program):
    tool = program("sleep 1000 & printf 'X: y\\n\\n%s' $!")
    answer = await asyncio.wait_for(exchange(tool, "GET", "exec:tool/x"), PATIENCE)
    await asyncio.to_thread(eventually, lambda: not alive(int(answer.text)))
    await tool.aclose()


async def test_the_whole_group_is_killed_at_the_timeout(program, tmp_path):
    tool = program(f"sleep 1000 & echo $! $$ > {tmp_path}/pids; wait")
    task = asyncio.create_task(exchange(tool, "GET", "exec:tool/x"))
    pids = await asyncio.to_thread(eventually, lambda: written(tmp_path / "pids"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(eventually, lambda: not any(map(alive, pids)))
    await tool.aclose()


@pytest.mark.parametrize("answers", [False, True])
async def test_timeout_ends_a_request_whose_output_something_of_another_group_holds(program, tmp_path, *, answers):
    """Such as `ssh` leaves behind for the next connection. It is nobody's to kill, but the pipes are closed."""
    other, pids = f"setsid sh -c 'echo $0 $$ > {tmp_path}/pids; exec sleep 1000' $$", tmp_path / "pids"
    tool = program(f"{other} & while [ ! -s {pids} ]; do :; done; {'echo X: y; echo' if answers else 'sleep 1000'}")
    opened = descriptors()
    task = asyncio.create_task(exchange(tool, "GET", "exec:tool/x"))
    own, left = await asyncio.to_thread(eventually, lambda: written(pids))
    try:
        await asyncio.to_thread(eventually, lambda: alive(own) is not answers)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        await tool.aclose()
        await asyncio.to_thread(eventually, lambda: descriptors() <= opened)
        assert alive(left)
    finally:
        os.kill(left, signal.SIGKILL)


def test_programs_end_with_this_process_even_if_it_is_killed(tmp_path):
    script = f"sleep 1000 & echo $! $$ > {tmp_path}/pids; wait"
    pids = killed_once(lambda: written(tmp_path / "pids"), tmp_path / "tool", script, size=2)
    eventually(lambda: not any(map(alive, pids)))


def test_what_outlives_this_process_has_its_whole_input(tmp_path):
    """From half of it, or nothing, a program would make half an account."""
    late = f"echo >{tmp_path}/runs; while kill -0 $0; do sleep 0.01; done 2>&-; wc -c >{tmp_path}/read"
    killed_once((tmp_path / "runs").exists, tmp_path / "tool", f"setsid sh -c '{late}' $PPID; exit", size=200_000)
    assert eventually(lambda: written(tmp_path / "read")) == [200_000]


async def test_standard_error_goes_to_the_log_without_secrets_and_bounded(program):
    tool = program("echo 'the key s3cret is old' >&2; yes x | head -c 300000 >&2; printf 'X: y\\n\\n'")
    with capture_logs() as lines:
        await exchange(tool, "GET", "exec:tool/x")
    (line,) = lines
    assert line["event"] == "program.stderr"
    assert line["text"].startswith("the key *** is old")
    assert len(line["text"]) == 4000
    await tool.aclose()


async def test_standard_error_of_a_program_that_hangs_is_logged_at_the_timeout(program, tmp_path):
    """It may say for what the program waits."""
    tool = program(f"echo 'waiting for the lock' >&2; echo $$ > {tmp_path}/pids; sleep 1000")
    with capture_logs() as lines:
        task = asyncio.create_task(exchange(tool, "GET", "exec:tool/x"))
        await asyncio.to_thread(eventually, lambda: written(tmp_path / "pids"))
        for _ in range(10):  # what it wrote is there, and is read in the next turns
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [line["text"] for line in lines] == ["waiting for the lock"]
    await tool.aclose()


async def test_an_answer_is_bounded(program):
    tool = program("printf 'X: y\\n\\n'; yes x | head -c 3000000")
    progress = Progress(most=1000)
    answer = await exchange(tool, "GET", "exec:tool/x", most=1000, progress=progress)
    assert answer.truncated
    assert len(answer.content) == 1000
    await tool.aclose()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("tool", "write NAME=PATH"),
        ("to/ol=/bin/true", "write NAME=PATH"),
        ("tool=checkout/tool", "within the checkout"),
        ("tool=out/tool", "within the checkout"),
        ("tool=through", "within the checkout"),
    ],
    ids=["no-path", "no-name", "inside", "a-folder's-link", "a-link-through-it"],
)
def test_a_program_is_none_that_a_commit_could_change(tmp_path, monkeypatch, given, why):
    monkeypatch.chdir(tmp_path)
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "tool").symlink_to("/bin/true")
    (tmp_path / "out").symlink_to(checkout)
    (tmp_path / "through").symlink_to("checkout/tool")
    with pytest.raises(UsageError, match=why):
        named_programs([given], checkout)


def test_programs_are_named_by_the_machine(tmp_path):
    assert named_programs(["a=/bin/true", "b=/bin/false"], tmp_path) == {
        "a": Path("/bin/true"),
        "b": Path("/bin/false"),
    }
    with pytest.raises(UsageError, match="named twice"):
        named_programs(["a=/bin/true", "a=/bin/false"], tmp_path)
