"""The walk-through: audit, commit, provision, a failure with its retry, audit again; then the daemon to play with."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from reconciler.demo.stage import Stage, staged
from reconciler.ledger.opening import StateLocation
from reconciler.model.settings import Settings
from reconciler.model.status import Status

PATIENCE_SECONDS = 60.0
"""Seconds after which something that should have happened is said not to have."""

SETTLED = {Status.PRESENT, Status.SCHEDULED}

GRACE = "hires/grace.yaml"
GRACE_TEXT = """\
email: grace.mbeki@example.com
first_name: Grace
last_name: Mbeki
department: Design
access:
  - scim
  - integration: asana
    values: {TEAM_ID: {name: Design}}
    needs: [scim]
"""

NEXT = """\
The daemon goes on, and this window shows what it does. In another terminal:

  . {go}

goes to the repository, and sets the demo's key and `reconcile`. There you can try:

  $EDITOR hires/grace.yaml        # another department, another team
  git commit -am "Another team"   # the daemon acts on it at once
  reconcile status                # the ledger; --dry-run asks the services
  reconcile explain grace asana   # one grant: values, requests, what happens next
  reconcile history
  reconcile request scim --hire mairead --for 1m --reason "…"    # merge the branch that it names
  curl {asana}/fail-once -d ""    # Asana answers its next change with 500: see the retry
  curl http://{listen}/metrics    # and /healthz, /readyz

The status pages are at http://{listen}/: what needs a person, everybody's access, the history.

Ctrl-C ends the demo and removes everything that it made.
"""


def walk(*, once: bool) -> int:
    """Run the demo; returns 0 if everything went as expected. With `once` it ends by itself."""
    with staged() as stage:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was made is removed
        _say("A copy of the sample repository, with a gpg key made for it, and two services on loopback:")
        click.echo(f"  {stage.root}\n  Asana's API at {stage.asana}, and a SCIM 2.0 server")
        text = "The audit: who should have what, who has it, what would be done. Nothing is changed."
        audit = _step(stage, text, "--dry-run")
        count = sum(map(int, re.findall(r"(\d+) (?:missing|scheduled)", audit.partition("\n")[0])))
        with _daemon(stage) as log:
            try:
                _walked(stage, log, count)
            except _Stuck:
                log.show()
                click.echo(f"\nwhat should have happened did not, within {PATIENCE_SECONDS:g} s", err=True)
                return 1
            if once:
                _say("That is the whole of it.")
                return 0
            return _play(stage, log)


class _Stuck(Exception):
    """Something that should have happened did not."""


def _walked(stage: Stage, log: _Log, count: int) -> None:
    """Show what the daemon does, from `count` grants of the sample to the second audit. Raises _Stuck."""
    _say("The daemon, on the same commit:")
    _until(stage, log, lambda grants: len(grants) == count and set(grants.values()) <= SETTLED)
    _say(f"A pull request is merged: {GRACE} is new, and Asana fails once, just then.")
    urllib.request.urlopen(f"{stage.asana}/fail-once", data=b"", timeout=10).close()
    (stage.root / GRACE).write_text(GRACE_TEXT)
    click.echo("".join(f"  | {line}\n" for line in GRACE_TEXT.splitlines()), nl=False)
    stage.commit("Grace starts in Design")
    _until(stage, log, lambda grants: grants.get("grace/asana") is Status.RETRYING)
    text = "One attempt failed and is written down. One retry follows (here after 5 s, else 1 h)."
    _step(stage, text, "status", "--hire", "grace")
    _until(stage, log, lambda grants: grants.get("grace/asana") is Status.PRESENT)
    asked = ("request", "scim", "--hire", "mairead", "--for", "3s", "--reason", "INC-12, the directory is stuck")
    _step(stage, "Mairéad asks for an account of three seconds; `--open` would open the pull request.", *asked)
    _say("It is merged: given at once, and gone when its time is over, whatever `prune` says.")
    name = f"mairead/{stage.merge_request()}"
    _until(stage, None, lambda grants: grants.get(name) in (Status.PRESENT, Status.REVOKED))
    _until(stage, log, lambda grants: grants.get(name) is Status.REVOKED)
    _step(stage, "Whoever asked, why, and how far it is:", "request", "list")
    _step(stage, "The audit again, beside the daemon:", "--dry-run", "--detailed-exitcode")
    _step(stage, "What happened to Grace's access, and when:", "history", "--hire", "grace")


def _say(text: str) -> None:
    click.secho(f"\n== {text}", bold=True)


def _step(stage: Stage, text: str, *arguments: str) -> str:
    """Print a text, run the program, and print and return its output."""
    _say(text)
    click.echo(f"$ reconcile {shlex.join(arguments)}")
    out = stage.run(*arguments).stdout.rstrip()
    click.echo(out)
    return out


def _until(stage: Stage, log: _Log | None, there: Callable[[dict[str, Status]], bool]) -> None:
    """Wait until the ledger has it, and print the log. Raises _Stuck.

    The ledger is read here, as a process each time would slow down the daemon.
    """
    state = StateLocation(Settings().state, stage.root)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with state.reader() as ledger:
            grants = {str(record.key): record.status for record in ledger.grants.records()}
        if there(grants):
            break
        time.sleep(0.1)
    else:
        raise _Stuck
    if log is not None:
        time.sleep(0.2)
        log.show()


class _Log:
    """The daemon's output, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._shown = 0
        self.live = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            if self.live:
                self.show()

    def show(self) -> None:
        while self._shown < len(self._lines):
            click.echo(f"  {self._lines[self._shown]}", nl=False)
            self._shown += 1


@contextmanager
def _daemon(stage: Stage) -> Iterator[_Log]:
    process = subprocess.Popen(
        stage.command("daemon"),
        cwd=stage.root,
        env=stage.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C is the demo's, which then ends the daemon in order
    )
    try:
        yield _Log(process)
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()


def _play(stage: Stage, log: _Log) -> int:
    stopped = False

    def stop(*_: object) -> None:  # no lock: a second signal may come while this runs
        nonlocal stopped
        stopped = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    click.echo("\n" + NEXT.format(go=stage.go, asana=stage.asana, listen=stage.listen))
    log.live = True
    log.show()
    while not stopped:
        if log.process.poll() is not None:
            return 1
        time.sleep(0.2)
    click.echo("\nending the daemon and removing the demo's files")
    return 0
