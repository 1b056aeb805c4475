"""The demo's environment: a copy of the sample repository, a temporary gpg key, and sample services.

Everything lies in one temporary folder and is gone when the demo ends; every process started here is ended by its id.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from reconciler.demo import asana
from reconciler.demo.phonebook import Loopback
from reconciler.model.errors import ReconcilerError
from reconciler.model.value import Frozen
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import encrypt_initial_data

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SAMPLE = Path(__file__).parents[2]
FOLDERS = ("config", "manifests", "hires")
SERVICES = ("asana", "scim")
SCIM_PORT = 8902
QUICKER = {"interval: 1m ": "interval: 5s ", "retry_delay: 1h ": "retry_delay: 5s "}
"""So that there is something to see within a minute; nobody waits an hour for a demo."""


LONGEST = 60
"""Characters of a temporary folder's path, so that gpg's agent can have its socket two folders below."""


class _NoDemo(ReconcilerError):
    """The demo cannot be set up here; the text says what is missing."""


class Stage(Frozen):
    """A repository with matching services, and the environment variables for `reconcile` to find its key."""

    root: Path
    environment: dict[str, str]
    asana: str
    listen: str

    @property
    def go(self) -> Path:
        """Return the shell commands to enter the demo."""
        return self.root.with_name("go")

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of `reconcile` with these arguments."""
        return [sys.executable, "-m", "reconciler", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `reconcile` on the repository."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def commit(self, message: str) -> None:
        """Commit all changes."""
        _git(self.root, self.environment, "add", "--all")
        _git(self.root, self.environment, "commit", "--quiet", "--message", message)

    def merge_request(self) -> str:
        """Merge the request that waits on a branch; return its name."""
        names = ("for-each-ref", "--format=%(refname:short)", "refs/heads/request")
        [branch] = _git(self.root, self.environment, *names).split()
        merge = ("merge", "--quiet", "--no-ff", "--message", f"Merge {branch}", branch)
        _git(self.root, self.environment, *merge)
        _git(self.root, self.environment, "branch", "--quiet", "--delete", branch)
        return branch.removeprefix("request/")


@contextmanager
def staged() -> Iterator[Stage]:
    """Set up the demo while the block runs. Raises NoDemo."""
    if not all((SAMPLE / folder).is_dir() for folder in FOLDERS):
        raise _NoDemo("the demo needs a checkout of this project, which has the samples: run `make run` there")
    for program in ("git", "gpg"):
        if shutil.which(program) is None:
            raise _NoDemo(f"the demo needs {program}: install it (Debian: apt-get install git gnupg)")
    tokens = {"asana": "demo-" + secrets.token_hex(16), "scim": "demo-" + secrets.token_hex(16)}
    try:
        directory = scim(tokens["scim"])
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise _NoDemo(f"the demo needs {missing}: run `make run` in {SAMPLE}, which installs it") from error
    with ExitStack() as stack:
        tools = stack.enter_context(_serving(asana.Asana(tokens["asana"]), asana.PORT))
        people = stack.enter_context(_serving(directory, SCIM_PORT))
        folder = stack.enter_context(_temporary())
        home, root = folder / "keys", folder / "access"
        home.mkdir(mode=0o700)
        root.mkdir()
        environment = _environment(home)
        kill = ["gpgconf", "--kill", "all"]
        stack.callback(subprocess.run, kill, env=environment, capture_output=True, check=False, timeout=20)
        key = _make_key(environment)
        listen = _copy(root, {asana.PORT: tools.port, SCIM_PORT: people.port})
        gnupg = Gnupg(str(home))
        values = {"asana": {"TOKEN": tokens["asana"], "ORG": asana.ORGANIZATION}, "scim": {"TOKEN": tokens["scim"]}}
        for service, data in values.items():
            encrypt_initial_data(root, service, data, [key], gnupg)
        stage = Stage(root, environment, tools.url, listen)
        _git(root, environment, "init", "--quiet", "--initial-branch=main")
        for key, value in _ME.items():  # git needs an author for what a user tries here
            _git(root, environment, "config", f"user.{key.lower()}", value)
        (folder / "go").write_text(_GO.format(root=root, home=home, programs=Path(sys.executable).parent))
        stage.commit("The sample repository")
        yield stage


def scim(token: str) -> WSGIApplication:
    """Return a real SCIM 2.0 server (RFC 7644) in memory, without users; everything is under `/v2`.

    It is nobody's mock: filters, conflicts and error bodies are the standard's, as an independent project reads it.
    """
    from scim2_models import ScimProvider  # all of it is in the extra `demo`
    from scim2_server import utils
    from scim2_server.memory import InMemoryStorage
    from scim2_server.service import ScimService
    from scim2_server.testserver.application import BEARER_TOKEN_SCHEME, BearerTokenApplication

    config = utils.load_default_service_provider_config()
    config.authentication_schemes = [*(config.authentication_schemes or []), BEARER_TOKEN_SCHEME]
    kinds = (utils.load_default_schemas().values(), utils.load_default_resource_types().values())
    provider = ScimProvider.from_discovery(*kinds, config=config)
    made = BearerTokenApplication(InMemoryStorage(), provider, ScimService(provider), bearer_tokens=[token])
    return cast("WSGIApplication", made)


_GO = """\
cd {root}
export GNUPGHOME={home} PATH="{programs}:$PATH"
"""
"""What a shell reads to be at the demo: its repository, its key, this program."""


@contextmanager
def _temporary() -> Iterator[Path]:
    """Make a folder in TMPDIR; in /tmp if that path is too long for the socket of gpg's agent."""
    place = tempfile.gettempdir()
    short = place if len(place) <= LONGEST else "/tmp"  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="rd-", dir=short, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _serving(application: WSGIApplication, port: int) -> Loopback:
    try:
        return Loopback(application, port)
    except OSError:
        return Loopback(application)


def _environment(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RECONCILE_", "GIT_"))}
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _ME.items()}
    return kept | who | {"GNUPGHOME": str(home), "GIT_CONFIG_GLOBAL": os.devnull}


_ME = {"NAME": "Demo", "EMAIL": "demo@example.com"}


def _make_key(environment: dict[str, str]) -> str:
    """Make a key without a passphrase, for this demo only; returns its fingerprint."""
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "Demo <demo@example.com>"]
    _run([*make, "future-default", "default", "never"], environment)
    listed = _run(["gpg", "--batch", "--with-colons", "--list-keys"], environment)
    return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))


def _copy(root: Path, ports: dict[int, int]) -> str:
    """Copy the sample with the services' actual ports; returns the daemon's `listen`."""
    for folder in FOLDERS:
        shutil.copytree(SAMPLE / folder, root / folder)
    for file in (root / "manifests").iterdir():
        if file.stem not in SERVICES:  # nobody in the sample is given them, and nothing here answers for them
            file.unlink()
            continue
        text = file.read_text()
        for port, real in ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{real}")
        file.write_text(text)
    settings = root / "config" / "reconciler.yaml"
    text = settings.read_text()
    for slow, quick in QUICKER.items():
        text = text.replace(slow, quick)
    listen = f"127.0.0.1:{_free_port(8080)}"
    settings.write_text(text.replace("127.0.0.1:8080", listen))
    (root / ".gitignore").write_text(".reconciler/\n")
    return listen


def _free_port(wanted: int) -> int:
    import socket

    for port in (wanted, 0):
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(attempt.getsockname()[1])
    raise _NoDemo("no port is free on 127.0.0.1")


def _git(root: Path, environment: dict[str, str], *arguments: str) -> str:
    return _run(["git", "-C", str(root), "-c", "commit.gpgsign=false", *arguments], environment)


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise _NoDemo(f"{command[0]} failed: {done.stderr.strip()}")
    return done.stdout
