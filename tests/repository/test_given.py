"""Who gave each grant: after edits, renames, merges, squashes, sequences, re-adding; anew, and from what is known."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable, Collection
from datetime import date
from pathlib import Path
from time import monotonic

import pygit2
import pytest
from structlog.testing import capture_logs

from reconciler.model.attribution import Attribution, Source, Unattributed
from reconciler.model.grant import Key
from reconciler.repository.attribution.given import who_gave
from reconciler.repository.desired import Desired
from reconciler.repository.files import Reader
from reconciler.repository.git.checkout import Checkout
from tests.repo import GnupgHome, Repo
from tests.repository.objects import Objects
from tests.repository.signing import PgpSigner, signed
from tests.servers import PATIENCE

IVY, TIM = "Ivy Lead <ivy@example.com>", "Tim Typo <tim@example.com>"
Commit = Callable[..., str]


class Company:
    """A repository whose commits have different authors, and what is known of who gave what."""

    def __init__(self, root: Path) -> None:
        self.repo = Repo(root)
        for name in ("tool", "wiki", "mail"):
            self.repo.manifest(name, {"execute": [{"url": "https://example.com/x"}], "form": []})
        self.known: dict[Key, Attribution] = {}
        self.revision: str | None = None
        self.waiting: dict[str, Unattributed] = {}
        self._checkout = Checkout.open(root)

    def commit(self, author: str, message: str = "change") -> str:
        self.repo.git("add", "--all")
        self.repo.git("commit", "--quiet", "--allow-empty", "--author", author, "--message", message)
        return self.repo.git("rev-parse", "HEAD")

    def merge(self, branch: str, message: str = "merge", *options: str) -> str:
        self.repo.git("merge", "--quiet", "--no-ff", "--message", message, *options, branch)
        return self.repo.git("rev-parse", "HEAD")

    async def given_up_to(self) -> str | None:
        return self.revision

    async def untraced(self, hires: Collection[str]) -> dict[str, Unattributed]:
        return {hire: each for hire, each in self.waiting.items() if hire in hires}

    async def given(self, hires: Collection[str]) -> dict[Key, Attribution]:
        return {key: each for key, each in self.known.items() if key.hire in hires}

    def take_over(self) -> dict[Key, Attribution]:
        """Who gave what, found from the commits since the last call; hire by hire, and the same as all found anew."""
        desired = Desired(Reader().load(self._checkout.head()), date(2026, 12, 1))
        found = self._who_gave(desired)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reconciler.repository.attribution.given.MANY_GRANTS", 1)
            patch.setattr("reconciler.repository.attribution.given.OFTEN", 1)
            assert self._who_gave(desired) == found
        self.revision = None
        whole = self._who_gave(desired)
        self.known = {key: each for key, each in {**self.known, **found}.items() if key in whole}
        self.revision = desired.revision
        assert self.known == whole
        return whole

    def _who_gave(self, desired: Desired) -> dict[Key, Attribution]:
        return asyncio.run(who_gave(self._checkout, desired, self, list(desired.hires)))

    def commit_of(self, hire: str, access: str) -> str:
        return self.take_over()[Key(hire, access)].granted_in


@pytest.fixture
def company(tmp_path: Path) -> Company:
    return Company(tmp_path / "repo")


def test_mended_file_does_not_change_who_gave_a_sequence_to_others(company: Company) -> None:
    company.repo.write("config/sequences/eng.yaml", {"access": ["tool"]})
    company.repo.hire("ada")
    company.repo.hire("bob", sequences=["eng"])
    first = company.commit(TIM)
    company.repo.hire("ada", sequences=["eng"])
    company.repo.write("hires/bob.yaml", "email: [\n")
    named = company.commit(IVY)
    assert company.commit_of("ada", "tool") == named
    company.repo.hire("ada", sequences=["eng"], phone="12")
    company.repo.hire("bob", sequences=["eng"])
    company.commit(TIM)
    found = company.take_over()
    assert [found[Key(hire, "tool")].granted_in for hire in ("ada", "bob")] == [named, first]


def test_commit_that_mended_a_file_gave_what_it_had_not_said_before_it_broke(company: Company) -> None:
    company.repo.write("config/sequences/eng.yaml", {"access": ["tool"]})
    company.repo.hire("ada")
    company.commit(TIM)
    company.take_over()
    company.repo.write("hires/ada.yaml", "email: [\n")
    company.commit(TIM)
    company.take_over()
    company.repo.write("config/sequences/eng.yaml", {"access": [{"integration": "tool", "at": "start"}]})
    company.commit(IVY)
    company.repo.hire("ada", sequences=["eng"], start="2026-12-01")
    mended = company.commit(TIM)
    assert company.commit_of("ada", "tool") == mended


def test_commit_that_changed_other_lines_gave_nothing(company: Company) -> None:
    company.repo.hire("ada", "tool", {"integration": "wiki", "values": {}, "at": "start"}, start="2026-12-01")
    first = company.commit(
        IVY, "Give ada\n\nApproved-by: Grace <grace@example.com>\nReviewed-by: Joe <joe@example.com>"
    )
    assert company.commit_of("ada", "tool") == first
    company.repo.hire("ada", "tool", {"integration": "wiki", "at": "start-3d"}, start="2026-12-01", phone="12")
    second = company.commit(TIM)
    company.repo.hire("ada", "wiki", first_name="Augusta")
    file = company.repo.root / "hires/ada.yaml"
    file.write_text("# a comment\n" + file.read_text().replace("- wiki", "- {integration: wiki, at: start-3d}\n- tool"))
    company.commit(TIM, "Fix a typo")
    given = company.take_over()
    assert given[Key("ada", "tool")].granted_in == first
    assert given[Key("ada", "tool")].author == IVY
    assert given[Key("ada", "tool")].committer == "Ida Admin <ida@example.com>"
    assert given[Key("ada", "tool")].approved_by == ("Grace <grace@example.com>", "Joe <joe@example.com>")
    assert given[Key("ada", "wiki")].granted_in == second
    assert given[Key("ada", "wiki")].approved_by == ()


def test_entry_that_was_added_again_is_given_by_the_commit_that_did(company: Company) -> None:
    company.repo.hire("ada", "tool", "wiki")
    first = company.commit(IVY)
    company.take_over()
    company.repo.hire("ada", "wiki")
    company.commit(TIM)
    company.take_over()
    company.repo.hire("ada", "tool", "wiki")
    again = company.commit(TIM)
    assert (company.commit_of("ada", "tool"), company.commit_of("ada", "wiki")) == (again, first)
    company.repo.remove("hires/ada.yaml")
    company.commit(TIM)
    company.repo.hire("ada", "wiki")
    back = company.commit(IVY)
    assert company.commit_of("ada", "wiki") == back


@pytest.mark.parametrize("moved", ["hires/lovelace.yaml", "hires/eng/ada.yaml"])
def test_renamed_file_keeps_who_gave(company: Company, moved: str) -> None:
    company.repo.hire("ada", "tool")
    company.repo.hire("bob", "tool", "wiki")
    first = company.commit(IVY)
    company.take_over()
    (company.repo.root / moved).parent.mkdir(exist_ok=True)
    company.repo.git("mv", "hires/ada.yaml", moved)
    file = company.repo.root / moved
    file.write_text(file.read_text() + "- wiki\nphone: '1'\n")
    second = company.commit(TIM)
    stem = Path(moved).stem
    assert (company.commit_of(stem, "tool"), company.commit_of(stem, "wiki")) == (first, second)


def test_swapped_files_follow_the_people(company: Company) -> None:
    company.repo.hire("ada", "tool")
    first = company.commit(IVY)
    company.repo.hire("bob", "wiki")
    second = company.commit(TIM)
    company.take_over()
    ada, bob = (company.repo.root / f"hires/{name}.yaml" for name in ("ada", "bob"))
    was, now = ada.read_text(), bob.read_text()
    ada.write_text(now)
    bob.write_text(was)
    company.commit(TIM)
    assert (company.commit_of("bob", "tool"), company.commit_of("ada", "wiki")) == (first, second)


def test_merge_leaves_it_to_the_branch_and_adds_its_approvals(company: Company) -> None:
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.take_over()
    company.repo.git("checkout", "--quiet", "-b", "branch")
    company.repo.hire("bob", "tool")
    theirs = company.commit(TIM, "Give bob\n\nReviewed-by: Joe <joe@example.com>")
    company.repo.git("checkout", "--quiet", "main")
    company.repo.hire("eve", "tool")
    ours = company.commit(IVY)
    company.take_over()
    company.merge("branch", "Merge\n\nApproved-by: Grace <grace@example.com>\nReviewed-by: Joe <joe@example.com>")
    given = company.take_over()
    assert given[Key("bob", "tool")].granted_in == theirs
    assert given[Key("bob", "tool")].author == TIM
    assert given[Key("bob", "tool")].approved_by == ("Joe <joe@example.com>", "Grace <grace@example.com>")
    assert given[Key("eve", "tool")].granted_in == ours
    assert given[Key("eve", "tool")].approved_by == ()


QUOTED = "Give bob\n\n> Approved-by: Eve <eve@example.com>\n\nApproved-by: Eve <eve@example.com>\n\nas Joe wrote"
LAST = "Give bob\n\nNot: a trailer\n\nSigned-off-by: Tim\nApproved-by: Joe\n  <joe@example.com>\nreviewed-by: Grace"
OWN = "Give bob\n\nApproved-by: Timmy <TIM+x@example.com>\nReviewed-by: Ida Admin\nReviewed-by: Joe <joe@example.com>"
PROSE = "Give bob\n\nWe talked, and\nApproved-by: Eve <eve@example.com>\nis what she said."


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (QUOTED, ()),
        (LAST, ("Joe <joe@example.com>", "Grace")),
        (OWN, ("Joe <joe@example.com>",)),
        (PROSE, ()),
        ("Approved-by: Eve <eve@example.com>", ()),
    ],
    ids=["quoted", "last paragraph", "author's and committer's own", "prose", "subject"],
)
def test_only_trailers_of_the_last_paragraph_approve(company: Company, message: str, names: tuple[str, ...]) -> None:
    company.repo.hire("bob", "tool")
    company.commit(TIM, message)
    given = company.take_over()[Key("bob", "tool")]
    assert given.approved_by == names
    assert {approval.source for approval in given.approvals} <= {Source.CLAIMED}


def test_approver_who_signed_the_merge_is_no_mere_claim(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    grace = PgpSigner("Grace")
    try:
        monkeypatch.setenv("GNUPGHOME", grace.home.path)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        company.repo.hire("ada", "tool")
        company.commit(IVY)
        company.repo.git("checkout", "--quiet", "-b", "branch")
        company.repo.hire("bob", "tool")
        company.commit(TIM)
        company.repo.git("checkout", "--quiet", "main")
        says = f"Merge\n\nApproved-by: {GnupgHome.uid}\nReviewed-by: Joe <joe@example.com>"
        signed(company.repo, grace, "", "merge", "--no-ff", "-S", "-m", says, "branch")
        given = company.take_over()[Key("bob", "tool")]
    finally:
        grace.close()
    assert [each.as_json() for each in given.approvals] == [
        {"name": GnupgHome.uid, "source": "signature"},
        {"name": "Joe <joe@example.com>", "source": "claimed"},
    ]


def test_merge_that_brings_an_old_value_back_by_hand_gave_it(company: Company) -> None:
    """Whichever of its parents comes first."""
    entry = {"integration": "tool", "at": "2026-12-01"}
    company.repo.hire("ada", entry)
    company.commit(IVY)
    company.repo.git("branch", "branch")
    company.repo.hire("ada", {**entry, "at": "2026-12-02"})
    company.commit(IVY)
    company.take_over()
    for first, second in (("main", "branch"), ("branch", "main")):
        company.repo.git("checkout", "--quiet", "-B", f"{first}-first", first)
        company.repo.git("merge", "--quiet", "--no-ff", "--no-commit", "--strategy=ours", second)
        company.repo.hire("ada", entry)
        merge = company.commit(TIM, "Merge\n\nApproved-by: Grace <grace@example.com>")
        given = company.take_over()[Key("ada", "tool")]
        assert (given.granted_in, given.author) == (merge, TIM)
        assert given.approved_by == ("Grace <grace@example.com>",)


def test_revert_of_an_own_entry_gave_what_the_sequence_gives_again(company: Company) -> None:
    company.repo.write("config/sequences/team.yaml", {"access": ["tool"]})
    company.repo.hire("ada", sequences=["team"])
    company.commit(IVY)
    company.take_over()
    company.repo.hire("ada", {"integration": "tool", "at": "2026-12-02"}, sequences=["team"])
    own = company.commit(TIM)
    assert company.commit_of("ada", "tool") == own
    company.repo.git("revert", "--no-edit", own)
    assert company.commit_of("ada", "tool") == company.repo.git("rev-parse", "HEAD")


@pytest.mark.parametrize("large", [True, False], ids=["of a large folder", "of a small one"])
def test_commit_that_changes_too_much_has_an_unknown_giver(
    company: Company, monkeypatch: pytest.MonkeyPatch, *, large: bool
) -> None:
    monkeypatch.setattr("reconciler.repository.attribution.provenance.WALKED", 3)
    monkeypatch.setattr("reconciler.repository.attribution.provenance.LARGE", 0 if large else 1000)
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    for number in range(6):
        company.repo.hire(f"h{number}", "tool")
    much = company.commit(IVY)
    company.repo.hire("bob", "tool")
    new = company.commit(TIM)
    with capture_logs() as lines:
        given = company.take_over()
    assert {key.hire: each.granted_in for key, each in given.items()} == {"bob": new}
    assert {line["commit"] for line in lines if line["event"] == "giver.unknown"} == {much}


def test_commit_over_a_folder_that_no_commit_may_have_has_an_unknown_giver(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.repository.attribution.provenance.MOST", 3)
    for number in range(4):
        company.repo.hire(f"h{number}", "tool")
    company.commit(IVY)
    company.repo.hire("bob", "tool")
    new = company.commit(TIM)
    with capture_logs() as lines:
        assert company.take_over() == {}
    assert {line["commit"] for line in lines if line["event"] == "giver.unknown"} == {new}


def test_endless_tree_in_between_delays_nobody(company: Company) -> None:
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.take_over()
    company.repo.hire("bob", "tool")
    objects, git = Objects(company.repo.root), pygit2.Repository(str(company.repo.root))
    company.repo.git("checkout", "--quiet", "-b", "branch")
    tip = company.commit(TIM)
    hires = objects.endless(pygit2.Oid(hex=company.repo.git("rev-parse", "HEAD:hires")).raw)
    who = git.default_signature
    bomb = git.create_commit(None, who, who, "x", pygit2.Oid(raw=objects.root(hires)), [pygit2.Oid(hex=tip)])
    new = git.create_commit(None, who, who, "y", git.head.peel(pygit2.Commit).tree_id, [bomb])
    company.repo.git("update-ref", "refs/heads/branch", str(new))
    began = monotonic()
    given = company.take_over()
    assert monotonic() - began < PATIENCE
    assert Key("bob", "tool") not in given


def test_squashed_branch_is_given_by_the_squash(company: Company) -> None:
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.repo.git("checkout", "--quiet", "-b", "branch")
    company.repo.hire("bob", "tool")
    company.commit(TIM)
    company.repo.git("checkout", "--quiet", "main")
    company.repo.git("merge", "--quiet", "--squash", "branch")
    squash = company.commit(IVY, "Squash\n\nApproved-by: Grace <grace@example.com>")
    given = company.take_over()[Key("bob", "tool")]
    assert (given.granted_in, given.approved_by) == (squash, ("Grace <grace@example.com>",))


def test_merge_that_decides_a_conflict_gave_it(company: Company) -> None:
    entry = {"integration": "tool", "at": "2026-12-01"}
    company.repo.hire("ada", entry)
    company.commit(IVY)
    company.repo.git("checkout", "--quiet", "-b", "branch")
    company.repo.hire("ada", {**entry, "at": "2026-12-02"})
    company.commit(TIM)
    company.repo.git("checkout", "--quiet", "main")
    company.repo.hire("ada", {**entry, "at": "2026-12-03"})
    company.commit(TIM)
    company.take_over()
    company.merge("branch", "merge", "--strategy=ours")
    kept = company.commit_of("ada", "tool")
    assert kept == company.repo.git("rev-parse", "HEAD^1")
    company.repo.hire("ada", {**entry, "at": "2026-12-04"})
    company.repo.git("add", "--all")
    company.repo.git("commit", "--quiet", "--amend", "--no-edit")
    company.revision = None
    assert company.commit_of("ada", "tool") == company.repo.git("rev-parse", "HEAD")


def test_sequence_is_given_by_its_entry_or_by_who_names_it(company: Company) -> None:
    company.repo.hire("ada", sequences=["team"])
    company.repo.write("config/sequences/team.yaml", {"access": ["tool", "wiki"]})
    first = company.commit(IVY)
    company.take_over()
    company.repo.hire("bob", sequences=["team"])
    named = company.commit(TIM)
    given = company.take_over()
    assert given[Key("ada", "tool")].granted_in == first
    assert given[Key("bob", "tool")].granted_in == named
    company.repo.write("config/sequences/team.yaml", {"access": [{"integration": "tool", "keep": True}, "wiki"]})
    changed = company.commit(TIM)
    given = company.take_over()
    assert {given[Key(hire, "tool")].granted_in for hire in ("ada", "bob")} == {changed}
    assert given[Key("ada", "wiki")].granted_in == first
    assert given[Key("bob", "wiki")].granted_in == named


def test_assigned_sequence_is_given_by_the_fields_that_match(company: Company) -> None:
    company.repo.hire("ada", department="R&D")
    company.repo.hire("bob", department="Sales", phone="1")
    company.repo.write("config/sequences/team.yaml", {"assign": {"department": "R&D"}, "access": ["tool"]})
    first = company.commit(IVY)
    company.take_over()
    company.repo.hire("bob", department="R&D", phone="1")
    moved = company.commit(TIM)
    company.repo.hire("bob", department="R&D", phone="2")
    company.commit(IVY)
    given = company.take_over()
    assert (given[Key("ada", "tool")].granted_in, given[Key("bob", "tool")].granted_in) == (first, moved)
    company.repo.write("config/sequences/team.yaml", {"assign": {"department": ["R&D", "Art"]}, "access": ["tool"]})
    widened = company.commit(TIM)
    assert company.commit_of("ada", "tool") == widened


def test_included_sequence_is_given_by_the_line_that_includes_it(company: Company) -> None:
    company.repo.hire("ada", sequences=["team"])
    company.repo.write("config/sequences/team.yaml", {"access": ["tool"]})
    company.repo.write("config/sequences/base.yaml", {"access": ["wiki"]})
    first = company.commit(IVY)
    company.repo.write("config/sequences/team.yaml", {"include": ["base"], "access": ["tool"]})
    included = company.commit(TIM)
    given = company.take_over()
    assert given[Key("ada", "tool")].granted_in == first
    assert given[Key("ada", "wiki")].granted_in == included


def test_entry_that_a_hire_did_without_is_given_by_the_commit_that_ends_it(company: Company) -> None:
    company.repo.hire("ada", sequences=["team"], without=["wiki"])
    company.repo.write("config/sequences/team.yaml", {"access": ["tool", "wiki"]})
    first = company.commit(IVY)
    company.repo.hire("ada", sequences=["team"])
    again = company.commit(TIM)
    given = company.take_over()
    assert (given[Key("ada", "tool")].granted_in, given[Key("ada", "wiki")].granted_in) == (first, again)


def test_broken_version_in_between_gives_nothing(company: Company) -> None:
    company.repo.hire("ada", "tool")
    first = company.commit(IVY)
    whole = (company.repo.root / "hires/ada.yaml").read_text()
    company.repo.write("hires/ada.yaml", whole + "  bad: [\n")
    company.commit(TIM)
    company.take_over()
    company.repo.write("hires/ada.yaml", whole + "- wiki\n")
    mended = company.commit(TIM)
    assert (company.commit_of("ada", "tool"), company.commit_of("ada", "wiki")) == (first, mended)


def test_rewritten_history_is_read_again(company: Company) -> None:
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.take_over()
    company.repo.git("commit", "--quiet", "--amend", "--message", "other")
    company.revision, known = company.revision, company.known
    new = company.repo.git("rev-parse", "HEAD")
    company.repo.hire("ada", "tool", phone="1")
    company.commit(TIM)
    assert known[Key("ada", "tool")].granted_in != new
    assert company.commit_of("ada", "tool") == new


def test_shallow_clone_leaves_unknown_givers_empty(company: Company, tmp_path: Path) -> None:
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.repo.hire("bob", "tool")
    company.commit(IVY)
    company.repo.hire("eve", "tool")
    newest = company.commit(IVY)
    shallow = Repo(tmp_path / "elsewhere").root / "clone"
    company.repo.git("clone", "--quiet", "--depth=2", f"file://{company.repo.root}", str(shallow))
    checkout = Checkout.open(shallow)
    desired = Desired(Reader().load(checkout.head()), date(2026, 12, 1))
    found = asyncio.run(who_gave(checkout, desired, company, ["ada", "bob", "eve"]))
    assert {key.hire: each.granted_in for key, each in found.items()} == {"eve": newest}


def test_what_libgit2_remembers_for_a_walk_ends_with_it(company: Company) -> None:
    """All open repositories share one limit: once it was reached, each look into a folder read it again."""
    company.repo.hire("ada", "tool")
    company.commit(IVY)
    company.commit_of("ada", "tool")
    gc.collect()
    gc.disable()
    try:
        before = pygit2.settings.cached_memory
        company.commit_of("ada", "tool")
        assert pygit2.settings.cached_memory == before
    finally:
        gc.enable()
