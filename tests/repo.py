"""A user's repository in a temporary folder, and the real program run on it.

`Repo` writes files and commits them; `run_cli` is one call of `reconcile`, `call_cli` one in this process; `Daemon` is
a running one. Every process started here is forked from one that has the program imported, and ended by its own id.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import pygit2
import pytest
import structlog
import yaml

from reconciler.cli import main, run
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.vault import Vault
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.log import event_log
from reconciler.model.run import OpenRun
from reconciler.model.status import Action, Status
from tests.forked import Process, nursery
from tests.servers import PATIENCE, eventually

GIT_CONFIG = """
[user]
    name = Ida Admin
    email = ida@example.com
[commit]
    gpgsign = false
# git would go on in the background, in files that a test looks at
[maintenance]
    auto = false
"""

LEFT_OUT = ("RECONCILE_", "GIT_", "PYTHONDONTWRITEBYTECODE")
"""What a process does not get to see of this one's environment. Without bytecode each compiles every module anew."""

PROGRAM = Path(sys.executable).with_name("reconcile")


def short_folder() -> str:
    """Where a GnuPG home may stand."""
    place = tempfile.gettempdir()
    return place if len(place) <= 60 else "/tmp"


class GnupgHome:
    """A throw-away GnuPG home with one key, ed25519 and cv25519, without a passphrase.

    It stands where TMPDIR says, under /tmp where that is long: the agent's socket's path has 86 characters at most.
    """

    uid = "Test Team <it@example.com>"
    lasting: ClassVar[set[str]] = set()
    """The homes whose key stays what it is for the whole session."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="g-", dir=short_folder())
        self._gpg("--quick-generate-key", self.uid, "future-default", "default", "never")
        listed = self._gpg("--list-keys", "--with-colons").decode()
        self.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def encrypt(self, plain: bytes, *, armor: bool = False) -> bytes:
        """For the home's own key."""
        return self._gpg(*(["--armor"] if armor else []), "--encrypt", "--recipient", self.fingerprint, given=plain)

    def close(self) -> None:
        """End the home's own agent and remove it."""
        subprocess.run(["gpgconf", "--homedir", self.path, "--kill", "all"], check=True, capture_output=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", self.path, "--batch", "--quiet", "--trust-model", "always"]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


class Repo:
    """A git repository with `hires/` and `manifests/` in the making."""

    def __init__(self, root: Path, gnupg: GnupgHome | None = None) -> None:
        self.root = root
        self.gnupg = gnupg
        pygit2.init_repository(root, initial_head="main")
        with (root / ".git" / "config").open("a") as config:
            config.write(GIT_CONFIG)
        self.listen = f"127.0.0.1:{free_port()}"
        self.state = root / ".reconciler" / "state.db"
        self.state_url = f"sqlite:///{self.state}"
        (root / ".git" / "info").mkdir(exist_ok=True)
        (root / ".git" / "info" / "exclude").write_text(".reconciler/\n")

    def write(self, path: str, content: str | bytes | Mapping[str, Any] | list[Any]) -> Path:
        """Write a file: text and bytes as they are, data as YAML (as JSON where the name ends so)."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case bytes():
                file.write_bytes(content)
            case str():
                file.write_text(content)
            case _ if path.endswith(".json"):
                file.write_text(json.dumps(content, indent=2))
            case _:
                file.write_text(yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))
        return file

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def hire(self, stem: str, *access: Any, **fields: Any) -> None:
        """`hires/<stem>.yaml`, with an address at example.com unless one is given."""
        person = {"email": f"{stem}@example.com", "first_name": stem.title(), "last_name": "Example", **fields}
        self.write(f"hires/{stem}.yaml", {**person, "access": list(access)})

    def manifest(self, stem: str, content: Mapping[str, Any]) -> None:
        self.write(f"manifests/{stem}.yaml", content)

    def settings(self, **keys: Any) -> None:
        """`config/reconciler.yaml` with the state and the port of this repository, and what is given."""
        keys = {"state": self.state_url, "listen": self.listen, **keys}
        self.write("config/reconciler.yaml", keys)

    def initial_data(self, service: str, values: Mapping[str, Any], *, armor: bool = False) -> Path:
        """Encrypt an integration's initial data to the throw-away key."""
        assert self.gnupg is not None, "this repository has no GnuPG home"
        raw = self.gnupg.encrypt(yaml.safe_dump(dict(values)).encode(), armor=armor)
        return self.write(f"config/initial_data/{service}.yaml.{'asc' if armor else 'gpg'}", raw)

    def commit(self, message: str = "change", *, later: int = 0) -> str:
        """Commit everything there is, as if so many seconds later; gives the full commit id."""
        checkout = pygit2.Repository(self.root)  # in this process: the git program is started twice for it
        checkout.index.add_all()
        checkout.index.write()
        who = checkout.default_signature
        who = pygit2.Signature(who.name, who.email, who.time + later, who.offset)
        parents = [] if checkout.head_is_unborn else [checkout.head.target]
        return str(checkout.create_commit("HEAD", who, who, f"{message}\n", checkout.index.write_tree(), parents))

    def record(self, hire: str, access: str) -> Record | None:
        """What the ledger has of a grant, read beside whoever holds it, without a process of its own."""
        with StateLocation(self.state_url, self.root).reader() as ledger:
            return ledger.grants.record(Key(hire, access))

    def has(self, hire: str, access: str, status: str) -> bool:
        """Whether the ledger has a grant with this status; to be waited for with `eventually`."""
        record = self.record(hire, access)
        return record is not None and record.status == status

    def retrying(self, integration: str, stems: Iterable[str], in_: timedelta = timedelta(seconds=-1)) -> None:
        """As if each had failed an hour before it is due, and no daemon had run since: write that into the ledger."""
        due = datetime.now(UTC) + in_
        records = [
            Record(
                key=Key(stem, integration),
                email=f"{stem}@example.com",
                integration=integration,
                service=integration,
                source=f"hires/{stem}.yaml:5",
                phase=Phase.RETRYING,
                status=Status.RETRYING,
                action=Action.WAIT,
                attempts=1,
                open=OpenRun(retry_at=due),
                checked_at=due - timedelta(hours=1),
                last_error="answered 500",
            )
            for stem in stems
        ]
        with closing(StateLocation(self.state_url, self.root).writer()) as ledger:
            ledger.save(records)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a process on this repository gets to see: nothing of the machine's own git, GnuPG or settings."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(LEFT_OUT)}
        kept |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "NO_COLOR": "1", "COLUMNS": "200"}
        if self.gnupg is not None:
            kept["GNUPGHOME"] = self.gnupg.path
        return kept | dict(more or {})


@dataclass(frozen=True)
class Result:
    """What one call of the program came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def grant(self, hire: str, access: str) -> dict[str, Any]:
        """One grant of the JSON output."""
        found: list[dict[str, Any]] = [g for g in self.json["grants"] if (g["hire"], g["access"]) == (hire, access)]
        assert len(found) == 1, self.out
        return found[0]


def run_cli(
    repo: Repo,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002  as `subprocess.run` has it
) -> Result:
    """`reconcile <arguments>` in the repository, as a process of its own."""
    with running_cli(repo, *arguments, env=env, input=input) as running:
        return running.ends()


@dataclass(frozen=True)
class Running:
    """One call of the program, which goes on."""

    process: Process
    _out: IO[bytes]
    _err: IO[bytes]

    def first_line(self) -> str:
        """What it wrote to stdout first, as soon as it is there."""
        line: str = eventually(lambda: "\n" in (text := _written(self._out)) and text.partition("\n")[0])
        return line

    def ends(self) -> Result:
        """All that it came to, once it has ended. Raises TimeoutExpired where it does not."""
        return Result(self.process.wait(), _written(self._out), _written(self._err))


@contextmanager
def running_cli(
    repo: Repo,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    input: str | None = None,  # noqa: A002  as `run_cli` has it
) -> Iterator[Running]:
    """The same, for as long as the block runs; killed at its end unless it has ended."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write((input or "").encode())
        given.seek(0)
        process = start_cli(repo, *arguments, env=repo.environment(env), streams=(given, out, err))
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()


def start_cli(
    repo: Repo,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    streams: Sequence[int | IO[Any] | None],
    terminal: bool = False,
) -> Process:
    """The same with streams of its own. `env` is all that it gets to see; for the rest see Nursery.start."""
    env = repo.environment() if env is None else env
    return nursery().start(main, *arguments, cwd=repo.root, env=env, streams=streams, terminal=terminal)


def _written(file: IO[bytes]) -> str:
    # By position, for the file's own place is shared with the process that writes.
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def call_cli(repo: Repo, *arguments: str, given: str = "", env: Mapping[str, str] | None = None) -> Result:
    """`reconcile <arguments>` in the repository, in this process: the same code, without half a second to start it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("GITHUB_ACTIONS", "GNUPGHOME"):
            patch.delenv(name, raising=False)
        for name, value in repo.environment(env).items() - os.environ.items():
            patch.setenv(name, value)
        patch.chdir(repo.root)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        try:
            code = run(arguments)
        finally:
            event_log()  # what sets it up is used up
            structlog.reset_defaults()
    return Result(code, out.getvalue(), err.getvalue())


class Daemon:
    """`reconcile daemon` on a repository: ready once it is entered, gone once it is left."""

    def __init__(self, repo: Repo, *arguments: str, env: Mapping[str, str] | None = None, ready: bool = True) -> None:
        self.repo = repo
        self.arguments: Iterable[str] = arguments
        self.env = repo.environment(env)
        self.url = f"http://{repo.listen}"
        self._wait = ready
        self._log = TemporaryFile()  # noqa: SIM115  closed on leaving

    def __enter__(self) -> Self:
        streams = (None, self._log, self._log)
        self.process = start_cli(self.repo, "daemon", *self.arguments, env=self.env, streams=streams)
        if self._wait:
            try:
                eventually(self.ready)
            except BaseException:
                self.__exit__(None, None, None)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.process.terminate()
            try:
                self.process.wait()
            except subprocess.TimeoutExpired:
                self.kill9()
        self._log.close()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote so far, on either stream."""
        return _written(self._log)

    def ready(self) -> bool:
        """Whether /readyz says yes. A daemon that has ended fails the test, with its log."""
        assert self.running, f"the daemon ended with {self.process.returncode}:\n{self.log}"
        with suppress(OSError):
            return self.get("/readyz")[0] == 200
        return False

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of one of its own pages."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait()

    def kill9(self) -> None:
        """SIGKILL, as a power cut would be."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens on, below those that systems choose for whoever asks for any."""
    for _ in range(100):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def use_key(ledger: LedgerWriter, repo: Repo) -> None:
    """Open the state's key, so that commands that are written to its ledger count."""
    from reconciler.ledger.sealing import Trust, open_vault
    from reconciler.secrets.gpg import Gnupg

    open_vault(ledger, Gnupg(None if repo.gnupg is None else repo.gnupg.path), Trust())


def store_tokens(ledger: LedgerWriter, vault: Vault, service: str, record: Mapping[str, Any]) -> None:
    """Store a service's tokens, as `reconcile oauth connect` does."""
    from reconciler.ledger.ledger import OpenLedger
    from reconciler.ledger.sealing import WritableTokens

    asyncio.run(WritableTokens(vault, service, OpenLedger(ledger)).change(lambda _: record))
