"""What was parsed once is not parsed again at the next start, and never where it could be another."""

from __future__ import annotations

import hashlib

import pytest

from reconciler.repository import parsing as module
from reconciler.repository import private_file
from reconciler.repository.documents.yaml import read
from reconciler.repository.files import Reader
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import CommitTree

pytestmark = pytest.mark.usefixtures("parsed_anew")


@pytest.fixture
def parsed(monkeypatch):
    """The files that were parsed, in order."""
    found = []

    def counted(raw, file):
        found.append(file)
        return read(raw, file)

    monkeypatch.setattr(module, "read", counted)
    return found


@pytest.fixture
def people(repo):
    repo.hire("ada", "tool", manager={"hire": "bob"}, sequences=["eng"])
    repo.hire("bob", "tool", email="Bob@example.com")
    repo.write("hires/broken.yaml", "email: [\n")
    repo.commit()
    return repo


def test_the_next_start_parses_only_new_and_broken_files(people, tmp_path, parsed):
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    before = first.load(Checkout.open(people.root).head())
    first.keep()
    parsed.clear()
    people.hire("cleo", "tool")
    people.commit()
    after = Reader(kept).load(Checkout.open(people.root).head())
    assert [file for file in parsed if file.startswith("hires/")] == ["hires/broken.yaml", "hires/cleo.yaml"]
    assert sorted(after.hires) == ["ada", "bob", "cleo"]
    assert after.hires.index.owner("bob@EXAMPLE.com") == "bob"
    assert after.hires.index.referrers(["bob"]) == {"ada"}
    assert after.hires["ada"] == before.hires["ada"]
    assert after.broken["hires"].keys() == {"broken"}


def test_the_next_start_lists_no_folder_of_hires_that_did_not_change(people, tmp_path, monkeypatch):
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    before = first.load(Checkout.open(people.root).head())
    first.keep()
    people.manifest("other", {"execute": [{"url": "https://api.example.com/"}]})
    people.commit()
    listed, files = [], CommitTree.files

    def noted(tree, folder):
        listed.append(folder)
        return files(tree, folder)

    monkeypatch.setattr(CommitTree, "files", noted)
    after = Reader(kept).load(Checkout.open(people.root).head())
    assert "hires" not in listed
    assert _all_of(after) == _all_of(before)


DAN = "email: dan@example.com\nfirst_name: Dan\nlast_name: D\n"

CHANGES = {
    "nothing": lambda _: None,
    "a new hire": lambda repo: repo.hire("bea", "tool"),
    "a hire gone": lambda repo: repo.remove("hires/ada.yaml"),
    "a hire changed": lambda repo: repo.hire("ada", "tool", "other", manager={"hire": "cleo"}),
    "a hire broken": lambda repo: repo.write("hires/ada.yaml", "email: [\n"),
    "a broken hire mended": lambda repo: repo.hire("broken", "tool"),
    "a broken hire gone": lambda repo: repo.remove("hires/broken.yaml"),
    "a hire moved": lambda repo: repo.git("mv", "hires/ada.yaml", "hires/zoe.yaml"),
    "a stem twice": lambda repo: repo.write("hires/team/ada.yml", DAN.replace("dan", "ada2")),
    "an address twice": lambda repo: repo.hire("bea", "tool", email="BOB@example.com"),
    "an address no longer twice": lambda repo: repo.remove("hires/twin.yaml"),
    "a file misnamed": lambda repo: repo.write("hires/bea.yam.YAML", "x"),
    "a misnamed file gone": lambda repo: repo.remove("hires/odd.YAML"),
    "a hidden file": lambda repo: repo.write("hires/.bea.yaml", DAN.replace("dan", "bea")),
    "a hidden folder": lambda repo: repo.write("hires/.old/bea.yaml", DAN.replace("dan", "bea")),
    "a file that is no hire": lambda repo: repo.write("hires/README.md", "x"),
    "a folder in a hire's place": lambda repo: (repo.remove("hires/ada.yaml"), repo.hire("ada.yaml/ada", "tool")),
}


@pytest.fixture
def all_sorts(people):
    people.hire("twin", "tool", email="Bob@Example.com")
    people.write("hires/odd.YAML", "x")
    people.write("hires/team/dan.yaml", DAN)
    people.commit()
    return people


def _all_of(files):
    """What can be said of a revision's hires, in the order in which it is said."""
    hires = files.hires
    contents = {(path, each.blob) for path, each in hires.index.paths.items()}
    return list(hires), contents, files.broken, files.problems, hires.index.referrers(["bob", "cleo"])


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_next_start_finds_what_a_first_one_finds(all_sorts, tmp_path, change):
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    first.load(Checkout.open(all_sorts.root).head())
    first.keep()
    change(all_sorts)
    all_sorts.git("add", "--all")
    all_sorts.git("commit", "--allow-empty", "--message", "change")
    tree = Checkout.open(all_sorts.root).head()
    found = _all_of(Reader().load(tree))
    assert _all_of(Reader(kept).load(tree)) == found
    again = _all_of(first.load(tree))
    assert [sorted(again[0]), *again[1:]] == [sorted(found[0]), *found[1:]], "nor does who goes on find another thing"


def test_a_start_after_history_was_rewritten_reads_only_new_files(people, tmp_path, parsed):
    """What it saves is of the new history."""
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    first.load(Checkout.open(people.root).head())
    first.keep()
    people.hire("cleo", "tool")
    people.git("add", "--all")
    people.git("commit", "--amend", "--message", "anew")
    people.git("reflog", "expire", "--expire=now", "--all")
    people.git("gc", "--quiet", "--prune=now")
    for read_anew in (["hires/broken.yaml", "hires/cleo.yaml"], ["hires/broken.yaml"]):
        parsed.clear()
        reader = Reader(kept)
        assert sorted(reader.load(Checkout.open(people.root).head()).hires) == ["ada", "bob", "cleo"]
        assert [file for file in parsed if file.startswith("hires/")] == read_anew
        reader.keep()
    assert people.git("rev-parse", "HEAD") in kept.read_text()


DAMAGE = {
    "not there": None,
    "not JSON": b"\x00\xff",
    "empty": b"",
    "of another shape": b"[1, 2]",
    "written by other code": lambda content: _digested("an older program", content.partition("\n")[2]),
    "cut off": lambda content: content[:-10].encode(),
    "somebody else's address in it": lambda content: content.replace("Bob@", "Rob@").encode(),
}


def _digested(code: str, rows: str) -> bytes:
    digest = hashlib.sha256(hashlib.sha256(code.encode()).digest() + rows.encode())
    return f"{digest.hexdigest()}\n{rows}".encode()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_is_ignored(people, tmp_path, parsed, damage):
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    first.load(Checkout.open(people.root).head())
    first.keep()
    content = kept.read_text()
    kept.unlink()
    if damage is not None:
        kept.write_bytes(damage(content) if callable(damage) else damage)
    parsed.clear()
    again = Reader(kept).load(Checkout.open(people.root).head())
    assert sorted(again.hires) == ["ada", "bob"]
    assert "hires/ada.yaml" in parsed


@pytest.mark.parametrize("name", ["hires.cache", "hires.cache.key"])
def test_a_folder_in_the_place_of_the_cache_is_no_cache(people, tmp_path, name):
    (tmp_path / name).mkdir()
    reader = Reader(tmp_path / "hires.cache")
    assert sorted(reader.load(Checkout.open(people.root).head()).hires) == ["ada", "bob"]
    reader.keep()


def test_the_cache_is_private_and_complete_or_missing(people, tmp_path):
    kept = tmp_path / "state" / "hires.cache"
    reader = Reader(kept)
    reader.load(Checkout.open(people.root).head())
    reader.keep()
    assert not kept.parent.exists(), "no folder is made for it"
    kept.parent.mkdir()
    again = Reader(kept)
    again.load(Checkout.open(people.root).head())
    again.keep()
    files = sorted(kept.parent.iterdir())
    assert [file.name for file in files] == ["hires.cache", "hires.cache.key"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def _planted(kept, content: str) -> None:
    """What a commit could write: all that is needed but the key."""
    _, _, rows = content.partition("\n")
    written = hashlib.sha256(private_file._written_by() + rows.replace("Bob@", "Rob@").encode()).hexdigest()
    kept.write_text(f"{written}\n{rows.replace('Bob@', 'Rob@')}")


def _planted_with_a_key(kept, content: str) -> None:
    """Git writes files that others can read."""
    key = kept.with_name("hires.cache.key")
    key.unlink()
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    rows = content.partition("\n")[2].replace("Bob@", "Rob@").encode()
    kept.write_bytes(private_file._mac(bytes(32), rows) + b"\n" + rows)


def _linked(kept, content: str) -> None:
    kept.rename(kept.with_name("elsewhere"))
    kept.symlink_to("elsewhere")


@pytest.mark.parametrize("plant", [_planted, _planted_with_a_key, _linked], ids=lambda plant: plant.__name__)
def test_a_cache_that_another_user_wrote_is_ignored(people, tmp_path, parsed, plant):
    kept = tmp_path / "hires.cache"
    first = Reader(kept)
    first.load(Checkout.open(people.root).head())
    first.keep()
    plant(kept, kept.read_text())
    kept.chmod(0o600)
    parsed.clear()
    again = Reader(kept).load(Checkout.open(people.root).head())
    assert again.hires.index.owner("bob@example.com") == "bob"
    assert "hires/bob.yaml" in parsed


def test_one_content_under_many_names_is_parsed_once(repo, parsed):
    """A commit spells any number of files with one object; each is told of under its own name all the same."""
    for number in range(30):
        repo.write(f"hires/h{number:02}.yaml", "first_name: Ada\nlast_name: L\nemail: ada@example.com\n")
        repo.write(f"hires/broken{number:02}.yaml", "first_name: Ada\nlast_name: L\nemail: nobody\n")
        repo.write(f"manifests/m{number:02}.yaml", "name: M\nexecute:\n- url: https://x.example.com/{{WHAT}}\n")
        repo.write(f"config/sequences/s{number:02}.yaml", "access:\n- no-such-one\n")
    repo.commit()
    parsed.clear()
    files = Reader().load(Checkout.open(repo.root).head())
    read_of = [file for file in parsed if not file.startswith("config/reconciler")]
    assert len(read_of) == 5, "each content, and the good hire's once more for its line"
    told = {(each.file, each.line, each.message) for each in files.problems}
    for number in range(30):
        assert (f"hires/broken{number:02}.yaml", 3) in {each[:2] for each in told}
        assert (f"manifests/m{number:02}.yaml", 3) in {each[:2] for each in told}
        assert files.manifests[f"m{number:02}"].path == f"manifests/m{number:02}.yaml"
        assert files.sequences[f"s{number:02}"].stem == f"s{number:02}"
    several = "email: hires/h00.yaml and hires/h01.yaml and hires/h02.yaml and 26 more has this address too: "
    assert ("hires/h07.yaml", 3, f"{several}an address belongs to one hire") in told
    assert files.broken["hires"].keys() == {f"{name}{number:02}" for name in ("h", "broken") for number in range(30)}
