"""A company for the pages: a daemon whose grants have every state that a person has to look at, and hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.repo import Daemon, Repo, call_cli
from tests.servers import AccountService, eventually

TOKEN = "correct horse battery staple"
SCRIPT = "<script>alert(1)</script>"
RTL = "\u202egpj.exe"
LONG = "Wolfeschlegelsteinhausenbergerdorff" * 6
QUOTED = "o'brien\"><img src=x onerror=alert(1)>"
"""A hire's id, as a file's name may be."""

SAID = f"no seat left {SCRIPT} for you"


@dataclass(frozen=True)
class World:
    """A daemon at work, and the services that it asks."""

    daemon: Daemon
    repo: Repo
    tool: AccountService
    chat: AccountService


@contextmanager
def company(repo: Repo, **settings: object) -> Iterator[World]:
    """The company's repository, its services, and a daemon over it whose passes are over."""
    with AccountService() as tool, AccountService() as chat:
        _files(repo, tool, chat, settings)
        tool.add("ada@example.com", "gone@example.com", "stranger@example.com", f"{SCRIPT}@example.com")
        tool.fail_next(None, 422, method="POST", body=SAID)
        chat.fail_next(None, 503, body="down for maintenance")
        repo.hire("left", {"integration": "tool", "values": {"ROLE": "member"}})
        tool.add("left@example.com")
        repo.commit("Begin")
        with Daemon(repo) as daemon:
            eventually(lambda: repo.has("left", "tool", "present"))
            eventually(lambda: "accounts that git does not know" in daemon.get("/")[1])
            repo.remove("hires/left.yaml")
            repo.commit("left leaves")
            eventually(lambda: repo.has("left", "tool", "orphaned"))
            eventually(lambda: repo.has("grace", "tool", "failed"))
            eventually(lambda: repo.has("ada", "chat", "unknown"))
            _review(repo, daemon)
            yield World(daemon, repo, tool, chat)


def _review(repo: Repo, daemon: Daemon) -> None:
    """Start an access review, decide its first two lines, and wait until the daemon acts on the commit."""
    started = call_cli(repo, "review", "start", "2026-Q4", "--integration", "tool")
    assert started.code == 0, started.err
    repo.commit("Start the review")
    file = repo.root / "config/reviews/2026-Q4/tool.yaml"
    for decision in ("keep", "remove"):
        file.write_text(file.read_text().replace("decision:\n", f"decision: {decision}\n", 1))
    head = repo.commit("Decide")
    eventually(lambda: head in daemon.get("/")[1])


def _files(repo: Repo, tool: AccountService, chat: AccountService, settings: dict[str, object]) -> None:
    repo.settings(interval="1d", retry_delay="1s", **settings)
    roles = [{"id": "member", "name": "Member"}, {"id": "owner", "name": "Owner", "privileged": True}]
    form = [{"id": "ROLE", "name": "Role", "type": "choice", "items": roles}]
    manifest = tool.manifest(listing=True, revoke=True)
    manifest["execute"][0]["data"]["role"] = "{{ROLE}}"
    repo.manifest("tool", {**manifest, "form": form})
    repo.manifest("chat", chat.manifest())
    wiki = tool.manifest()
    wiki["headers"]["Authorization"] = "Bearer {{WIKI_TOKEN}}"
    wiki["initial_data_form"] = [{"id": "WIKI_TOKEN", "name": "Token", "description": ""}]
    repo.manifest("wiki", wiki)
    repo.hire(
        "ada",
        {
            "integration": "tool",
            "until": str(datetime.now(UTC).date() + timedelta(days=5)),
            "values": {"ROLE": "owner"},
        },
        "chat",
        {"integration": "wiki", "at": "2099-01-01"},
        last_name="Lovelace",
        position="Engineer",
    )
    member = {"integration": "tool", "values": {"ROLE": "member"}}
    repo.hire("grace", member, "chat", first_name=SCRIPT, last_name=RTL, department="R&D")
    repo.hire("alan", "chat", "wiki", "nothing", first_name=LONG, last_name="")
    repo.hire(QUOTED, "chat", email="o'brien@example.com")
    repo.hire("later", {**member, "at": "2099-01-01"})
    repo.write("hires/broken.yaml", "email: [")
    for number in range(60):
        repo.hire(f"p{number:02}", {**member, "at": "2099-01-01"})
