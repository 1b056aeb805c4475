"""A dry run changes nothing, here or there: not a byte in the repository, and services see checks and look-ups only."""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.cli import reconcile
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.sqlite.lock import StateLock
from reconciler.ledger.writer import LedgerWriter
from tests.repo import Daemon, Repo, call_cli, run_cli
from tests.servers import AccountService, eventually

FLAGS = {
    "dry_run": [],
    "rev": ["--rev=HEAD", "--rev=HEAD~1", "--rev=nowhere"],
    "worktree": ["--worktree"],
    "by": ["--by=integration"],
    "hires": ["--hire=ada", "--hire=dan", "--hire=nobody"],
    "integrations": ["--integration=tool", "--integration=nowhere"],
    "detailed_exitcode": ["--detailed-exitcode"],
    "yes_really": ["--yes-really"],
    "no_removals": ["--no-removals"],
    "yes": ["--yes"],
    "statuses": ["--status=missing", "--status=gone"],
    "only_changes": ["--only-changes"],
    "verbose": ["-v"],
    "log_format": ["--log-format=json"],
    "output": ["--output=json", "--output=markdown", "--output=csv"],
    "path": ["--repo=."],
    "program": ["--program=mark=/bin/false"],
    "branch": ["--branch=main", "--branch=nowhere"],
    "version": [],
}
"""The options of a pass, by their parameters' names, as they are tried beside `--dry-run`."""

READERS = [
    ("status", ["hires", "integrations", "by", "statuses", "only_changes", "output", "verbose", "log_format"]),
    ("history", ["hires", "integrations", "output", "verbose", "log_format"]),
    ("history --since=1d", ["hires", "integrations", "output", "verbose", "log_format"]),
    ("explain ada tool", ["output", "verbose", "log_format"]),
    ("explain dan tool", ["output", "verbose", "log_format"]),
    ("validate", ["rev", "output", "verbose", "log_format"]),
    ("diff HEAD~1", ["output", "verbose", "log_format"]),
    ("diff HEAD~1 worktree", ["output", "verbose", "log_format"]),
    ("options tool TEAM", ["output", "verbose", "log_format"]),
    ("initial-data check tool", ["output", "verbose", "log_format"]),
    ("schema manifest", ["output", "verbose", "log_format"]),
]
"""What only reads besides, with the options that each takes."""


def alone(names: Iterable[str]) -> list[tuple[str, ...]]:
    """No flag, and each of them."""
    return [(), *((flag,) for name in names for flag in FLAGS[name])]


def in_pairs(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Every pair of flags."""
    return list(itertools.combinations((flag for name in names for flag in FLAGS[name]), 2))


PLANS = [("--dry-run", *flags) for flags in (*alone(FLAGS), *in_pairs(FLAGS))]
READS = [(*command.split(), *flags) for command, names in READERS for flags in alone(names)]
LETS_THROUGH = {"--yes", "--yes-really"}
IN_PAIRS = [(*command.split(), *flags) for command, names in READERS for flags in in_pairs(names)]


def bytes_under(root: Path, *without: str) -> dict[str, str]:
    """Every file's path, mode, content, and when it was written; a folder's path, mode, and when it changed."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.name in without:
            continue
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        known = path.lstat()
        found[str(path.relative_to(root))] = f"{known.st_mode:o} {known.st_mtime_ns} {content}"
    return found


@pytest.fixture
def used(repo: Repo, accounts: AccountService) -> Repo:
    """A repository with something to create, to retry, to heal, to revoke, to look up, and edits nobody committed."""
    accounts.route("GET", "/teams", {"data": [{"id": "7", "name": "Team 7"}]})
    manifest = accounts.manifest(team=True, revoke=True, listing=True)
    manifest["form"] = [
        {
            "id": "TEAM",
            "name": "Team",
            "type": "choice",
            "url": f"{accounts.url}/teams",
            "method": "GET",
            "data_from": "data",
        }
    ]
    repo.manifest("tool", manifest)
    repo.settings(prune="revoke")
    for stem in ("bob", "cy", "dan"):
        repo.hire(stem, {"integration": "tool", "values": {"TEAM": "7"}})
    repo.commit()
    accounts.fail_next(1, 500, method="POST", prefix="/teams/7/members")
    assert run_cli(repo).code == 1
    accounts.people.pop("cy@example.com")
    repo.remove("hires/dan.yaml")
    repo.hire("ada", {"integration": "tool", "values": {"TEAM": {"name": "Team 7"}}})
    repo.commit()
    repo.hire("eve", "tool")
    accounts.requests.clear()
    return repo


def only_looked(accounts: AccountService) -> bool:
    """Whether all that was asked for is checks, the listing and look-ups; these may be a POST, as a form's are."""
    looks = re.compile(r"GET /users(/[^/]+)?|GET /teams|POST /search")
    return all(looks.fullmatch(line) for line in accounts.lines())


def test_no_option_is_left_out() -> None:
    assert {parameter.name for parameter in reconcile.params} == FLAGS.keys()


def test_every_flag_alone_and_beside_those_that_let_through(used: Repo, accounts: AccountService) -> None:
    """Of the other pairs, `test_whatever_stands_in_the_repository` tries some."""
    before = bytes_under(used.root)
    plans = [flags for flags in PLANS if len(flags) <= 2 or LETS_THROUGH & {*flags}]
    for arguments in (*plans, *READS):
        result = call_cli(used, *arguments)
        assert result.code in {0, 1, 2, 64}, result.err
        assert bytes_under(used.root) == before, arguments
    assert only_looked(accounts)
    assert accounts.calls("GET", "/users/ada@example.com")
    assert accounts.calls("GET", "/teams"), "the options were looked up"


def test_without_a_state_none_is_made(repo: Repo, accounts: AccountService) -> None:
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    before = bytes_under(repo.root)
    assert run_cli(repo, "--dry-run", "--detailed-exitcode").code == 2
    assert run_cli(repo, "status").code == 0
    assert bytes_under(repo.root) == before
    assert only_looked(accounts)


def test_after_a_crash_the_log_that_it_left_stays(used: Repo, accounts: AccountService) -> None:
    """kill -9 in the middle of an attempt: the next dry run says how it stands, and mends nothing."""
    held = accounts.hang(None, method="POST", prefix="/users")
    with Daemon(used) as daemon:
        eventually(lambda: accounts.calls("POST", "/users"))
        daemon.kill9()
    held.set()
    accounts.clear()
    log = used.state.with_name("state.db-wal")
    assert log.stat().st_size > 0, "the kill left no write-ahead log: the test shows nothing"
    accounts.requests.clear()
    before = bytes_under(used.root)
    planned = run_cli(used, "--dry-run", "--output", "json")
    shown = run_cli(used, "status", "--output", "json")
    assert bytes_under(used.root) == before
    assert only_looked(accounts)
    interrupted = [grant for grant in planned.json["grants"] if "interrupted" in (grant["last_error"] or "")]
    assert interrupted
    assert {grant["status"] for grant in interrupted} == {"retrying"}
    assert shown.json["grants"]


def test_beside_a_running_daemon(used: Repo, accounts: AccountService) -> None:
    """The daemon sleeps between two intervals: whatever changes now is the reader's doing."""
    used.settings(interval="1d", retry_delay="1d", drift="report")
    used.commit()
    with Daemon(used) as daemon:
        eventually(lambda: "why=start" in daemon.log)
        # The index of the write-ahead log is where SQLite's readers and writers meet: shared memory, not the ledger.
        before = bytes_under(used.root, "state.db-shm")
        sent = len(accounts.calls("POST"))
        assert run_cli(used, "--dry-run").code in {0, 1}
        assert run_cli(used, "status").code in {0, 1}
        assert bytes_under(used.root, "state.db-shm") == before
        assert len(accounts.calls("POST")) == sent


# Any repository

TOOL = {"integration": "tool", "values": {"TEAM": "7"}}
ACCESS = [
    TOOL,
    {**TOOL, "values": {"TEAM": {"name": "Team 7"}}},
    {**TOOL, "values": {"TEAM": "no such team"}},
    {**TOOL, "name": "again"},
    {**TOOL, "at": "2030-01-01"},
    {**TOOL, "until": "2020-01-01"},
    {"integration": "two", "values": {"COLOUR": "red"}},
    {"integration": "two", "values": {"COLOUR": "red"}, "needs": ["hook"]},
    "hook",
    "secret",
    "bad",
    "nowhere",
]
HIRES = st.dictionaries(
    st.sampled_from(["ada", "bob", "cy", "dan"]), st.lists(st.sampled_from(ACCESS), max_size=3), max_size=4
)
SETTINGS = st.fixed_dictionaries(
    {"retry_delay": st.sampled_from(["0s", "1h"])},
    optional={
        "prune": st.just("revoke"),
        "drift": st.just("report"),
        "source": st.just("worktree"),
        "max_change_percent": st.just(0),
        "suspend": st.sampled_from([[{"integration": "tool"}], [{"hire": "ada", "until": "2020-01-01"}]]),
        "git": st.just({"verify_signatures": True}),
        "alerts": st.just(True),
    },
)
BROKEN = st.dictionaries(
    st.sampled_from(
        [
            "hires/bob.yaml",
            "hires/eve.yaml",
            "manifests/tool.yaml",
            "config/sequences/all.yaml",
            "config/reconciler.yaml",
            "config/initial_data/secret.yaml.gpg",
        ]
    ),
    st.sampled_from(["", "- [", "email: 1\nemail: 2\n"]),
    max_size=1,
)
TROUBLE = st.sampled_from([None, ("GET", "/users"), ("POST", "/users"), ("POST", "/teams"), ("DELETE", "/users")])
LEFT = st.sampled_from(["nothing", "no git", "a write-ahead log", "a holder", "no state"])


@dataclass(frozen=True)
class Past:
    """A commit, and the pass that acted on it."""

    hires: dict[str, list[Any]]
    broken: dict[str, str]
    settings: dict[str, Any]
    trouble: tuple[str, str] | None
    acted: bool

    def commit(self, repo: Repo, accounts: AccountService) -> None:
        """Make the files what they were, and the pass over them."""
        for folder in ("hires", "config", "manifests"):
            shutil.rmtree(repo.root / folder, ignore_errors=True)
        chosen = dict(self.settings)
        if chosen.get("alerts"):
            chosen["alerts"] = [{"webhook": f"{accounts.url}/alert"}]
        repo.settings(**chosen)
        repo.write("hires/.gitkeep", "")
        for stem, content in manifests(accounts).items():
            repo.manifest(stem, content)
        repo.write("manifests/bad.yaml", "execute: {}\n")
        repo.write("config/sequences/all.yaml", {"assign": {"department": ["R&D"]}, "access": ["hook"]})
        for stem, access in self.hires.items():
            repo.hire(stem, *access, **({"department": "R&D"} if stem < "c" else {}))
        for path, content in self.broken.items():
            repo.write(path, content)
        repo.commit()
        if self.acted:
            if self.trouble is not None:
                method, prefix = self.trouble
                accounts.fail_next(None, 500, method=method, prefix=prefix)
            call_cli(repo)
            accounts.clear()


def manifests(accounts: AccountService) -> dict[str, Any]:
    """Accounts with a listing and options that are looked up, a second tool, a webhook, one without its secret."""
    choice = {"id": "TEAM", "name": "Team", "type": "choice", "url": f"{accounts.url}/teams", "data_from": "data"}
    tool = accounts.manifest(team=True, revoke=True, listing=True)
    tool["post_execute_notification"] = [{"type": "email", "to": "{{email}}", "subject": "Welcome", "message": "Hello"}]
    tool["form"] = [{**choice, "method": "GET"}]
    two = accounts.manifest(revoke=True)
    two["form"] = [{"id": "COLOUR", "name": "Colour", "type": "choice", "url": f"{accounts.url}/search"}]
    secret = accounts.manifest()
    secret["initial_data_form"] = [{"id": "KEY", "name": "Key", "description": "From the settings page"}]
    hook = {"execute": [{"url": f"{accounts.url}/hook", "data": {"email": "{{email}}"}}]}
    return {"tool": tool, "two": two, "hook": hook, "secret": secret}


PAST = st.builds(Past, HIRES, BROKEN, SETTINGS, TROUBLE, st.booleans())


def asked_for_by_hand(ledger: LedgerWriter) -> None:
    """Words that nobody has heard yet, as `retry`, `run` and `--yes-really` leave them."""
    for kind in ("retry", "run", "release"):
        ledger.commands.enqueue(kind, now=datetime.now(UTC), by="ida@here", hire="ada", access="tool")


@contextmanager
def as_left(repo: Repo, left: str) -> Iterator[tuple[str, ...]]:
    """The repository as something left it; gives the names of the files that readers may share with a holder."""
    match left:
        case "no git":
            shutil.rmtree(repo.root / ".git")
        case "no state":
            shutil.rmtree(repo.state.parent, ignore_errors=True)
        case "a write-ahead log":
            with closing(StateLocation(f"sqlite:///{repo.state}", repo.root).writer()) as ledger:
                asked_for_by_hand(ledger)
                kept = {name: repo.state.with_name(name).read_bytes() for name in ("state.db", "state.db-wal")}
            for name, content in kept.items():
                repo.state.with_name(name).write_bytes(content)
        case "a holder":
            with (
                StateLock(repo.state).acquire("test", datetime.now(UTC)),
                closing(StateLocation(f"sqlite:///{repo.state}", repo.root).writer()) as ledger,
            ):
                asked_for_by_hand(ledger)
                yield ("state.db-shm",)
            return
    yield ()


EXAMPLES = settings().max_examples // 10
"""Ten in the suite; a hundred with HYPOTHESIS_PROFILE=explore."""


@pytest.mark.timeout(900)  # a hundred examples take minutes
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    past=st.lists(PAST, min_size=1, max_size=2),
    there=st.sets(st.sampled_from(["ada@example.com", "bob@example.com", "dan@example.com"])),
    edits=BROKEN,
    left=LEFT,
    asked=st.lists(st.sampled_from([*PLANS, *PLANS, *READS, *IN_PAIRS]), min_size=8, max_size=8),
)
def test_dry_run_of_any_repository_changes_nothing(
    accounts: AccountService,
    past: list[Past],
    there: set[str],
    edits: dict[str, str],
    left: str,
    asked: list[tuple[str, ...]],
) -> None:
    """Any commits, executed or not, with failures or not; whatever was left behind: to ask changes nothing."""
    accounts.route("GET", "/teams", {"data": [{"id": "7", "name": "Team 7"}]})
    accounts.route("POST", "/search", [{"id": "red", "name": "Red"}])
    accounts.route("POST", "/hook", {})
    accounts.people.clear()
    with tempfile.TemporaryDirectory() as folder:
        repo = Repo(Path(folder, "repo"))
        for one in past:
            one.commit(repo, accounts)
        accounts.people.clear()
        accounts.add(*there)
        for path, content in edits.items():
            repo.write(path, content)
        with as_left(repo, left) as shared:
            accounts.requests.clear()
            before = bytes_under(repo.root, *shared)
            for arguments in asked:
                result = call_cli(repo, *arguments)
                assert result.code in {0, 1, 2, 64}, result.err
                assert bytes_under(repo.root, *shared) == before, arguments
                assert only_looked(accounts), (arguments, accounts.lines())
                if arguments[0] not in ("--dry-run", "options"):
                    assert not accounts.requests, f"{arguments} asks nobody"
                accounts.requests.clear()
