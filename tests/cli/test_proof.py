"""`reconcile history checkpoint`, `history export` and `--verify --checkpoint` (docs/how-to/prove.md)."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest

from reconciler.ledger.chain import BLOCK, MerkleTree, leaf, root_of
from reconciler.ledger.entries import Event
from reconciler.ledger.history import TREE
from reconciler.ledger.opening import StateLocation
from reconciler.model.errors import SecretsError
from reconciler.model.grant import Key
from reconciler.model.secret import Secret
from reconciler.model.status import EventType
from reconciler.model.value import replace
from reconciler.review.verify import root_from
from reconciler.secrets.checkpoint import Checkpoint, SigningKey, VerifyingKey
from tests.cli.conftest import Call
from tests.ledger.states import NOW, change
from tests.ledger.test_chain import rename
from tests.repo import Repo

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2 * BLOCK + 3)]


@pytest.fixture
def location(repo: Repo) -> StateLocation:
    """Nine lines of ada, bob and cyd, in turn; the program has a key that signs."""
    repo.initial_data("reconciler", {"PAGES_TOKEN": "a-long-one"})
    repo.commit()
    state = StateLocation(repo.state_url, repo.root)
    with closing(state.writer()) as ledger:
        for second in range(9):
            hire = ("ada", "bob", "cyd")[second % 3]
            at = NOW + timedelta(seconds=second)
            said = f"é of {hire}"
            ledger.save(
                (), [Event(at, Key(hire, "tool"), "tool", EventType.BLOCKED, said, "abc", approved_by=("Joe",))]
            )
    return state


@pytest.fixture
def key(repo: Repo, location: StateLocation, call: Call) -> str:
    made = call(repo, "history", "checkpoint", "--new-key")
    assert made.code == 0, made.err
    repo.commit()
    return made.out.strip()


def test_a_checkpoint_without_git_says_so(
    repo: Repo, key: str, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "gpg").symlink_to(str(shutil.which("gpg")))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call(repo, "history", "checkpoint")
    assert done.code == 1
    assert "the first commit cannot be told: git is not installed" in done.err


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with nothing but `cryptography` and what that needs: an auditor's."""
    made = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    (packages,) = made.glob("lib/python3*/site-packages")
    for name in ("cryptography", "cffi", "_cffi_backend"):
        if (found := importlib.util.find_spec(name)) is not None and found.origin is not None:
            there = Path(found.origin).parent if found.submodule_search_locations else Path(found.origin)
            (packages / there.name).symlink_to(there)
    python = made / "bin" / "python"
    assert subprocess.run([python, "-I", "-c", "import reconciler"], capture_output=True, check=False).returncode == 1
    return python


class Verify(Protocol):
    def __call__(self, folder: Path, key: str, *more: str) -> tuple[int, str]: ...


@pytest.fixture
def verified(python: Path) -> Verify:
    """Runs the program in an export where this one has never been; gives its exit code and what it said."""

    def run(folder: Path, key: str, *more: str) -> tuple[int, str]:
        command = [str(python), "-I", str(folder / "verify.py"), str(folder), "--key", key, *more]
        done = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout

    return run


def test_new_key_is_made_once_and_never_shown(repo: Repo, key: str, call: Call) -> None:
    assert call(repo, "history", "checkpoint", "--public-key").out.strip() == key
    again = call(repo, "history", "checkpoint", "--new-key")
    assert (again.code, "there is a CHECKPOINT_KEY already" in again.err) == (1, True)
    other = call(repo, "history", "checkpoint", "--new-key", "--replace")
    assert (other.code, other.out.strip() != key, "PRIVATE" in other.out + other.err) == (0, True, False)
    repo.commit()
    assert call(repo, "initial-data", "check", "reconciler").code == 0


def test_first_key_of_a_repository_is_encrypted_to_whom_it_is_told(repo: Repo, call: Call) -> None:
    repo.commit()
    nobody = call(repo, "history", "checkpoint", "--new-key")
    assert (nobody.code, "give --recipient" in nobody.err) == (64, True)
    assert repo.gnupg is not None
    made = call(repo, "history", "checkpoint", "--new-key", "--recipient", repo.gnupg.fingerprint)
    assert made.code == 0, made.err
    repo.commit()
    assert call(repo, "history", "checkpoint", "--public-key").out == made.out


def test_checkpoint_is_a_signed_note_over_all_lines(repo: Repo, location: StateLocation, key: str, call: Call) -> None:
    done = call(repo, "history", "checkpoint")
    text, _, signature = done.out.partition("\n\n")
    first = repo.git("rev-list", "--max-parents=0", "HEAD")
    digests = [line["digest"] for line in call(repo, "history", "--output", "json").json]
    assert text.splitlines()[:2] == [f"access-reconciler/{first}", "9"]
    assert signature.startswith(f"— access-reconciler/{first} ")
    found = Checkpoint.of(done.out, VerifyingKey.of(key))
    assert found.root == MerkleTree(digests).root
    with pytest.raises(SecretsError, match="not signed by"):
        Checkpoint.of(done.out.replace("\n9\n", "\n8\n"), VerifyingKey.of(key))


def test_without_a_key_it_says_how_to_make_one(repo: Repo, location: StateLocation, call: Call) -> None:
    done = call(repo, "history", "checkpoint")
    assert (done.code, "`reconcile history checkpoint --new-key` makes one" in done.err) == (1, True)


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (["UPDATE events SET digest = (SELECT digest FROM events WHERE id = 1) WHERE id = 4"], "was changed, moved"),
        (["DELETE FROM events WHERE id > 7"], "covers 9 lines, and the history has 7"),
    ],
)
def test_line_that_a_checkpoint_covers_is_missed(
    repo: Repo, location: StateLocation, key: str, call: Call, statements: list[str], says: str
) -> None:
    note = repo.root / ".git" / "first.note"
    note.write_text(call(repo, "history", "checkpoint").out)
    with closing(location.writer()) as ledger:
        ledger.forget("cyd", NOW, by="ida@here")
    held = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert held.code == 0, held.out
    assert call(repo, "history", "--verify", "--checkpoint", str(note), "--key", key).code == 0
    change(location, *statements)
    from reconciler.review.proof import contradiction

    with location.reader() as ledger:
        from reconciler.repository.git.checkout import Checkout

        found = contradiction(ledger, Checkout.open(repo.root), note.read_text(), VerifyingKey.of(key))
    assert says in (found or "")
    assert call(repo, "history", "--verify", "--checkpoint", str(note)).code == 1
    change(location, "UPDATE events SET digest = 'no digest' WHERE id = 2")
    refused = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert (refused.code, "`reconcile history --verify` says which" in refused.err) == (1, True)


def test_checkpoint_names_the_first_commit_whatever_is_merged_or_checked_out(
    repo: Repo, location: StateLocation, key: str, call: Call
) -> None:
    repo.write("hires/.gitkeep", "")
    repo.write("manifests/.gitkeep", "")
    repo.commit()
    assert call(repo).code == 0
    note = repo.root / ".git" / "first.note"
    note.write_text(call(repo, "history", "checkpoint").out)
    repo.git("checkout", "-q", "--orphan", "older")
    assert call(repo, "history", "--verify", "--checkpoint", str(note)).code == 0, "a branch without a commit"
    repo.commit("older", later=-100000)
    assert call(repo, "history", "--verify", "--checkpoint", str(note)).code == 0, "one with another beginning"
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--allow-unrelated-histories", "-m", "older", "older")
    assert call(repo).code == 0
    done = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert done.code == 0, done.out


def test_note_of_another_key_is_refused(repo: Repo, location: StateLocation, key: str, call: Call) -> None:
    other = SigningKey(SigningKey.new("somebody"))
    note = repo.root / ".git" / "first.note"
    note.write_text(other.sign("access-reconciler/x\n0\n" + "A" * 43 + "=\n"))
    done = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert (done.code, "is not signed by" in done.out) == (1, True)
    mine = call(repo, "history", "--verify", "--checkpoint", str(note), "--key", other.public)
    assert (mine.code, "the checkpoint is of access-reconciler/x" in mine.out) == (1, True)


def test_export_of_one_person_verifies_and_shows_nobody_else(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    with closing(location.writer()) as ledger:
        rename(ledger, {Key("ada", "tool"): Key("lovelace", "tool")})
        ledger.forget("cyd", NOW, by="ida@here")
    folder = tmp_path / "proof"
    done = call(repo, "history", "export", str(folder), "--hire", "lovelace")
    assert (done.code, done.out) == (0, f"{folder}: 4 of 11 lines\n")
    assert sorted(each.name for each in folder.iterdir()) == ["checkpoint.note", "lines.jsonl", "verify.py"]
    text = (folder / "lines.jsonl").read_text()
    assert not [name for name in ("bob", "cyd") if name in text + (folder / "checkpoint.note").read_text()]
    code, said = verified(folder, key)
    assert (code, said.splitlines()[0].partition(" of access")[0]) == (0, "verified: 4 of 11 lines")
    assert verified(folder, key, "--complete")[0] == 1
    entries = [json.loads(line) for line in text.splitlines()]
    for change_ in ("detail", "hire"):
        entries[1]["line"][change_] = "eve"
        (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, entries)))
        assert verified(folder, key) == (1, "not verified: line 3 does not have the digest that it claims\n")


def test_line_says_nothing_beside_what_its_digest_covers(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    folder = tmp_path / "proof"
    assert call(repo, "history", "export", str(folder), "--hire", "ada").code == 0
    text = (folder / "lines.jsonl").read_text()
    for old, new in (
        ('"place"', '"approved_by": ["eve"], "place"'),
        ('"hire"', '"hire": "eve", "hire"'),
        ('"line"', '"line": {"hire": "eve"}, "line"'),
        ('"line"', '"lines"'),
    ):
        (folder / "lines.jsonl").write_text(text.replace(old, new, 1))
        code, said = verified(folder, key)
        assert (code, said.startswith("not verified: a line ")) == (1, True), (new, said)


def test_lines_stand_in_their_order_and_each_can_be_read(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    folder = tmp_path / "proof"
    assert call(repo, "history", "export", str(folder), "--hire", "ada").code == 0
    text = (folder / "lines.jsonl").read_text()
    (folder / "lines.jsonl").write_text("".join(reversed(text.splitlines(keepends=True))))
    code, said = verified(folder, key)
    assert (code, said.startswith("not verified: line 3 is there twice or out of order")) == (1, True)
    (folder / "lines.jsonl").write_text(text + "[" * 100_000)
    assert verified(folder, key) == (1, "not verified: a file is not as it has to be\n")


def test_whole_export_is_complete_with_erased_lines(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    with closing(location.writer()) as ledger:
        ledger.forget("cyd", NOW, by="ida@here")
    folder = tmp_path / "proof"
    assert call(repo, "history", "export", str(folder)).code == 0
    code, said = verified(folder, key, "--complete")
    assert (code, "3 of them erased" in said) == (0, True)
    assert call(repo, "history", "export", str(folder)).code == 1, "it is not empty"
    (folder / "lines.jsonl").write_text("".join((folder / "lines.jsonl").read_text().splitlines(keepends=True)[1:]))
    assert verified(folder, key, "--complete")[0] == 1
    other = SigningKey(SigningKey.new("somebody")).public
    assert verified(folder, other)[0] == 1


def test_history_written_anew_is_found_with_the_key_and_an_earlier_note(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    """Chain and all: the state as such is whole. By the program, and by an auditor who has an export alone."""
    earlier = tmp_path / "earlier.note"
    earlier.write_text(call(repo, "history", "checkpoint").out)
    with closing(location.writer()) as ledger:
        ledger.forget("cyd", NOW, by="ida@here")
    assert call(repo, "history", "export", str(tmp_path / "grown")).code == 0
    code, said = verified(tmp_path / "grown", key, "--complete", "--earlier", str(earlier))
    assert (code, "covers are as they were" in said) == (0, True)

    with location.reader() as ledger:
        lines = list(ledger.history.lines())
    (repo.root / ".reconciler" / "state.db").unlink()
    with closing(location.writer()) as ledger:
        ledger.save(
            (), [replace(line, detail="nothing happened") if line.key.hire == "bob" else line for line in lines]
        )
    assert call(repo, "history", "--verify").code == 0
    done = call(repo, "history", "--verify", "--checkpoint", str(earlier), "--key", key)
    assert (done.code, "does not hold what the checkpoint covers" in done.out) == (1, True)
    assert call(repo, "history", "export", str(tmp_path / "anew")).code == 0
    assert verified(tmp_path / "anew", key, "--complete")[0] == 0
    code, said = verified(tmp_path / "anew", key, "--earlier", str(earlier))
    assert (code, "the earlier note covers" in said) == (1, True)


def test_export_of_nobody_says_so(repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path) -> None:
    done = call(repo, "history", "export", str(tmp_path / "proof"), "--hire", "adda")
    assert (done.code, "tells nothing of adda" in done.err) == (0, True)


def test_export_of_a_span_that_ends_before_it_begins_is_wrong_usage(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path
) -> None:
    span = ("--since", "2026-11-28", "--until", "2026-11-27")
    done = call(repo, "history", "export", str(tmp_path / "proof"), *span)
    assert (done.code, "--until 2026-11-27 lies before --since" in done.err) == (64, True)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("hires", [[], ["--hire", "ada"]], ids=["all", "one-person"])
def test_earlier_note_needs_all_of_its_lines(
    repo: Repo, location: StateLocation, key: str, call: Call, tmp_path: Path, verified: Verify, hires: list[str]
) -> None:
    folder = tmp_path / "proof"
    assert call(repo, "history", "export", str(folder), *hires).code == 0
    code, said = verified(folder, key, "--earlier", str(folder / "checkpoint.note"))
    assert (code, "6 of the 9 lines" in said) == ((1, True) if hires else (0, False))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3])
def test_tree_is_that_of_rfc_6962(size: int) -> None:
    def root(digests: list[str]) -> bytes:
        if len(digests) < 2:
            return leaf(digests[0]) if digests else hashlib.sha256(b"").digest()
        split = 1 << ((len(digests) - 1).bit_length() - 1)
        return hashlib.sha256(b"\x01" + root(digests[:split]) + root(digests[split:])).digest()

    digests = DIGESTS[:size]
    tree = MerkleTree(digests)
    assert tree.root == root(digests) == root_of(map(leaf, digests))
    for place in {0, size // 2, size - 1} if size else ():
        assert root_from(digests[place], place, size, tree.proof(place)) == tree.root
        if size > 1:
            assert root_from(digests[place], place ^ 1, size, tree.proof(place)) != tree.root


def test_kept_blocks_make_the_same_root(tmp_path: Path) -> None:
    state = StateLocation("sqlite:///state.db", tmp_path)
    lines = [Event(NOW, Key("ada", "tool"), "tool", EventType.BLOCKED) for _ in range(2 * BLOCK + 3)]
    with closing(state.writer()) as ledger:
        ledger.save((), lines)
        whole = ledger.history.tree()
        ledger.history.keep_tree()
        assert ledger.notes.get(TREE) is not None
        assert ledger.history.tree() == whole
        ledger.save((), lines[:BLOCK])
        longer = ledger.history.tree()
        ledger.history.keep_tree()
        assert ledger.history.tree() == longer
        assert ledger.history.tree(2 * BLOCK + 3) == whole


def test_keys_are_those_of_signed_notes() -> None:
    """The example of C2SP's signed-note and of Go's package of that name."""
    private = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    public = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert SigningKey(Secret(private)).public == public
    text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signed = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    signature = f"— PeterNeumann {signed}"
    assert SigningKey(Secret(private)).sign(text) == f"{text}\n{signature}\n"
    assert VerifyingKey.of(public).verifies(text, signature)
    assert not VerifyingKey.of(public).verifies(text + "x", signature)
