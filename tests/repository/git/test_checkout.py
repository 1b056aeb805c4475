"""Revisions, files and differences, from real git repositories and plain folders."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.errors import RepositoryError
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.git.checkout import Checkout, ignored_edits
from reconciler.repository.git.trees import File, blob_of
from tests.repo import Repo
from tests.repository.objects import Objects


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.write("hires/ada.yaml", "email: ada@example.com\n")
    repo.write("hires/z/bob.yaml", "email: bob@example.com\n")
    repo.write("hires/z.yaml", "z: 1\n")
    repo.write("hires/.hidden.yaml", "no: 1\n")
    repo.write("hires/.git-keep/x.yaml", "no: 1\n")
    repo.write("manifests/asana.yaml", "execute: []\n")
    (repo.root / "hires/link.yaml").symlink_to("ada.yaml")
    repo.commit("first")
    return repo


def paths(tree, folder: str = "hires") -> list[str]:
    return [file.path for file in tree.files(folder)]


def test_a_commit_and_a_folder_are_listed_alike(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    head, disk = checkout.head(), checkout.worktree()
    assert list(head.files("hires")) == list(disk.files("hires"))
    assert paths(head) == ["hires/ada.yaml", "hires/link.yaml", "hires/z.yaml", "hires/z/bob.yaml"]
    assert (head.revision, disk.revision) == (repo.git("rev-parse", "HEAD"), "worktree")
    ada = next(head.files("hires"))
    assert ada == File("hires/ada.yaml", repo.git("rev-parse", "HEAD:hires/ada.yaml"))
    assert head.read(ada) == disk.read(ada) == b"email: ada@example.com\n"
    for tree in (head, disk):
        assert tree.find("hires/ada.yaml") == ada
        assert [tree.find(path) for path in ("hires", "hires/no.yaml", "no/a")] == [None] * 3
        assert [tree.has(name) for name in ("hires", "hires/z", "nothing", "hires/ada.yaml")] == [
            True,
            True,
            False,
            False,
        ]
        assert list(tree.files("nothing")) == []


def test_a_symbolic_link_is_listed_and_not_followed(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    repo.write("hires/text.yaml", "ada.yaml")  # what git keeps of the link
    for tree in (checkout.head(), checkout.worktree()):
        link = tree.find("hires/link.yaml")
        assert link is not None
        assert link in tree.files("hires")
        assert link.blob != blob_of(b"ada.yaml")
        with pytest.raises(BrokenFile, match=r"^hires/link\.yaml: error: is a symbolic link or a submodule"):
            tree.read(link)


def test_the_commit_counts_not_the_edit(repo: Repo) -> None:
    repo.write("hires/ada.yaml", "email: other@example.com\n")
    repo.write("hires/new.yaml", "email: new@example.com\n")
    repo.write("README.md", "not ours\n")
    repo.write("hires/.swp", "not ours\n")
    repo.remove("manifests/asana.yaml")
    repo.write("hires/z.yaml", "staged\n")
    repo.git("add", "hires/z.yaml")
    checkout = Checkout.open(repo.root)
    assert checkout.head().read(next(checkout.head().files("hires"))) == b"email: ada@example.com\n"
    assert ignored_edits(checkout) == ["hires/ada.yaml", "hires/new.yaml", "hires/z.yaml", "manifests/asana.yaml"]


def test_ignored_file_is_no_edit(repo: Repo) -> None:
    repo.write(".gitignore", "*.bak\n")
    repo.write("hires/ada.bak", "x")
    assert ignored_edits(Checkout.open(repo.root)) == []


def test_a_plain_folder_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "hires").mkdir()
    (tmp_path / "hires/a.yaml").write_text("a")
    checkout = Checkout.open(tmp_path)
    assert not checkout.is_git
    assert checkout.head().revision == "worktree"
    assert paths(checkout.head()) == ["hires/a.yaml"]
    assert ignored_edits(checkout) == []
    assert checkout.head_id() is None
    for call in (lambda: checkout.at("HEAD"), lambda: checkout.commit("worktree")):
        with pytest.raises(RepositoryError, match="no git checkout"):
            call()


def test_revisions_by_every_name(repo: Repo) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.git("tag", "light")
    repo.git("tag", "--annotate", "v1", "--message", "one")
    repo.git("branch", "feature/x")
    repo.write("hires/new.yaml", "x: 1\n")
    second = repo.commit("second")
    checkout = Checkout.open(repo.root)
    for name in ("light", "v1", "feature/x", first, first[:8], "HEAD~1", "main^"):
        assert checkout.at(name).revision == first, name
    assert checkout.head().revision == second
    repo.git("pack-refs", "--all")
    repo.git("gc", "--quiet")
    assert checkout.head().revision == second
    assert Checkout.open(repo.root).at("feature/x").revision == first
    assert paths(Checkout.open(repo.root).at("main")) == paths(checkout.worktree())


@pytest.mark.parametrize("name", ["nobody", "0" * 40, "abcdef1", "HEAD:hires/ada.yaml", "", "a..b", "HEAD~99"])
def test_a_revision_that_is_not_there(repo: Repo, name: str) -> None:
    with pytest.raises(RepositoryError, match="revision"):
        Checkout.open(repo.root).at(name)


def test_head_follows_commits_checkouts_and_detaching(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    first = checkout.head().revision
    repo.write("hires/new.yaml", "x: 1\n")
    second = repo.commit()
    assert checkout.head().revision == checkout.head_id() == second
    repo.git("checkout", "--quiet", "--detach", first)
    assert checkout.head().revision == first
    assert "hires/new.yaml" not in paths(checkout.head())


def test_a_linked_worktree_has_its_own_head(repo: Repo, tmp_path: Path) -> None:
    first = repo.git("rev-parse", "HEAD")
    repo.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "linked"))
    repo.write("hires/new.yaml", "x: 1\n")
    second = repo.commit()
    linked = Checkout.open(tmp_path / "linked")
    assert linked.is_git
    assert linked.head().revision == first
    assert linked.at("main").revision == second
    assert ignored_edits(linked) == []


def test_no_commit_yet(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "fresh")
    repo.write("hires/ada.yaml", "x: 1\n")
    checkout = Checkout.open(repo.root)
    with pytest.raises(RepositoryError, match="no commit yet: commit the files"):
        checkout.head()
    assert checkout.head_id() is None
    assert ignored_edits(checkout) == ["hires/ada.yaml"]
    assert paths(checkout.worktree()) == ["hires/ada.yaml"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="--repo"):
        Checkout.open(tmp_path / "nothing")


def test_a_part_of_a_checkout_is_refused_where_a_commit_holds_it(repo: Repo) -> None:
    with pytest.raises(RepositoryError, match="part of the git checkout"):
        Checkout.open(repo.root / "hires")
    (repo.root / "untracked/hires").mkdir(parents=True)
    assert not Checkout.open(repo.root / "untracked").is_git


@pytest.mark.parametrize("content", [b"", b"0123456789abcdef", bytes(41), b"f" * 40 + b"\n"])
@pytest.mark.parametrize("ref", ["refs/heads/main", "HEAD"])
def test_a_ref_that_a_power_cut_left_torn_is_no_revision(repo: Repo, ref: str, content: bytes) -> None:
    repo.commit()
    checkout = Checkout.open(repo.root)
    (repo.root / ".git" / ref).write_bytes(content)
    assert checkout.head_id() is None
    with pytest.raises(RepositoryError, match="git status"):
        checkout.head()
    with pytest.raises(RepositoryError):
        Checkout.open(repo.root).head()


def test_a_damaged_checkout(repo: Repo) -> None:
    (repo.root / ".git/HEAD").write_text("nonsense\n")
    with pytest.raises(RepositoryError, match="git status"):
        Checkout.open(repo.root).head()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_checkout(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (repo.root, repo.root / ".git"):
        os.chown(path, 54321, 54321)
    with pytest.raises(RepositoryError, match=r"belongs to another user.*safe\.directory"):
        Checkout.open(repo.root)


def test_a_file_over_one_mebibyte_is_refused(repo: Repo) -> None:
    repo.write("hires/big.yaml", b"x" * (1024 * 1024 + 1))
    repo.write("hires/full.yaml", b"x" * 1024 * 1024)
    repo.commit()
    checkout = Checkout.open(repo.root)
    for tree in (checkout.head(), checkout.worktree()):
        big, full = (tree.find(f"hires/{name}.yaml") for name in ("big", "full"))
        assert big is not None
        assert full is not None
        with pytest.raises(BrokenFile, match="1,048,577 bytes"):
            tree.read(big)
        assert len(tree.read(full)) == 1024 * 1024


def test_a_file_that_went_away_is_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "hires").mkdir()
    (tmp_path / "hires/a.yaml").write_text("a")
    tree = Checkout.open(tmp_path).worktree()
    file = tree.find("hires/a.yaml")
    assert file is not None
    (tmp_path / "hires/a.yaml").unlink()
    with pytest.raises(BrokenFile, match="cannot be read: No such file"):
        tree.read(file)


def test_a_missing_object_names_the_next_step(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    with pytest.raises(RepositoryError, match="git fsck"):
        checkout.head().read(File("hires/ada.yaml", "0" * 40))


def test_changed_names_every_file_that_differs(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    old = checkout.head()
    repo.write("hires/ada.yaml", "other: 1\n")
    repo.write("hires/y/new.yaml", "x: 1\n")
    repo.remove("hires/z/bob.yaml")
    repo.git("mv", "manifests/asana.yaml", "manifests/moved.yaml")
    (repo.root / "hires/link.yaml").unlink()
    (repo.root / "hires/link.yaml").symlink_to("z.yaml")
    repo.commit()
    new = checkout.head()
    expected = {
        "hires/ada.yaml",
        "hires/link.yaml",
        "hires/y/new.yaml",
        "hires/z/bob.yaml",
        "manifests/asana.yaml",
        "manifests/moved.yaml",
    }
    assert checkout.changed(old, new) == checkout.changed(new, old) == expected
    assert checkout.changed(old, old) == frozenset()
    assert checkout.changed(old, checkout.worktree()) == expected
    assert checkout.changed(new, checkout.worktree()) == frozenset()


def test_a_file_that_became_a_folder_and_a_link(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    old = checkout.head()
    repo.remove("hires/ada.yaml")
    repo.write("hires/ada.yaml/inner.yaml", "x: 1\n")
    repo.remove("hires/z.yaml")
    (repo.root / "hires/z.yaml").symlink_to("z: 1\n")
    repo.commit()
    assert checkout.changed(old, checkout.head()) == {"hires/ada.yaml", "hires/ada.yaml/inner.yaml", "hires/z.yaml"}


def test_who_committed(repo: Repo) -> None:
    commit = Checkout.open(repo.root).commit("HEAD")
    assert commit.revision == repo.git("rev-parse", "HEAD")
    assert commit.author == "Ida Admin <ida@example.com>"


@pytest.mark.parametrize("when", [b"99999999999999999 +0000", b"-99999999999 +0000", b"1 +999999"])
def test_a_commit_from_beyond_the_calendar(repo: Repo, when: bytes) -> None:
    objects = Objects(repo.root)
    commit = objects.commit(objects.root(objects.tree()), when)
    assert Checkout.open(repo.root).commit(commit).author == "Ida Admin <ida@example.com>"


DAMAGE = {
    "no object": lambda objects: objects.root(b"\1" * 20),
    "no tree": lambda objects: objects.root(objects.put("tree", b"100644 x")),
    "a mode that is none": lambda objects: objects.root(objects.put("tree", b"x y\0" + b"\1" * 20)),
    "no object below": lambda objects: objects.root(objects.tree((0o40000, b"x", b"\1" * 20))),
    "no root": lambda objects: b"\1" * 20,
    "a root that is no tree": lambda objects: objects.put("tree", b"100644 x"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_objects_name_the_next_step(repo: Repo, damage) -> None:
    objects, checkout = Objects(repo.root), Checkout.open(repo.root)
    commit = objects.commit(damage(objects))
    with pytest.raises(RepositoryError, match="a partial or damaged clone; run `git fsck`"):
        list(checkout.at(commit).files("hires"))
    with pytest.raises(RepositoryError, match="a partial or damaged clone; run `git fsck`"):
        checkout.changed(checkout.head(), checkout.at(commit))


@pytest.mark.no_cover  # the same lines thousands of times
@pytest.mark.parametrize(("wide", "deep"), [(10, 30), (1, 3000)], ids=["a tree of the same tree", "folders in folders"])
def test_a_tree_that_is_walked_for_years(repo: Repo, wide: int, deep: int) -> None:
    objects, checkout = Objects(repo.root), Checkout.open(repo.root)
    tree = objects.tree((0o100644, b"x.yaml", objects.put("blob", b"x")))
    for _ in range(deep):
        tree = objects.tree(*((0o40000, b"%d" % number, tree) for number in range(wide)))
    bomb = checkout.at(objects.commit(objects.root(tree)))
    for walk in (lambda: bomb.files("hires"), lambda: checkout.changed(checkout.head(), bomb)):
        with pytest.raises(RepositoryError, match="more than 250,000 files and folders, or 100 folders within"):
            walk()


@pytest.mark.parametrize("rev", ["topic", "topic~0", "topic^{commit}", "origin/main"])
def test_a_name_of_two_things_is_refused_with_both_full_names(repo: Repo, rev: str) -> None:
    """Git itself takes the tag, which whoever may push one chooses."""
    name, kind = ("origin/main", "remotes") if rev == "origin/main" else ("topic", "heads")
    repo.git("update-ref", f"refs/{kind}/{name}", "HEAD")
    checkout = Checkout.open(repo.root)
    assert checkout.at(rev).revision == repo.git("rev-parse", "HEAD")
    repo.git("tag", name)
    with pytest.raises(RepositoryError, match=rf"refs/{kind}/{name} or refs/tags/{name} in full|refs/tags/.* or refs/"):
        checkout.at(rev)
    assert checkout.at(f"refs/{kind}/{name}").revision == repo.git("rev-parse", "HEAD")


def test_unreadable_file_is_a_plain_error(repo: Repo) -> None:
    checkout = Checkout.open(repo.root)
    main = repo.root / ".git/refs/heads/main"
    main.unlink()
    main.symlink_to("main")  # the system says ELOOP, as it would say EMFILE or EIO
    with pytest.raises(RepositoryError, match=r"HEAD of .* cannot be read"):
        checkout.head()
    assert checkout.head_id() is None
    with pytest.raises(RepositoryError, match="names no commit"):
        checkout.at("main")


def test_pygit2_is_imported_without_certificates_and_leaves_the_environments(tmp_path: Path) -> None:
    script = (
        "import os, reconciler.repository.git.checkout, pygit2\n"
        "print(pygit2.settings.ssl_cert_file, os.environ['SSL_CERT_FILE'], 'SSL_CERT_DIR' in os.environ)"
    )
    given = {name: value for name, value in os.environ.items() if name != "SSL_CERT_DIR"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**given, "SSL_CERT_FILE": str(tmp_path / "own.pem")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["None", str(tmp_path / "own.pem"), "False"]
