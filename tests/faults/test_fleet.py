"""A short choice of the trials of a fleet (tests.faults.fleet), and commands beside one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.fleet import Member, one_round, staged, until
from tests.postgres import Databases
from tests.repo import GnupgHome, call_cli, run_cli, running_cli
from tests.repository.signing import PgpSigner, signed
from tests.servers import PATIENCE

SEEN = """
create table reconciler.put (args jsonb);
create function reconciler.seen() returns trigger language plpgsql as
    $$begin insert into reconciler.put values (new.args); return new; end$$;
create trigger seen before insert on reconciler.procrastinate_jobs for each row execute function reconciler.seen();
"""
"""Remembers what was put before all members; what was made is gone."""


@pytest.fixture(scope="module")
def server() -> Iterator[Databases]:
    """A server of this module's own: it goes away."""
    with Databases() as databases:
        yield databases


def test_stopped_member_sends_nothing_more_and_ends_with_1(server: Databases) -> None:
    one_round(server, "leaving", signal.SIGSTOP)


def test_passes_at_once_share_the_work(server: Databases) -> None:
    with staged(server, services=2, people=3) as stage, ExitStack() as ends:
        passes = [ends.enter_context(running_cli(stage.repo, "--output", "json")) for _ in range(2)]
        ended = [running.ends() for running in passes]
        assert [result.code for result in ended] == [0, 0], ended
        stage.judge()
        assert {row["status"] for row in stage.status().json["grants"]} == {"present"}


def test_commands_beside_a_fleet_reach_its_leader(server: Databases) -> None:
    with staged(server, services=1, people=1) as stage, ExitStack() as ends:
        database = stage.url.partition("?")[0].rpartition("/")[2]
        server.execute("insert into reconciler.sealed values ('files/0000000001', '')", database)
        member = Member(stage, "a")
        ends.callback(member.close)
        until(lambda: not stage.missing(), [member])
        until(lambda: [each["name"] for each in stage.status().json["members"]] == ["a"], [member])
        done = run_cli(stage.repo)
        assert (done.code, stage.posts().total()) == (0, 1), done.err
        asked = run_cli(stage.repo, "run", "p0", "s0")
        assert asked.code == 0, asked.err
        assert "is held by a fleet, led by member a, which was asked to run p0/s0" in asked.err
        until(lambda: stage.posts().total() == 2, [member])
        member.close()
        assert stage.status().json["members"] == [], "who left is gone at once"
        files = server.execute("select name from reconciler.sealed where name like 'files/%'", database)
        assert files == [], "whoever leads erases what no attempt names any more"


def test_times_are_over_and_locks_take_effect_in_a_fleet(server: Databases) -> None:
    """Whichever member leads, and also after it died."""
    with staged(server, services=1, people=0) as stage, ExitStack() as ends:
        [tool] = stage.services
        stage.repo.manifest("s0", tool.lockable())
        stage.repo.hire("bob", "s0")
        stage.repo.hire("cid", "s0")
        stage.push()
        first = Member(stage, "a")
        ends.callback(first.close)
        until(lambda: len(tool.people) == 2, [first])
        second = Member(stage, "b")
        ends.callback(second.close)
        until(lambda: len(stage.status().json["members"]) == 2, [first, second])
        stage.repo.hire("ada", {"integration": "s0", "for": "3s"})
        stage.push()
        until(lambda: tool.calls("DELETE", "/users/ada"), [first, second])
        done = run_cli(stage.repo, "lock", "bob", "--reason", "left in anger")
        assert (done.code, tool.people["bob@example.com"]["active"]) == (0, False), done.err
        assert tool.people["cid@example.com"].get("active", True)
        over = stage.status().grant("ada", "s0")
        (gone,) = tool.calls("DELETE")
        assert 0 <= gone.at - datetime.fromisoformat(over["until"]).timestamp() < 5

        stage.repo.hire("dan", {"integration": "s0", "for": "3s"})
        stage.push()
        until(lambda: "dan@example.com" in tool.people, [first, second])
        first.process.kill()
        until(lambda: tool.calls("DELETE", "/users/dan"), [second])
        done = run_cli(stage.repo, "lock", "cid", "--reason", "left in anger")
        assert (done.code, tool.people["cid@example.com"]["active"]) == (0, False), done.err


def test_work_goes_to_the_member_whose_machine_has_the_program(server: Databases, tmp_path: Path) -> None:
    """Where none has it, the grants are blocked, and say why."""
    kept, tool = tmp_path / "people", tmp_path / "crm"
    kept.mkdir()
    lines = (
        "#!/bin/sh",
        f"cd {kept}; who=${{PATH_INFO#/users/}}",
        '[ "$REQUEST_METHOD" != POST ] || touch "$who"',
        "[ -e $who ] || { printf 'Status: 404\\n\\n'; exit; }",
        "printf 'Content-Type: text/plain\\n\\n%s\\n' $who",
    )
    tool.write_text("\n".join(lines))
    tool.chmod(0o755)
    url = "exec:crm/users/{{email}}"
    manifest = {
        "exists": {"url": url, "expected": "{{email}}", "fail_when_4xx_response_code": False},
        "execute": [{"url": url, "method": "POST"}],
    }
    with staged(server, services=1, people=0) as stage, ExitStack() as ends:
        stage.settings(interval="5s")
        stage.repo.manifest("crm", manifest)
        stage.repo.hire("ada", "crm")
        stage.push()
        without = [Member(stage, name) for name in "ab"]
        for member in without:
            ends.callback(member.close)
        until(lambda: [each["status"] for each in stage.status().json["grants"]] == ["blocked"], without)
        assert "exec:crm is no program of this machine" in stage.status().grant("ada", "crm")["reason"]
        having = Member(stage, "c", env={"RECONCILE_PROGRAM": f"crm={tool}"})
        ends.callback(having.close)
        until((kept / "ada@example.com").exists, [*without, having])
        stage.repo.hire("bob", "crm")
        stage.push()
        until((kept / "bob@example.com").exists, [*without, having])
        events = [each["event"] for each in run_cli(stage.repo, "history", "--output", "json", "--hire", "bob").json]
        assert "blocked" not in events


def test_another_member_leads_where_the_leader_dies(server: Databases) -> None:
    with staged(server, services=3, people=1) as stage, ExitStack() as ends:
        first = Member(stage, "a")
        ends.callback(first.close)
        until(lambda: "fleet.leads" in first.log, [first])
        second = Member(stage, "b")
        ends.callback(second.close)
        until(lambda: len(stage.status().json["members"]) == 2, [first, second])
        stage.add(1)
        until(lambda: not stage.missing(), [first, second])  # whoever makes a slice has its revision
        first.process.kill()
        stage.add(1)
        until(lambda: not stage.missing(), [second])
        until(lambda: [each["name"] for each in stage.status().json["members"]] == ["b"], [second])
        stage.judge()


def test_leader_that_cannot_fetch_leaves_the_lead_to_a_member_that_can(server: Databases) -> None:
    """It says so, and does not act on its older commit; where no member can fetch, one leads."""
    with staged(server, services=1, people=0) as stage, ExitStack() as ends:
        [tool] = stage.services
        tool.route("POST", "/hook", {})
        stage.repo.manifest("s0", tool.manifest(revoke=True))
        for stem in ("ada", "bob", "cid", "dan"):
            stage.repo.hire(stem, "s0")
        alerted = {"fail_stale": "5s", "alerts": [{"webhook": f"{tool.url}/hook"}]}
        stage.settings(prune="revoke", **alerted)
        first = Member(stage, "a")
        ends.callback(first.close)
        until(lambda: len(tool.people) == 4, [first])
        second = Member(stage, "b")
        ends.callback(second.close)
        both = [first, second]
        until(lambda: len(stage.status().json["members"]) == 2, both)

        def cut(member: Member, url: str = "gone") -> None:
            subprocess.run(["git", "remote", "set-url", "origin", url], cwd=stage.folder / member.name, check=True)

        cut(first)
        until(lambda: "about=fetch" in first.log, both)
        stage.repo.hire("eve", "s0")
        stage.repo.remove("hires/dan.yaml")
        stage.push()
        until(lambda: "eve@example.com" in tool.people and "dan@example.com" not in tool.people, both)
        assert "fleet.leads_no_more" in first.log
        told = {each["name"]: each["problem"] for each in stage.status().json["members"]}
        assert told["b"] is None
        assert "gone" in told["a"]
        assert f"member a takes over no new commit: {told['a']}" in run_cli(stage.repo, "status").err
        with urllib.request.urlopen(f"{second.url}/", timeout=PATIENCE) as page:
            assert "no new commit: main from origin" in page.read().decode()
        said = lambda: [call.json()["text"] for call in tool.calls("POST", "/hook")]  # noqa: E731
        until(lambda: any("by member a" in each for each in said()), both)

        cut(second)
        until(lambda: second.log.count("about=fetch") == 1, both)
        done = run_cli(stage.repo, "run", "ada", "s0")
        assert "led by member b" in done.err
        until(lambda: stage.posts()[tool.host, "ada@example.com"] == 2, both)
        cut(first, str(stage.origin))
        stage.repo.hire("fay", "s0")
        stage.push()
        until(lambda: "fay@example.com" in tool.people, both)
        assert first.log.count("fleet.leads ") == 2
        assert second.log.count("fleet.leads ") == 1
        assert len(tool.calls("DELETE")) == 1
        assert {count for who, count in stage.posts().items() if who[1] != "ada@example.com"} == {1}


def test_leader_that_lacks_a_signers_key_leaves_the_lead_to_a_member_that_has_it(server: Databases) -> None:
    with staged(server, services=1, people=1) as stage, ExitStack() as ends:
        ida, eve, lacking = PgpSigner("Ida"), PgpSigner("Eve"), GnupgHome()
        for home in (ida, eve, lacking):
            ends.callback(home.close)
        ida.trust(eve)
        lacking._gpg("--import", given=ida.public_key())
        lacking._gpg("--quick-lsign-key", ida.home.fingerprint)
        first_of_all = stage.repo.git("rev-parse", "HEAD").strip()
        rules = {"fetch": "1s", "branch": "main", "verify_signatures": True, "trusted_from": first_of_all}
        stage.repo.settings(state=stage.url, interval="1d", listen="127.0.0.1:0", git=rules)
        signed(stage.repo, ida, "on")
        stage.repo.git("push", "--quiet", "origin", "main")
        status = lambda: call_cli(stage.repo, "status", "--output", "json", env=ida.environment).json  # noqa: E731
        first = Member(stage, "a", env={"GNUPGHOME": lacking.path})
        ends.callback(first.close)
        until(lambda: not stage.missing(), [first])
        second = Member(stage, "b", env=ida.environment)
        ends.callback(second.close)
        until(lambda: len(status()["members"]) == 2, [first, second])
        stage.repo.hire("eve", {"integration": "s0", "values": {"TEAM": "crew"}})
        stage.people.append("eve")
        signed(stage.repo, eve, "a new hire")
        stage.repo.git("push", "--quiet", "origin", "main")
        until(lambda: not stage.missing(), [first, second])
        assert "fleet.leads_no_more" in first.log
        stage.judge()
        assert "is not accepted" in {each["name"]: each["problem"] for each in status()["members"]}["a"]


def test_any_member_takes_hooks_and_the_leader_acts_on_them(server: Databases, gnupg_home: GnupgHome) -> None:
    token = {"HOOK_SECRET": "correct horse"}
    with staged(server, services=1, people=2) as stage, ExitStack() as ends:
        stage.repo.gnupg = gnupg_home
        events = {"token": {"header": "X-Gitlab-Token", "value": "{{HOOK_SECRET}}"}, "account": "email"}
        asked = [{"id": "HOOK_SECRET"}]
        (service,) = stage.services
        stage.repo.manifest("s0", {**service.manifest(team=True), "events": events, "initial_data_form": asked})
        for name in ("reconciler", "s0"):
            stage.repo.initial_data(name, token)
        stage.settings(git={"fetch": "1h", "branch": "main"})
        leader = Member(stage, "a")
        ends.callback(leader.close)
        until(lambda: "fleet.leads" in leader.log, [leader])
        other = Member(stage, "b")
        ends.callback(other.close)
        both = [leader, other]
        until(lambda: not stage.missing() and len(stage.status().json["members"]) == 2, both)
        until(lambda: other.ready()[0] == 200, both)

        def told(name: str, body: bytes = b"{}") -> int:
            headers = {"X-Gitlab-Token": token["HOOK_SECRET"], "Content-Type": "application/json"}
            request = urllib.request.Request(f"{other.url}/hooks/{name}", body, headers)
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return int(answer.status)

        time.sleep(1.5)  # the leader has looked for what other members were told
        stage.add(1)
        assert told("git") == 204
        until(lambda: not stage.missing(), both)  # only the leader has a commit acted on
        del service.people["p0@example.com"]
        assert told("s0", b'{"email": "p0@example.com"}') == 204
        until(lambda: not stage.missing(), both)
        assert stage.posts()[service.host, "p0@example.com"] == 2
        assert [each["hook"] for each in stage.status().json["hooks"]] == ["git", "s0"]


def test_folder_without_commits_is_in_no_fleet(server: Databases) -> None:
    with staged(server, services=1, people=1) as stage:
        shutil.rmtree(stage.repo.root / ".git")
        done = run_cli(stage.repo)
        assert (done.code, stage.posts().total()) == (1, 0)
        assert "is no git checkout, and state postgresql://" in done.err


def test_slice_of_a_commit_names_that_commit(server: Databases) -> None:
    with staged(server, services=1, people=1) as stage, ExitStack() as ends:
        member = Member(stage, "a")
        ends.callback(member.close)
        until(lambda: not stage.missing(), [member])
        database = stage.url.partition("?")[0].rpartition("/")[2]
        server.execute(SEEN, database)
        stage.add(1)
        until(lambda: not stage.missing(), [member])
        put = server.execute("select args ->> 'why', args ->> 'revision' from reconciler.put", database)
        assert put[0] == ("commit", stage.repo.git("rev-parse", "HEAD").strip())


def test_members_survive_and_commands_report_a_database_outage(server: Databases) -> None:
    with staged(server, services=1, people=1) as stage, ExitStack() as ends:
        member = Member(stage, "a")
        ends.callback(member.close)
        until(lambda: not stage.missing(), [member])
        with server.away():
            until(lambda: member.ready()[0] == 503, [member])
            for command in (["status"], [], ["retry"]):
                began = time.monotonic()
                said = run_cli(stage.repo, *command)
                assert (said.code, time.monotonic() - began < 30) == (1, True), said.err
                assert "see that the server runs" in said.err
        until(lambda: member.ready()[0] == 200, [member])
        assert member.process.poll() is None
        stage.judge()
