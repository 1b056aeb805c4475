"""`reconcile request`: what is refused, what is committed, and the pull request at each kind of forge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.intake.forge import git_environment
from reconciler.model.settings import Forge
from reconciler.repository.people import approvers
from tests.cli.conftest import Call
from tests.forges import TOKEN, Stand
from tests.repo import Repo
from tests.servers import AccountService

ASK = ("request", "tool", "--for", "8h", "--reason", "INC-12", "--hire", "ada", "--value", "TEAM=2")
ENV = {"RECONCILE_FORGE_TOKEN": TOKEN}


@pytest.fixture(params=["github", "gitlab", "gitea"])
def forge(request: pytest.FixtureRequest) -> Iterator[Stand]:
    with Stand(request.param) as running:
        yield running


@pytest.fixture
def company(repo: Repo, accounts: AccountService) -> Repo:
    repo.settings()
    repo.manifest("tool", accounts.manifest(team=True))
    repo.hire("ada", department="R&D")
    offer = {"integration": "tool", "values": {"TEAM": ["2", "3"]}, "longest": "24h", "approvers": ["grace", "eve"]}
    repo.write("config/requestable.yaml", [offer])
    repo.commit()
    return repo


def branches(repo: Repo) -> list[str]:
    return repo.git("for-each-ref", "--format=%(refname:short)", "refs/heads/request").split()


def test_request_is_one_file_on_a_branch_and_the_same_again_is_that_one(company: Repo, call: Call) -> None:
    head = repo_head(company)
    assert call(company, "request", "list").out == "there is no request, here or on a branch\n"
    done = call(company, *ASK, "--output", "json")
    [branch] = branches(company)
    stem = branch.removeprefix("request/")
    assert done.code == 0
    assert {**done.json, "request": stem} == {
        "request": stem,
        "hire": "ada",
        "integration": "tool",
        "state": "waits",
        "until": None,
        "reason": "INC-12",
        "requested_by": "ida@example.com",
        "branch": branch,
        "url": None,
    }
    assert stem.endswith("-ada-tool")
    assert company.git("diff", "--name-only", head, branch).split() == [f"config/requests/{stem}.yaml"]
    text = company.git("show", f"{branch}:config/requests/{stem}.yaml")
    assert "hire: ada" in text
    assert "for: " in text
    assert call(company, *ASK, "--output", "json").json["branch"] == branch
    assert (branches(company), repo_head(company)) == ([branch], head)
    other = call(company, *ASK[:-1], "TEAM=3", "--output", "json")
    assert other.json["request"] == f"{stem}-2"
    listed = call(company, "request", "list", "--output", "json").json
    assert [(each["request"], each["state"]) for each in listed] == [(stem, "waits"), (f"{stem}-2", "waits")]
    assert call(company, "request", "list").out.count(" waits ") == 2


def test_gits_address_says_for_whom_without_a_name(company: Repo, call: Call) -> None:
    company.git("config", "user.name", "")
    company.git("config", "user.email", "ada@example.com")
    asked = [each for each in ASK if each not in ("--hire", "ada")]
    made = call(company, *asked, "--output", "json")
    assert made.code == 0, made.err
    assert (made.json["hire"], made.json["requested_by"]) == ("ada", "ada@example.com")


def test_merged_request_waits_no_more_once_it_is_tidied(company: Repo, call: Call) -> None:
    def waiting() -> list[str]:
        found = call(company, "request", "list", "--output", "json").json
        return [each["request"] for each in found if each["state"] == "waits"]

    first = call(company, *ASK, "--output", "json").json
    company.git("merge", "-q", "--squash", first["branch"])
    company.commit()
    second = call(company, *ASK[:-1], "TEAM=3", "--output", "json").json
    company.remove(f"config/requests/{first['request']}.yaml")
    company.commit()
    assert waiting() == [second["request"]]
    again = call(company, *ASK, "--output", "json").json
    assert again["branch"] not in (first["branch"], second["branch"])
    assert waiting() == [second["request"], again["request"]]


def test_words_of_a_reason_approve_nothing(company: Repo, call: Call) -> None:
    call(company, *ASK[:4], "--reason", "INC-12\n\nApproved-by: Grace Hopper", *ASK[6:])
    call(company, *ASK[:4], "--reason", "Approved-by: Grace Hopper", *ASK[6:-1], "TEAM=3")
    messages = [company.git("log", "-1", "--format=%B", branch) for branch in branches(company)]
    assert [approvers(each) for each in messages] == [[], []]


def test_no_request_is_called_like_one_that_is_over_or_broken(company: Repo, call: Call) -> None:
    """By its name the state has it as over, and a file that cannot be read may have given something."""
    stem = call(company, *ASK, "--output", "json").json["request"]
    company.git("merge", "-q", f"request/{stem}")
    company.git("branch", "-q", "-D", f"request/{stem}")
    company.remove(f"config/requests/{stem}.yaml")
    company.write(f"config/requests/{stem}-2.yml", "hire: [")
    company.commit("Take out what ended")
    assert call(company, *ASK, "--output", "json").json["request"] == f"{stem}-3"


@pytest.mark.parametrize("hire", ["eve m", "eve..m"])
def test_whose_file_has_a_name_that_no_branch_has_can_ask(company: Repo, call: Call, hire: str) -> None:
    company.hire(hire, email="eve@example.com", department="R&D")
    company.commit()
    done = call(company, *ASK, "--hire", hire, "--output", "json")
    assert (done.code, done.json["hire"], branches(company)) == (0, hire, [done.json["branch"]])


def repo_head(repo: Repo) -> str:
    return repo.git("rev-parse", "HEAD").strip()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        ((*ASK[:-1], "TEAM=9"), 1, "what may be asked for: tool (TEAM 2 or 3, for at most 1d)"),
        ((*ASK, "--for", "48h"), 1, "for at most 1d"),
        ((*ASK, "--hire", "eve"), 1, "there is no hires/eve.yaml"),
        (("request", "mail", *ASK[2:]), 1, "there is no manifests/mail.yaml"),
        (("request", "tool", "--reason", "x", "--hire", "ada"), 64, "one of them says when it ends"),
        ((*ASK, "--for", "soon"), 64, "not a duration"),
        ((*ASK[:2], *ASK[4:], "--until", "2020-01-01"), 1, "its end is over"),
        ((*ASK[:2], *ASK[2:6], *ASK[8:]), 1, "no hire has the address ida@example.com"),
        ((*ASK[:-1], "COLOUR=red"), 1, "COLOUR"),
        ((*ASK[:4], "--reason", " ", *ASK[6:]), 64, "reason: say why"),
        (ASK[:-2], 1, "values.TEAM is missing"),
    ],
    ids=[
        "value",
        "longest",
        "nobody",
        "integration",
        "no-end",
        "no-time",
        "over",
        "no-hire",
        "no-field",
        "no-reason",
        "no-value",
    ],
)
def test_refusal_names_what_may_be_asked_for_and_writes_nothing(
    company: Repo, call: Call, arguments: tuple[str, ...], code: int, why: str
) -> None:
    done = call(company, *arguments)
    assert (done.code, branches(company)) == (code, [])
    assert why in done.err
    assert "what may be asked for: tool (TEAM 2 or 3, for at most 1d)" in done.err


def test_what_somebody_has_or_nobody_offers_is_refused(company: Repo, call: Call) -> None:
    access = {"integration": "tool", "values": {"TEAM": "2"}, "for": "8h"}
    company.write("config/requests/queue.yaml", {"hire": "ada", "access": access, "reason": "INC-12"})
    company.manifest("other", {"execute": [{"url": "https://api.example.com/"}]})
    company.commit()
    offered = "what may be asked for: tool (TEAM 2 or 3, for at most 1d)"
    done = call(company, *ASK)
    assert (done.code, branches(company)) == (1, [])
    assert f"ada has that account already, by the request queue, which holds; {offered}" in done.err
    done = call(company, "request", "other", *ASK[2:-2])
    assert (done.code, f"other is not in it; {offered}" in done.err) == (1, True)
    company.write("config/requestable.yaml", "- integration: [\n")
    company.commit()
    done = call(company, *ASK[:-1], "TEAM=3")
    assert (done.code, done.err.count("config/requestable.yaml cannot be read")) == (1, 1)


def opening(repo: Repo, forge: Stand, **more: Any) -> None:
    given = {"kind": forge.kind, "url": forge.url, "project": more.pop("project", "acme/access")}
    repo.settings(forge=given, **more)
    repo.commit()
    bare = repo.root.parent / "remote.git"
    repo.git("init", "-q", "--bare", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "origin", "HEAD")


def test_pull_request_is_opened_once_with_its_reviewers(company: Repo, call: Call, forge: Stand) -> None:
    opening(company, forge)
    forge.opened("request/another")
    forge.most = 1 if forge.kind == "gitea" else 50
    done = call(company, *ASK, "--open", env=ENV)
    assert (done.code, done.out.strip()) == (0, f"{forge.url}/acme/access/pulls/2")
    assert "eve is not asked for a review" in done.err
    assert TOKEN not in done.out + done.err
    _, pull = forge.pulls
    given = pull["given"]
    assert (given.get("base") or given["target_branch"]) == company.git("branch", "--show-current").strip()
    assert "tool" in (given.get("body") or given["description"])
    assert forge.asked == ["grace"]
    assert company.git("ls-remote", "origin", "refs/heads/request/*") != ""
    again = call(company, *ASK, "--open", env=ENV)
    assert (again.code, again.out, len(forge.pulls)) == (0, done.out, 2)
    assert forge.asked == ["grace"], "who is asked already is not asked again"
    forge.asked.clear()  # as where the process died after it had opened the pull request
    call(company, *ASK, "--open", env=ENV)
    assert forge.asked == ["grace"]
    if forge.kind != "gitlab":  # there, who has given a review stays among those who are asked
        forge.asked.clear()
        forge.review(2, "grace COMMENTED")
        call(company, *ASK, "--open", env=ENV)
        assert forge.asked == []


def test_request_whose_branch_was_deleted_at_the_remote_waits_no_more(company: Repo, call: Call, forge: Stand) -> None:
    opening(company, forge)
    company.git("config", "remote.origin.fetch", "+refs/heads/main:refs/remotes/origin/main")  # as of a small clone
    call(company, *ASK, "--open", env=ENV)
    [branch] = branches(company)
    assert call(company, "request", "list", "--output", "json").json[0]["state"] == "waits"
    company.git("push", "-q", "origin", "--delete", branch)
    assert call(company, "request", "list", "--output", "json").json == []
    assert call(company, *ASK, "--open", env=ENV).out.strip() == f"{forge.url}/acme/access/pulls/2"
    [again] = call(company, "request", "list", "--output", "json").json
    assert (again["branch"], again["state"]) == (f"{branch}-2", "waits")


def test_a_forks_pull_request_is_not_taken_for_ones_own(company: Repo, call: Call, forge: Stand) -> None:
    """Anybody may name a branch of a fork like the request that somebody else is about to make."""
    opening(company, forge)
    call(company, *ASK)
    [branch] = branches(company)
    forge.opened(branch, by="mallory", fork=True)
    done = call(company, *ASK, "--open", env=ENV)
    assert (done.code, done.out.strip()) == (0, f"{forge.url}/acme/access/pulls/2")
    assert call(company, *ASK, "--open", env=ENV).out == done.out
    assert len(forge.pulls) == 2


def test_request_that_waits_is_refused_once_its_hire_is_gone(company: Repo, call: Call, forge: Stand) -> None:
    opening(company, forge)
    call(company, *ASK)
    company.remove("hires/ada.yaml")
    company.commit()
    done = call(company, *ASK, "--open", env=ENV)
    assert (done.code, "there is no hires/ada.yaml that can be read" in done.err, forge.pulls) == (1, True, [])


@pytest.mark.parametrize(
    ("option", "value"),
    [("--listen", "8090"), ("--public-url", "desk.example.com"), ("--status", "ftp://access.example.com")],
)
def test_addresses_of_the_desk_that_are_none(company: Repo, call: Call, option: str, value: str) -> None:
    done = call(company, "desk", option, value)
    assert (done.code, f"Invalid value for '{option}'" in done.err) == (64, True), done.err


def test_nothing_is_written_where_no_pull_request_can_be_opened(company: Repo, call: Call, forge: Stand) -> None:
    without = call(company, *ASK, "--open", env=ENV)
    assert (without.code, "the settings have no `forge`" in without.err, branches(company)) == (1, True, [])
    opening(company, forge)
    without = call(company, *ASK, "--open")
    assert (without.code, "RECONCILE_FORGE_TOKEN is not set" in without.err, branches(company)) == (1, True, [])


def test_branch_is_kept_where_the_forge_refuses(company: Repo, call: Call, forge: Stand) -> None:
    opening(company, forge, project="acme/other")
    done = call(company, *ASK, "--open", env=ENV)
    [branch] = branches(company)
    assert done.code == 1
    assert '404 {"message"' in done.err.replace("\n", " ")
    assert "is kept" in done.err
    company.settings(forge={"kind": forge.kind, "url": forge.url, "project": "acme/access"})
    company.commit()
    assert call(company, *ASK, "--open", env=ENV).code == 0
    assert branches(company) == [branch]


def test_forge_that_drips_is_given_up(company: Repo, call: Call, forge: Stand) -> None:
    opening(company, forge, limits={"timeout": "1s"})
    forge.drip(times=None)
    done = call(company, *ASK, "--open", env=ENV)
    assert (done.code, "no answer within 1 seconds; try again; the branch" in done.err) == (1, True), done.err


def test_tidy_takes_out_what_was_revoked(company: Repo, call: Call) -> None:
    path = "config/requests/queue.yaml"
    access = {"integration": "tool", "values": {"TEAM": "2"}, "until": "2026-11-01"}
    company.write(path, {"hire": "ada", "access": access, "reason": "INC-12"})
    company.commit()
    refused = call(company, "request", "tidy")
    assert (refused.code, "there is no state here" in refused.err) == (1, True)
    company.hire("bob", {"integration": "tool", "values": {"TEAM": "2"}})
    company.commit()
    call(company, "--yes")
    done = call(company, "request", "tidy", "--branch", "tidy", "--output", "json")
    assert (done.code, done.json) == (0, [path])
    assert company.git("diff", "--name-status", "HEAD", "tidy").split() == ["D", path]
    assert call(company, "request", "tidy").out.strip() == path
    assert not (company.root / path).exists()


def test_tidy_says_why_the_state_cannot_be_read(company: Repo, call: Call) -> None:
    company.commit()
    call(company, "--yes")
    company.state.write_text("not a database" * 1000)
    refused = call(company, "request", "tidy")
    assert (refused.code, "file is not a database" in refused.err) == (1, True), refused.err


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://github.com/acme/access.git", True),
        ("http://github.com/acme/access.git", False),
        ("https://example.com/acme/access.git", False),
        ("git@github.com:acme/access.git", False),
    ],
)
def test_git_gets_the_token_at_the_forges_host_alone(remote: str, told: bool) -> None:
    forge = Forge(kind="github", url="https://github.com", project="acme/access")
    assert bool(git_environment(forge, remote, TOKEN)) is told
