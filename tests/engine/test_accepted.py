"""Which revision is in force where commits have to be signed, and that no unsigned one has a say in it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.engine.context import Context
from reconciler.engine.run.accepted import InForce, in_force, keep, refused
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.model.errors import RepositoryError, SettingsError
from reconciler.model.revision_status import REF
from reconciler.model.secret import Redactor
from tests.engine.harness import Hands
from tests.repo import Repo
from tests.repository.signing import PgpSigner, signed, unsigned


@pytest.fixture(scope="module")
def ida() -> Iterator[PgpSigner]:
    made = PgpSigner("Ida")
    yield made
    made.close()


@pytest.fixture
def repo(tmp_path: Path, ida: PgpSigner, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """One commit that nobody signed, and one that is signed and turns the verification on, from the first on."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    made = Repo(tmp_path / "repo", ida.home)
    made.write(".gitignore", ".reconciler/\n")
    made.hire("ada")
    made.write("manifests/.gitkeep", "")
    first = made.commit("first")
    verify(made, ida, trusted_from=first)
    signed(made, ida, "on")
    return made


def verify(repo: Repo, ida: PgpSigner, *, on: bool = True, trusted_from: str | None = None, **keys: Any) -> None:
    git = {"verify_signatures": on, "trusted_from": trusted_from}
    repo.settings(git=git, gnupg_home=ida.home.path, **keys)


def look(repo: Repo) -> InForce:
    return in_force(Context(repo.root, Hands(), Redactor()))


def take(repo: Repo) -> InForce:
    """As a pass does: look, and remember."""
    context = Context(repo.root, Hands(), Redactor())
    found = in_force(context)
    ledger = StateLocation(found.settings.state, repo.root).writer()
    try:
        asyncio.run(keep(OpenLedger(ledger), found))
        assert refused(ledger) == found.refused
    finally:
        ledger.close()
    return found


def head(repo: Repo) -> str:
    return repo.git("rev-parse", "HEAD")


def test_the_first_run_trusts_from_the_pinned_commit(repo: Repo) -> None:
    found = take(repo)
    assert found.tree.revision == head(repo)
    assert found.refused is None
    assert repo.git("rev-parse", REF) == head(repo)


TORN = {
    "empty": b"",
    "half an id": b"0123456789abcdef\n",
    "zeros": bytes(41),
    "no commit": b"f" * 40 + b"\n",
    "not text": b"\xff\xfe\x00ref\n",
}


@pytest.mark.parametrize("content", TORN.values(), ids=TORN)
def test_a_ref_that_a_power_cut_left_torn_gives_way_to_the_note(repo: Repo, content: bytes) -> None:
    accepted = take(repo).tree.revision
    unsigned(repo)
    (repo.root / ".git" / REF).write_bytes(content)
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert repo.git("rev-parse", REF) == accepted, "it is mended"


def test_looking_changes_nothing(repo: Repo) -> None:
    assert look(repo).tree.revision == head(repo)
    assert not repo.state.exists()
    assert REF not in repo.git("for-each-ref")


def test_signed_commit_is_acted_on(repo: Repo, ida: PgpSigner) -> None:
    take(repo)
    repo.hire("bob")
    new = signed(repo, ida)
    assert take(repo).tree.revision == new
    assert repo.git("rev-parse", REF) == new


def test_an_unsigned_commit_leaves_the_last_accepted_one_in_force(repo: Repo, ida: PgpSigner) -> None:
    accepted = take(repo).tree.revision
    repo.hire("eve")
    repo.git("add", "--all")
    bad = unsigned(repo)
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert (found.refused.head, found.refused.commit) == (bad, bad)
    later = signed(repo, ida, "on top of it")
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert (found.refused.head, found.refused.commit) == (later, bad)


def test_a_person_at_the_machine_can_vouch_for_it(repo: Repo, ida: PgpSigner) -> None:
    take(repo)
    bad = unsigned(repo)
    assert take(repo).refused is not None
    repo.git("update-ref", REF, bad)
    new = signed(repo, ida)
    found = take(repo)
    assert (found.tree.revision, found.refused) == (new, None)


def test_the_first_run_without_anything_to_fall_back_on(repo: Repo) -> None:
    unsigned(repo)
    with pytest.raises(
        RepositoryError, match=r"Eve <eve@example.com> is not accepted: it is not signed. All commits sin"
    ):
        look(repo)


def test_the_first_run_that_pins_nothing_wants_the_whole_history_signed(repo: Repo, ida: PgpSigner) -> None:
    verify(repo, ida)
    signed(repo, ida)
    with pytest.raises(RepositoryError, match="of the whole history, for want of"):
        look(repo)


# What an unsigned commit tries


def switches_it_off(repo: Repo, ida: PgpSigner) -> None:
    verify(repo, ida, on=False)


def pins_itself(repo: Repo, ida: PgpSigner) -> None:
    repo.write("hires/eve.yaml", "x: 1")
    repo.git("add", "--all")
    verify(repo, ida, trusted_from=unsigned(repo))


def names_another_state(repo: Repo, ida: PgpSigner) -> None:
    repo.settings(state=f"sqlite:///{repo.root}/.reconciler/other.db", git={"verify_signatures": False})


def names_another_home(repo: Repo, ida: PgpSigner) -> None:
    repo.settings(git={"verify_signatures": True}, gnupg_home="keys")


def breaks_the_settings(repo: Repo, ida: PgpSigner) -> None:
    repo.write("config/reconciler.yaml", "git: {verify_signatures: perhaps}\n")


def drops_the_settings(repo: Repo, ida: PgpSigner) -> None:
    repo.remove("config/reconciler.yaml")


def plants_a_state(repo: Repo) -> None:
    repo.state.write_bytes(b"")
    repo.git("add", "--force", str(repo.state))


def plants_a_log_beside_it(repo: Repo) -> None:
    log = repo.state.with_name(repo.state.name + "-wal")
    log.write_bytes(b"x")
    repo.git("add", "--force", str(log))


def plants_a_link(repo: Repo) -> None:
    shutil.rmtree(repo.state.parent)
    repo.write("elsewhere/state.db", "")
    repo.state.parent.symlink_to("elsewhere")
    repo.git("add", "--force", ".reconciler")


TRIES = [
    switches_it_off,
    pins_itself,
    names_another_state,
    names_another_home,
    breaks_the_settings,
    drops_the_settings,
]


@pytest.mark.parametrize("attack", TRIES, ids=lambda attack: attack.__name__)
def test_an_unsigned_commit_has_no_say(repo: Repo, ida: PgpSigner, attack: Callable[[Repo, PgpSigner], None]) -> None:
    before = take(repo)
    attack(repo, ida)
    repo.git("add", "--all")
    unsigned(repo)
    found = look(repo)
    assert (found.tree.revision, found.settings) == (before.tree.revision, before.settings)
    assert found.refused is not None


def plants_a_cache(repo: Repo) -> None:
    repo.write(".reconciler/hires.cache", "x")
    repo.git("add", "--force", ".reconciler/hires.cache")


def plants_a_key(repo: Repo) -> None:
    repo.write(".reconciler/deep/in/it", "x")
    repo.git("add", "--force", ".reconciler/deep/in/it")


@pytest.mark.parametrize("signed_only", [True, False], ids=["signed", "unsigned"])
def test_commit_with_a_file_where_the_state_is_kept_is_refused(
    repo: Repo, ida: PgpSigner, *, signed_only: bool
) -> None:
    """Whether commits have to be signed or not; what only keeps the folder there may stand in it."""
    verify(repo, ida, on=signed_only)
    (repo.root / ".reconciler").mkdir(mode=0o700)
    repo.write(".reconciler/.gitignore", "*\n")
    repo.git("add", "--force", ".reconciler/.gitignore")
    repo.git("update-ref", REF, signed(repo, ida))
    take(repo)
    plants_a_cache(repo)
    signed(repo, ida)
    with pytest.raises(RepositoryError, match=r"has .reconciler/hires.cache in it, where the state is kept"):
        look(repo)


@pytest.mark.parametrize(
    "plant",
    [plants_a_state, plants_a_log_beside_it, plants_a_link, plants_a_cache, plants_a_key],
    ids=lambda plant: plant.__name__,
)
def test_a_commit_that_puts_a_state_in_place_is_refused_unread(
    repo: Repo, ida: PgpSigner, plant: Callable[[Repo], None]
) -> None:
    take(repo)
    plant(repo)
    unsigned(repo)
    with pytest.raises(RepositoryError, match=r"where the state is kept"):
        look(repo)
    repo.git("update-ref", "-d", REF)
    with pytest.raises(RepositoryError, match=r"where the state is kept"):
        look(repo)


@pytest.mark.parametrize("attack", [switches_it_off, pins_itself], ids=lambda attack: attack.__name__)
def test_nor_in_a_fresh_clone_on_an_old_state(
    repo: Repo, ida: PgpSigner, attack: Callable[[Repo, PgpSigner], None]
) -> None:
    before = take(repo)
    attack(repo, ida)
    repo.git("add", "--all")
    unsigned(repo)
    repo.git("update-ref", "-d", REF)
    found = look(repo)
    assert found.tree.revision == before.tree.revision
    assert found.refused is not None


def test_history_that_was_rewritten_or_moved_back_is_refused_and_kept(repo: Repo, ida: PgpSigner) -> None:
    repo.hire("bob")
    accepted = signed(repo, ida)
    take(repo)
    repo.git("reset", "-q", "--hard", "HEAD~1")
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "--quiet", "--prune=now")
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert "history was rewritten" in found.refused.why
    assert found.tree.find("hires/bob.yaml") is not None


def test_a_head_that_cannot_be_read_is_not_trusted(repo: Repo) -> None:
    accepted = take(repo).tree.revision
    repo.hire("eve")
    repo.git("add", "--all")
    bad = unsigned(repo)
    (repo.root / ".git/objects" / bad[:2] / bad[2:]).unlink()
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert found.refused.head == bad
    assert "cannot be read" in str(found.refused)


def pins_what_nobody_has(repo: Repo, ida: PgpSigner) -> str:
    verify(repo, ida, trusted_from="1" * 40)
    return "has no commit 1111"


def loses_a_tree_on_the_way(repo: Repo, ida: PgpSigner) -> str:
    for name in ("bob", "eve"):
        repo.hire(name)
        repo.commit()
    tree = repo.git("rev-parse", "HEAD~1^{tree}")
    (repo.root / ".git/objects" / tree[:2] / tree[2:]).unlink()
    return "cannot be read"


@pytest.mark.parametrize("spoil", [pins_what_nobody_has, loses_a_tree_on_the_way])
def test_a_head_whose_way_cannot_be_read_leaves_the_last_accepted_one_in_force(
    repo: Repo, ida: PgpSigner, spoil: Callable[[Repo, PgpSigner], str]
) -> None:
    verify(repo, ida, on=False)
    signed(repo, ida)
    accepted = take(repo).tree.revision
    said = spoil(repo, ida)
    repo.hire("zed")
    head_ = repo.commit()
    found = take(repo)
    assert found.tree.revision == accepted
    assert found.refused is not None
    assert (found.refused.head, said in str(found.refused)) == (head_, True)


def test_head_is_not_trusted_while_the_accepted_revision_cannot_be_read(repo: Repo, ida: PgpSigner) -> None:
    take(repo)
    switches_it_off(repo, ida)
    repo.git("add", "--all")
    unsigned(repo)
    ref = repo.root / ".git" / REF
    ref.unlink()
    ref.symlink_to(ref.name)
    with pytest.raises(RepositoryError, match="cannot be read just now"):
        look(repo)


def test_a_signed_commit_may_switch_it_off(repo: Repo, ida: PgpSigner) -> None:
    take(repo)
    verify(repo, ida, on=False)
    signed(repo, ida)
    take(repo)
    new = unsigned(repo)
    assert take(repo).tree.revision == new


def test_commits_that_are_signed_when_it_is_switched_on_are_looked_at(repo: Repo, ida: PgpSigner) -> None:
    verify(repo, ida, on=False)
    new = repo.commit()
    assert take(repo).tree.revision == new
    verify(repo, ida, trusted_from=new)
    repo.commit()
    found = take(repo)
    assert found.tree.revision == new
    assert found.refused is not None
    assert "not signed" in str(found.refused)


def test_a_checkout_that_cannot_be_written_to_leaves_it_to_the_ledger(
    repo: Repo, ida: PgpSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pygit2

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise pygit2.GitError("read-only")

    monkeypatch.setattr(pygit2.references.References, "create", refuse)
    accepted = take(repo).tree.revision
    unsigned(repo)
    assert look(repo).tree.revision == accepted


def test_files_beside_commits_cannot_be_verified(repo: Repo, ida: PgpSigner, tmp_path: Path) -> None:
    verify(repo, ida, source="worktree")
    signed(repo, ida)
    with pytest.raises(SettingsError, match="source: worktree"):
        look(repo)
    folder = tmp_path / "folder"
    for name in ("hires", "manifests", "config"):
        (folder / name).mkdir(parents=True)
    (folder / "config/reconciler.yaml").write_text("git: {verify_signatures: true}\n")
    with pytest.raises(RepositoryError, match="no git checkout"):
        in_force(Context(folder, Hands(), Redactor()))
