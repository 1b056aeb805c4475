"""Timestamps of exports and checkpoints on the command line (docs/how-to/prove.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.ledger.opening import StateLocation
from tests.authorities import Authority
from tests.cli.conftest import Call
from tests.cli.test_proof import Verify, key, location, python, verified
from tests.repo import Repo

__all__ = ["key", "location", "python", "verified"]


@pytest.fixture
def authority(repo: Repo, location: StateLocation, tmp_path: Path) -> Iterator[Authority]:
    """The settings name it, and its root is committed."""
    with Authority(tmp_path / "authority") as made:
        repo.write("tsa.pem", made.root.read_bytes())
        repo.settings(checkpoints={"timestamp": {"url": made.url, "ca": "tsa.pem"}})
        repo.commit()
        yield made


def test_export_has_a_timestamp_that_openssl_and_history_verify(
    repo: Repo, authority: Authority, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    folder = tmp_path / "proof"
    assert call(repo, "history", "export", str(folder)).code == 0
    note = folder / "checkpoint.note"
    assert authority.verifies(folder / "checkpoint.tsr", note)
    code, said = verified(folder, key)
    assert (code, "checkpoint.tsr, was not checked" in said) == (0, True)
    done = call(repo, "history", "--verify", "--checkpoint", str(note), "--output", "json")
    assert (done.code, done.json["whole"], done.json["timestamp"][:2]) == (0, True, "20")
    done = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert f"the checkpoint was there at {done.out.split(' at ')[1][:20]}" in done.out


def test_timestamp_of_another_note_does_not_count(
    repo: Repo, authority: Authority, key: str, call: Call, tmp_path: Path
) -> None:
    note = tmp_path / "first.note"
    note.write_text(call(repo, "history", "checkpoint").out)
    call(repo, "history", "export", str(tmp_path / "proof"), "--hire", "ada")
    (tmp_path / "proof" / "checkpoint.tsr").rename(tmp_path / "first.tsr")
    held = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert held.code == 0, "the same lines make the same note"
    (tmp_path / "first.tsr").write_bytes(b"x" * 100)
    done = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert (done.code, "its timestamp is not verified: the answer is no timestamp" in done.out) == (1, True)
    repo.settings(checkpoints={})
    repo.commit()
    done = call(repo, "history", "--verify", "--checkpoint", str(note))
    assert (done.code, "the checkpoint's timestamp was not verified" in done.err) == (0, True)


def test_export_goes_without_a_timestamp_that_cannot_be_had(
    repo: Repo, authority: Authority, key: str, call: Call, tmp_path: Path, verified: Verify
) -> None:
    authority.fail_next(None, 404)
    done = call(repo, "history", "export", str(tmp_path / "proof"))
    assert (done.code, "the checkpoint has no timestamp" in done.err) == (0, True)
    assert not (tmp_path / "proof" / "checkpoint.tsr").exists()
    assert verified(tmp_path / "proof", key)[0] == 0


def test_validate_names_the_authority_and_its_certificates(repo: Repo, authority: Authority, call: Call) -> None:
    host = authority.url.removeprefix("http://")
    done = call(repo, "validate", "--output", "json")
    assert {"host": host, "files": ["config/reconciler.yaml"], "allowed": True} in done.json["hosts"]
    (repo.root / "tsa.pem").unlink()
    done = call(repo, "validate")
    assert done.code == 1
    assert "config/reconciler.yaml:6: error: checkpoints.timestamp.ca: tsa.pem: there is no such file" in done.out


@pytest.mark.parametrize(
    ("timestamp", "says"),
    [
        ({"url": "tsa.example.com", "ca": "tsa.pem"}, "is the address of a timestamp authority"),
        ({"url": "https://tsa.example.com", "ca": "../tsa.pem"}, "without .."),
        ({"url": "https://tsa.example.com"}, "ca"),
    ],
)
def test_settings_that_name_no_authority_are_refused(
    repo: Repo, location: StateLocation, call: Call, timestamp: dict[str, str], says: str
) -> None:
    repo.settings(checkpoints={"timestamp": timestamp})
    done = call(repo, "validate")
    assert (done.code, says in done.out) == (1, True), done.out
