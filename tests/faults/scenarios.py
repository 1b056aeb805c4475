"""What the program is in the middle of when a fault meets it, and what has to be true in the end.

A `Stage` is one repository with the service, the mail server and the ledger that belong to it, put back to where a
scenario begins as often as it is played.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from reconciler.ledger.ledger import Ledger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import Tokens, Trust, open_vault
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.lock import LockState
from reconciler.model.revision_status import REF
from reconciler.model.status import EventType, Status
from reconciler.secrets.gpg import Gnupg
from tests.faults.injected import FILLER, Action, play
from tests.forked import Nursery
from tests.repo import GnupgHome, Repo, free_port, store_tokens, use_key
from tests.repository.signing import PgpSigner, signed
from tests.servers import AccountService, Received, Reply, ask, eventually

SETTLED = (Phase.CONFIRMED, Phase.EXECUTED, Phase.DONE)
WELCOME = {"type": "email", "to": "{{email}}", "subject": "Welcome", "message": "Your password: {{PASSWORD}}"}
TOOL = {"integration": "tool", "values": {"TEAM": "7"}}


class Tool(AccountService):
    """People and teams; a webhook; tokens that a refresh replaces, and that are refused from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.access_token = "acc3ss-0"
        self.route("POST", "/hook", self._hook)
        self.route("POST", "/token", self._refresh)
        self.refused = 0

    def _hook(self, _received: Received) -> Any:
        return {"ok": True}

    def _refresh(self, _received: Received) -> Any:
        self.access_token = f"acc3ss-{int(self.access_token.rpartition('-')[2]) + 1}"
        return {"access_token": self.access_token, "expires_in": 3600}

    def handle(self, received: Received) -> Reply:
        given = received.headers.get("Authorization")
        if given is not None and given != f"Bearer {self.access_token}":
            self.refused += 1
            return Reply(401, {"error": "that token was replaced"})
        return super().handle(received)

    def state(self) -> Any:
        """What it knows, to be put back with `put_back`."""
        return copy.deepcopy((self.people, self.created, self.teams, self.access_token))

    def put_back(self, state: Any) -> None:
        """Know that again, and nothing of what was asked since."""
        self.people, self.created, self.teams, self.access_token = copy.deepcopy(state)
        self.requests.clear()
        self.refused = 0

    def settle(self) -> None:
        """See the requests that a process left behind to their end: what was sent before it was killed is handled."""
        ask(self.url, "GET", "/")  # whoever connected before this was accepted before this
        until = time.monotonic() + 5
        while self._server._open and time.monotonic() < until:
            time.sleep(0.001)


class Mailbox:
    """Takes mail; each message's address and text."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        text = message_from_bytes(envelope.content).get_payload()
        self.messages.append((envelope.rcpt_tos[0], str(text).strip()))
        return "250 OK"


class Stage:
    """One scenario's repository, and all around it."""

    def __init__(
        self, nursery: Nursery, folder: Path, gnupg: GnupgHome, tool: Tool, mailbox: Mailbox, smtp_port: int
    ) -> None:
        self.nursery = nursery
        self.folder = folder
        self.tool = tool
        self.mailbox = mailbox
        self.smtp_port = smtp_port
        self.repo = Repo(folder / "repo", gnupg)
        self._known: Any = None
        self.before: Counter[str] = Counter()
        """The messages that had gone out where the scenario begins."""

    def settings(self, **more: Any) -> None:
        """The repository's settings: retries at once, one request at a time, and mail to this stage's own server."""
        smtp = {"host": "127.0.0.1", "port": self.smtp_port, "sender": "it@example.com", "starttls": "never"}
        keys: dict[str, Any] = {"retry_delay": "0s", "limits": {"per_host": 1, "concurrency": 1}, "smtp": smtp}
        assert self.repo.gnupg is not None
        self.repo.settings(**keys, gnupg_home=self.repo.gnupg.path, **more)

    def manifest(self, **more: Any) -> dict[str, Any]:
        """An account, then a place in a team, both with a generated password; a message to the person."""
        whole = self.tool.manifest(team=True, revoke=True)
        for request in whole["execute"]:
            request["data"]["password"] = "{{PASSWORD}}"
        whole["execute"][0]["store_data"] = {"USER_ID": "id"}
        whole["initial_data_form"] = [{"id": "PASSWORD", "name": "generate"}]
        return {**whole, "post_execute_notification": [WELCOME], **more}

    def act(self, action: Action = Action.PASS, times: int = 1, **fault: Any) -> tuple[int, str]:
        """Let a child do something: its exit code, and all that it wrote."""
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            # A pipe: what is written there is no file that could be kept from growing.
            with _pipe(log) as read:
                child = self.nursery.call(self.repo, play, log, action=action, times=times, **fault)
                code = child.wait()
                self.tool.settle()
                return code, read()

    def settled(self) -> None:
        """One pass that goes well."""
        code, log = self.act()
        assert code == 0, log

    def enqueue(self, kind: str, access: str = "tool") -> None:
        """Enqueue a command about ada for the next pass."""
        with closing(StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).writer()) as ledger:
            use_key(ledger, self.repo)
            hire = next(key.hire for key in (record.key for record in ledger.grants.records()) if key.access == access)
            ledger.commands.enqueue(kind, now=datetime.now(UTC), by="ida@here", hire=hire, access=access)

    def lock(self, hire: str) -> None:
        """Enqueue a lock for the next pass."""
        with closing(StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).writer()) as ledger:
            use_key(ledger, self.repo)
            ledger.commands.enqueue("lock", now=datetime.now(UTC), by="ida@here", hire=hire, data={"reason": "left"})

    def remember(self) -> None:
        """Here the scenario begins."""
        self._known = self.tool.state()
        shutil.copytree(self.repo.root, self.folder / "template", symlinks=True)
        self.before = Counter(address for address, _ in self.mailbox.messages)

    def put_back(self) -> None:
        """Back to where the scenario begins."""
        (self.folder / FILLER).unlink(missing_ok=True)
        shutil.rmtree(self.repo.root)
        shutil.copytree(self.folder / "template", self.repo.root, symlinks=True)
        self.tool.put_back(self._known)
        self.mailbox.messages.clear()

    # What is looked at

    @contextmanager
    def ledger(self) -> Iterator[LedgerReader]:
        """The ledger as it is, read and not changed."""
        with StateLocation(f"sqlite:///{self.repo.state}", self.repo.root).reader() as ledger:
            yield ledger

    def records(self) -> dict[Key, Record]:
        with self.ledger() as ledger:
            return {record.key: record for record in ledger.grants.records()}

    def status(self, hire: str, access: str = "tool") -> Status:
        return self.records()[Key(hire, access)].status

    def events(self, hire: str) -> Counter[EventType]:
        with self.ledger() as ledger:
            return Counter(line.event for line in ledger.history.lines(hires=[hire]))

    def changes(self) -> Counter[tuple[str, str]]:
        """How often each change was asked for: whose, and where."""
        posts = [call for call in self.tool.calls() if call.method in ("POST", "DELETE") and call.path != "/token"]
        return Counter((_whose(call), call.path.split("/")[1]) for call in posts)


@contextmanager
def _pipe(path: Path) -> Iterator[Callable[[], str]]:
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def read() -> str:
        found = b""
        while True:
            try:
                found += os.read(end, 1 << 16)
            except BlockingIOError:
                return found.decode()

    try:
        yield read
    finally:
        os.close(end)


def _whose(call: Received) -> str:
    if call.method == "DELETE":
        return call.path.rpartition("/")[2].partition("@")[0]
    return str(json.loads(call.body)["email"]).partition("@")[0]


@dataclass(frozen=True)
class Scenario:
    """`prepare` leads to where it begins, `holds` says what has to be true in the end.

    In most, what had succeeded when the fault came must not run again; `repeats` where that is what it is about.
    """

    prepare: Callable[[Stage], None]
    holds: Callable[[Stage], None]
    action: Action = Action.PASS
    repeats: bool = False


@contextmanager
def stage(nursery: Nursery, folder: Path, gnupg: GnupgHome, scenario: Scenario) -> Iterator[Stage]:
    """The stage of a scenario, where it begins."""
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        with Tool() as tool:
            made = Stage(nursery, folder, gnupg, tool, mailbox, port)
            made.settings()
            made.repo.manifest("tool", made.manifest())
            made.repo.write("hires/.gitkeep", "")
            scenario.prepare(made)
            made.remember()
            made.put_back()
            yield made
    finally:
        controller.stop()


# Once ada is there


def _complete(stage: Stage, hire: str = "ada", times: int = 1) -> None:
    """A person has everything once, made with one password, which is the one that was told; it was told once at most,
    and what became of telling it is in the history."""
    address = f"{hire}@example.com"
    assert stage.status(hire) is Status.PRESENT
    assert stage.tool.created[address] == times, "made twice"
    assert set(stage.tool.teams["7"]) >= {address}, "left half done"
    person = stage.tool.people[address]
    for call in stage.tool.calls("POST", "/teams"):
        if call.json()["email"] == address and times == 1:
            assert call.json()["password"] == person["password"], "the run went on with another password"
    _told_once(stage, hire, person["password"])


def _told_once(stage: Stage, hire: str, password: str) -> None:
    texts = [text for to, text in stage.mailbox.messages if to == f"{hire}@example.com"]
    assert len(texts) <= 1, "told twice"
    assert texts in ([], [f"Your password: {password}"])
    events = stage.events(hire)
    told, failed = events[EventType.NOTIFIED], events[EventType.NOTIFICATION_FAILED]
    runs = 1 + stage.before[f"{hire}@example.com"]
    assert told + failed == runs, f"of {runs} notifications {told} were told of as sent and {failed} as in doubt"
    assert len(texts) + stage.before[f"{hire}@example.com"] >= told, "told of as sent, and it was not"


def _hire_ada(stage: Stage) -> None:
    stage.repo.hire("ada", TOOL)
    stage.repo.commit()


def _provisioned(stage: Stage) -> None:
    """Ada is new in a state that there is already."""
    stage.repo.commit()
    stage.settled()
    _hire_ada(stage)


def _first_start(stage: Stage) -> None:
    """Nothing is there yet, not even a state, and there is somebody to wrap its key to."""
    stage.repo.initial_data("tool", {"SPARE": "for a field that nobody asks for"})
    _hire_ada(stage)


def _complete_when_asked(stage: Stage) -> None:
    """As above; a second attempt that was cut off was the last, until somebody asks for another."""
    if stage.status("ada") is Status.FAILED:
        assert stage.events("ada")[EventType.ATTEMPT_INTERRUPTED] == 1
        stage.enqueue("retry")
        stage.act()
    _complete(stage)


def _continued(stage: Stage) -> None:
    """The account was made, the team failed: the second attempt goes on."""
    _hire_ada(stage)
    stage.tool.fail_next(1, 500, method="POST", prefix="/teams")
    stage.act()
    assert stage.status("ada") is Status.RETRYING


def _answer_lost(stage: Stage) -> None:
    """The account was made and its answer never came: the check finds it, and only the message is left to send."""
    whole = stage.manifest()
    del whole["form"], whole["execute"][1:]
    stage.repo.manifest("tool", whole)
    stage.repo.hire("ada", "tool")
    stage.repo.commit()
    stage.tool.drop_after_commit(1, method="POST")
    stage.act()
    assert stage.status("ada") is Status.RETRYING


def _made_once_and_told(stage: Stage) -> None:
    if stage.status("ada") is Status.FAILED:  # the second attempt was cut off, and was the last
        assert stage.events("ada")[EventType.ATTEMPT_INTERRUPTED] == 1
        stage.enqueue("retry")
        stage.act()
    assert stage.status("ada") is Status.PRESENT
    assert stage.tool.created == {"ada@example.com": 1}
    _told_once(stage, "ada", stage.tool.people["ada@example.com"]["password"])


def _given_up(stage: Stage) -> None:
    """The team fails for ever, and somebody is to be told of it."""
    stage.settings(alerts=[{"email": "it@example.com"}])
    _hire_ada(stage)
    stage.tool.route("POST", "/teams/{team}/members", lambda _received, **_: 500)


def _failed_for_good(stage: Stage) -> None:
    assert stage.status("ada") is Status.FAILED
    assert stage.tool.created == {"ada@example.com": 1}
    assert stage.changes()["ada", "teams"] <= 2, "two attempts, no more"
    assert len([to for to, _ in stage.mailbox.messages if to == "it@example.com"]) <= 2


def _revoked(stage: Stage) -> None:
    """Ada's entry was taken out of git, and revocations are on."""
    _hire_ada(stage)
    stage.settled()
    stage.settings(prune="revoke")
    stage.repo.hire("ada")
    stage.repo.commit()


def _gone(stage: Stage) -> None:
    assert stage.status("ada") is Status.REVOKED
    assert stage.tool.people == {}
    assert stage.changes() == {("ada", "users"): 1}, "taken away once"


def _over(stage: Stage) -> None:
    """Ada had it for a second, which is over."""
    stage.repo.hire("ada", {**TOOL, "for": "1s"})
    stage.repo.commit()
    stage.settled()
    over_at = stage.records()[Key("ada", "tool")].ends_at
    eventually(lambda: over_at is not None and datetime.now(UTC) >= over_at)


def _gone_in_time(stage: Stage) -> None:
    _gone(stage)
    assert stage.events("ada")[EventType.EXPIRED] == 1, "said once that its time is over"
    assert stage.records()[Key("ada", "tool")].expire_at is None, "no pass is due for it"


def _asked_to_revoke(stage: Stage) -> None:
    """Ada's entry was taken out of git, and somebody asks for it to be revoked."""
    _hire_ada(stage)
    stage.settled()
    stage.repo.hire("ada")
    stage.repo.commit()
    stage.settled()
    stage.enqueue("revoke")


def _gone_as_asked(stage: Stage) -> None:
    _gone(stage)
    with stage.ledger() as ledger:
        assert ledger.commands.waiting() == []


def _to_be_locked(stage: Stage) -> None:
    """Somebody asks for ada to be locked out, whose account can be switched off."""
    whole = stage.manifest()
    whole["exists"]["inactive"] = {"active": False}
    url = f"{stage.tool.url}/users/{{{{email}}}}"
    whole["lock"] = [{"url": url, "method": "PATCH", "data": {"active": False}}]
    stage.repo.manifest("tool", whole)
    _hire_ada(stage)
    stage.settled()
    stage.lock("ada")


def _locked(stage: Stage) -> None:
    record = stage.records()[Key("ada", "tool")]
    assert (record.status, record.locked) == (Status.SUSPENDED, LockState.DONE)
    assert stage.tool.people["ada@example.com"]["active"] is False
    with stage.ledger() as ledger:
        assert ([lock.hire for lock in ledger.locks.all()], ledger.commands.waiting()) == (["ada"], [])


def _healed(stage: Stage) -> None:
    """Ada's account is lost."""
    _hire_ada(stage)
    stage.settled()
    stage.tool.people.clear()


def _there_again(stage: Stage) -> None:
    _complete(stage, times=2)
    assert stage.events("ada")[EventType.HEALED] == 1


def _renamed(stage: Stage) -> None:
    """Ada's file has another name, in the middle of a run that is to go on, with a message of bob's waiting."""
    _continued(stage)
    stage.repo.remove("hires/ada.yaml")
    stage.repo.hire("lovelace", TOOL, email="ada@example.com", first_name="Ada")
    stage.repo.commit()


def _under_the_new_name(stage: Stage) -> None:
    assert set(stage.records()) == {Key("lovelace", "tool")}
    if stage.status("lovelace") is Status.FAILED:
        stage.enqueue("retry")
        stage.act()
    assert stage.status("lovelace") is Status.PRESENT
    assert stage.tool.created == {"ada@example.com": 1}
    person = stage.tool.people["ada@example.com"]
    (join,) = {call.json()["password"] for call in stage.tool.calls("POST", "/teams")}
    assert join == person["password"], "the run went on with another password"
    with stage.ledger() as ledger:
        assert [name for name in ledger.sealed.names() if "ada" in name] == []


def _dropped(stage: Stage) -> None:
    """Ada is waited for, and then is not wanted any more."""
    stage.repo.hire("ada", {**TOOL, "at": "2999-01-01"})
    stage.repo.hire("bob")
    stage.repo.commit()
    stage.settled()
    stage.repo.remove("hires/ada.yaml")
    stage.repo.commit()


def _nobody(stage: Stage) -> None:
    assert stage.records() == {}
    assert stage.changes() == {}
    assert stage.events("ada") == {EventType.DROPPED: 1}


def _refreshed(stage: Stage) -> None:
    """The token has run out: it is replaced, and the service refuses the old one."""
    tool = stage.tool
    whole = stage.manifest()
    whole["headers"]["Authorization"] = "Bearer {{oauth.access_token}}"
    data = {"grant_type": "refresh_token", "refresh_token": "{{oauth.refresh_token}}"}
    whole["oauth"] = {
        "authenticate_url": f"{tool.url}/authorize",
        "access_token": {"url": f"{tool.url}/token"},
        "refresh": {"url": f"{tool.url}/token", "data": data},
    }
    stage.repo.manifest("tool", whole)
    _hire_ada(stage)
    with closing(StateLocation(f"sqlite:///{stage.repo.state}", stage.repo.root).writer()) as ledger:
        assert stage.repo.gnupg is not None
        vault = open_vault(ledger, Gnupg(stage.repo.gnupg.path), Trust())
        reply = {"access_token": "acc3ss-0", "refresh_token": "refr3sh-0", "expires_in": 1}
        stored = {"reply": reply, "expires_in": 1, "obtained_at": "2020-01-01T00:00:00+00:00"}
        store_tokens(ledger, vault, "tool", stored)


def _with_the_stored_token(stage: Stage) -> None:
    _complete(stage)
    with closing(StateLocation(f"sqlite:///{stage.repo.state}", stage.repo.root).writer()) as ledger:
        assert stage.repo.gnupg is not None
        vault = open_vault(ledger, Gnupg(stage.repo.gnupg.path), Trust())
        kept = Tokens(vault, "tool", Ledger(ledger)).read(ledger)
        assert kept is not None
        assert kept["reply"]["access_token"] == stage.tool.access_token, "what is stored is the newest"
    assert stage.tool.refused == 0, "a token was used that had been replaced"


CREW = [f"h{number}" for number in range(8)]


def _lost_by_many(stage: Stage) -> None:
    """The accounts of so many people are gone that it is taken for a mistake."""
    for name in CREW:
        stage.repo.hire(name, TOOL)
    stage.repo.commit()
    stage.settled()
    stage.tool.people.clear()


def _held_back(stage: Stage) -> None:
    assert {stage.status(name) for name in CREW} == {Status.SUSPENDED}
    assert stage.changes() == {}
    with stage.ledger() as ledger:
        assert [line.event for line in ledger.history.lines()].count(EventType.HELD) == 1


def _to_be_updated(stage: Stage) -> None:
    """Ada is a member, and git wants her to be an owner."""
    whole = stage.manifest()
    whole["form"].append({"id": "ROLE", "name": "Role", "type": "input"})
    whole["exists"]["where"] = {"role": "{{ROLE}}"}
    whole["execute"][0]["data"]["role"] = "{{ROLE}}"
    change = {"url": f"{stage.tool.url}/users/{{{{email}}}}", "method": "PATCH", "data": {"role": "{{ROLE}}"}}
    stage.repo.manifest("tool", {**whole, "update": [change]})
    for role in ("member", "owner"):
        stage.repo.hire("ada", {"integration": "tool", "values": {"TEAM": "7", "ROLE": role}})
        stage.repo.commit()
        if role == "member":
            stage.settled()


def _updated(stage: Stage) -> None:
    if stage.status("ada") is Status.FAILED:
        stage.enqueue("retry")
        stage.act()
    assert stage.status("ada") is Status.PRESENT
    assert stage.tool.people["ada@example.com"]["role"] == "owner"
    assert stage.changes() == {}, "nothing is made again"
    events = stage.events("ada")
    sent = len(stage.tool.calls("PATCH"))
    assert 1 <= sent <= 1 + events[EventType.ATTEMPT_INTERRUPTED]
    assert stage.mailbox.messages == [], "an update tells nobody"


def _about_another_team(stage: Stage) -> None:
    """What ada's entry is about changes, in the middle of a run of what it was about before."""
    whole = stage.manifest()
    whole["form"][0]["identity"] = True
    whole["exists"]["url"] += "?team={{TEAM}}"
    stage.repo.manifest("tool", whole)
    _continued(stage)
    stage.repo.hire("ada", {"integration": "tool", "values": {"TEAM": "8"}})
    stage.repo.commit()


def _told_apart(stage: Stage) -> None:
    records = stage.records()
    assert set(records) == {Key("ada", "tool"), Key("ada", "tool~7")}
    assert (records[Key("ada", "tool")].values["TEAM"], records[Key("ada", "tool~7")].values["TEAM"]) == ("8", "7")
    assert stage.status("ada") is Status.PRESENT
    assert stage.status("ada", "tool~7") is Status.ORPHANED
    assert stage.tool.created == {"ada@example.com": 1}
    with stage.ledger() as ledger:
        assert "run/ada/tool" not in ledger.sealed.names(), "what the old run remembers goes with it"


HOOK: dict[str, Any] = {"integration": "hook"}


def _hooked(stage: Stage) -> None:
    """A webhook, for which there is no check."""
    data = {"email": "{{email}}"}
    stage.repo.manifest("hook", {"execute": [{"url": f"{stage.tool.url}/hook", "data": data}]})
    stage.repo.hire("ada", HOOK)
    stage.repo.commit()


def _ran(stage: Stage) -> None:
    assert stage.status("ada", "hook") is Status.DONE
    events = stage.events("ada")
    assert events[EventType.EXECUTED] == 1
    # One that was cut off before its answer was written down is in doubt, and there is nothing to ask.
    assert stage.changes()["ada", "hook"] == 1 + events[EventType.ATTEMPT_INTERRUPTED] - _never_left(stage)


def _never_left(stage: Stage) -> int:
    """The attempts whose request did not reach the service."""
    with stage.ledger() as ledger:
        return len(ledger.attempts.of(Key("ada", "hook"))) - stage.changes()["ada", "hook"]


def _asked_to_run(stage: Stage) -> None:
    """A webhook that ran, and is to run again because somebody says so."""
    _hooked(stage)
    stage.settled()
    stage.enqueue("run", "hook")


def _ran_again(stage: Stage) -> None:
    assert stage.status("ada", "hook") is Status.DONE
    events = stage.events("ada")
    assert events[EventType.RUN_REQUESTED] == 1, "the word is lost, or was heard twice"
    assert events[EventType.EXECUTED] == 2, "once before, and once as asked"
    with stage.ledger() as ledger:
        assert ledger.commands.waiting() == []


def _asked_to_retry(stage: Stage) -> None:
    """Given up, and somebody asks for it to be started afresh."""
    _hire_ada(stage)
    stage.tool.fail_next(2, 500, method="POST", prefix="/teams")
    for _ in range(2):
        stage.act()
    assert stage.status("ada") is Status.FAILED
    stage.enqueue("retry")


def _tried_again(stage: Stage) -> None:
    asked = stage.events("ada")[EventType.RETRY_REQUESTED]
    _complete_when_asked(stage)
    assert asked == 1


def _fetched(stage: Stage) -> None:
    """Ada's commit, which is signed as all have to be, waits at the remote."""
    repo = stage.repo
    assert repo.gnupg is not None
    ida = PgpSigner("Ida", repo.gnupg)
    first = repo.commit()
    stage.settings(git={"verify_signatures": True, "trusted_from": first})
    signed(repo, ida)
    repo.git("clone", "--quiet", "--bare", ".", str(stage.folder / "origin"))
    repo.git("remote", "add", "origin", str(stage.folder / "origin"))
    stage.settled()
    repo.hire("ada", TOOL)
    signed(repo, ida)
    repo.git("push", "--quiet", "origin", "main")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")


def _taken_over(stage: Stage) -> None:
    _complete(stage)
    newest = stage.repo.git("--git-dir", str(stage.folder / "origin"), "rev-parse", "main")
    assert stage.repo.git("rev-parse", "HEAD", REF).split() == [newest, newest]
    assert stage.repo.git("status", "--porcelain") == ""


def _command_due(stage: Stage) -> None:
    """A webhook that ran."""
    _hooked(stage)
    stage.act()


def _heard(stage: Stage) -> None:
    """The word was left once, however often that was tried; the pass after it acted on it, once."""
    assert stage.events("ada")[EventType.RUN_REQUESTED] == 1
    assert stage.changes() == {("ada", "hook"): 1}


def _forgotten(stage: Stage) -> None:
    """Ada was there and is nowhere any more."""
    _revoked(stage)
    stage.settled()
    stage.repo.remove("hires/ada.yaml")
    stage.repo.commit()


def _not_known(stage: Stage) -> None:
    assert stage.records() == {}
    assert stage.events("ada") == {}
    with stage.ledger() as ledger:
        assert not any("ada" in name for name in ledger.sealed.names())


SCENARIOS = {
    "first start": Scenario(_first_start, _complete),
    "provisioned": Scenario(_provisioned, _complete),
    "continued": Scenario(_continued, _complete_when_asked),
    "answer lost": Scenario(_answer_lost, _made_once_and_told),
    "given up": Scenario(_given_up, _failed_for_good),
    "revoked": Scenario(_revoked, _gone, repeats=True),
    "over": Scenario(_over, _gone_in_time, repeats=True),
    "locked": Scenario(_to_be_locked, _locked, repeats=True),
    "healed": Scenario(_healed, _there_again, repeats=True),
    "updated": Scenario(_to_be_updated, _updated, repeats=True),
    "told apart": Scenario(_about_another_team, _told_apart),
    "lost by many": Scenario(_lost_by_many, _held_back),
    "renamed": Scenario(_renamed, _under_the_new_name),
    "dropped": Scenario(_dropped, _nobody),
    "token refreshed": Scenario(_refreshed, _with_the_stored_token),
    "webhook": Scenario(_hooked, _ran),
    "asked to run": Scenario(_asked_to_run, _ran_again, repeats=True),
    "asked to retry": Scenario(_asked_to_retry, _tried_again),
    "asked to revoke": Scenario(_asked_to_revoke, _gone_as_asked, repeats=True),
    "fetched": Scenario(_fetched, _taken_over, Action.FETCH),
    "command enqueued": Scenario(_command_due, _heard, Action.ENQUEUE, repeats=True),
    "forgotten": Scenario(_forgotten, _not_known, Action.FORGET),
}
