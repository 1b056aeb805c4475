"""Timestamps of published checkpoints, by an authority that may hang, refuse and lie (docs/how-to/prove.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.authorities import Authority
from tests.daemon.test_publishing import Publisher, in_remote, key, remote
from tests.engine.harness import Hands
from tests.repo import Daemon, Repo
from tests.servers import AccountService, Reply, eventually

__all__ = ["key", "remote"]


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with Authority(tmp_path / "authority") as made:
        yield made


@pytest.fixture
def publisher(repo: Repo, authority: Authority, key: str, tmp_path: Path) -> Publisher:
    repo.write("tsa.pem", authority.root.read_bytes())
    timestamp = {"url": authority.url, "ca": "tsa.pem"}
    made = Publisher(repo, every="1m", directory=str(tmp_path / "notes"), timestamp=timestamp)
    made.clock = Hands(datetime.now(UTC))
    return made


def files(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_each_checkpoint_gets_a_timestamp_that_openssl_verifies(
    publisher: Publisher, authority: Authority, tmp_path: Path
) -> None:
    publisher.turn(minutes=1)
    publisher.turn(minutes=1)
    notes = tmp_path / "notes"
    assert files(notes) == ["1.note", "1.tsr", "2.note", "2.tsr"]
    assert authority.verifies(notes / "2.tsr", notes / "2.note")
    assert not authority.verifies(notes / "2.tsr", notes / "1.note")
    assert (publisher.arrived, publisher.problems._open) == (2, {})


def another(authority: Authority, query: bytes) -> bytes:
    with Authority(authority.folder / "another") as other:
        return other.answer(query)


def earlier(authority: Authority, _query: bytes) -> bytes:
    return authority.answer(authority.calls("POST")[0].body)


def of_something_else(authority: Authority, query: bytes) -> bytes:
    """An answer to this question about other bytes: their digest is in the query, as it is."""
    digest = hashlib.sha256((authority.folder.parent / "notes" / "2.note").read_bytes()).digest()
    assert digest in query
    return authority.answer(query.replace(digest, hashlib.sha256(b"another note").digest()))


LIES: dict[str, tuple[Callable[[Authority, bytes], Any], str]] = {
    "another-authority": (another, "signed under none of the trusted certificates"),
    "of-something-else": (of_something_else, "Mismatch between messages"),
    "an-earlier-answer": (earlier, "Nonce mismatch"),
    "no-timestamp": (lambda _it, _query: b"<html>Welcome</html>", "is no timestamp"),
    "nothing": (lambda _it, _query: b"", "is no timestamp"),
    "unavailable": (lambda _it, _query: Reply(503, "come back later"), "answered 503: come back later"),
    "elsewhere": (lambda it, _query: Reply(302, headers={"Location": f"{it.url}/other"}), "a redirect to"),
}


@pytest.mark.parametrize(("lie", "says"), LIES.values(), ids=LIES)
def test_answer_that_does_not_count_is_not_published(
    publisher: Publisher, authority: Authority, tmp_path: Path, lie: Callable[[Authority, bytes], Any], says: str
) -> None:
    publisher.turn(minutes=1)
    authority.route("POST", "/", lambda received: lie(authority, received.body))
    publisher.turn(minutes=1)
    assert files(tmp_path / "notes") == ["1.note", "1.tsr", "2.note"]
    (said,) = publisher.problems._open.values()
    assert says in said
    authority.route("POST", "/", authority.stamp)
    publisher.turn(minutes=1)
    assert files(tmp_path / "notes") == ["1.note", "1.tsr", "2.note", "2.tsr", "3.note", "3.tsr"]
    assert publisher.problems._open == {}


def test_refusal_is_told_in_the_authoritys_words(publisher: Publisher, authority: Authority) -> None:
    authority.digests = "sha512"
    publisher.turn(minutes=1)
    (said,) = publisher.problems._open.values()
    assert "the authority refused: Message digest algorithm is not supported" in said


def test_clock_that_is_wrong_is_told(publisher: Publisher, tmp_path: Path) -> None:
    publisher.clock.turn(minutes=10)
    publisher.turn(minutes=1)
    assert files(tmp_path / "notes") == ["1.note"]
    (said,) = publisher.problems._open.values()
    assert "and this machine" in said


@pytest.mark.parametrize(("content", "says"), [(None, "there is no such file"), (b"x", "no certificates in PEM")])
def test_certificates_that_are_not_there_are_told(
    publisher: Publisher, authority: Authority, content: bytes | None, says: str
) -> None:
    file = publisher.repo.root / "tsa.pem"
    file.unlink() if content is None else file.write_bytes(content)
    publisher.repo.commit()
    publisher.turn(minutes=1)
    (said,) = publisher.problems._open.values()
    assert says in said
    assert authority.calls() == []


def test_hanging_authority_delays_no_checkpoint_and_is_alerted_of_once(
    repo: Repo, remote: Path, accounts: AccountService, authority: Authority, key: str
) -> None:
    accounts.route("POST", "/alerts", Reply(204))
    repo.write("tsa.pem", authority.root.read_bytes())
    authority.hang(times=None)
    publisher = Publisher(
        repo,
        every="1m",
        branch="proof",
        remote=str(remote),
        timestamp={"url": authority.url, "ca": "tsa.pem"},
        alerts=[{"webhook": f"{accounts.url}/alerts"}],
        limits={"timeout": "1s"},
    )
    for _ in range(4):
        publisher.turn(minutes=8)
    assert in_remote(remote, "ls-tree", "--name-only", "proof") == ["1.note", "2.note", "3.note", "4.note"]
    (told,) = accounts.calls("POST")
    assert b"checkpoints of the history get no timestamp" in told.body
    authority.clear()
    publisher.clock = Hands(datetime.now(UTC))
    publisher.turn(minutes=1)
    publisher.turn(minutes=1)
    names = in_remote(remote, "ls-tree", "--name-only", "proof")
    assert {"1.tsr", "2.tsr", "3.tsr", "4.tsr"} <= set(names)


def test_daemon_ends_at_once_while_the_authority_hangs(
    repo: Repo, accounts: AccountService, authority: Authority, key: str, tmp_path: Path
) -> None:
    authority.hang(times=None)
    repo.write("tsa.pem", authority.root.read_bytes())
    folder = tmp_path / "notes"
    repo.settings(
        checkpoints={"every": "1s", "directory": str(folder), "timestamp": {"url": authority.url, "ca": "tsa.pem"}},
        limits={"timeout": "10m"},
        interval="1d",
    )
    repo.manifest("tool", accounts.manifest())
    repo.hire("ada", "tool")
    repo.commit()
    with Daemon(repo):
        eventually(lambda: authority.calls("POST"))
    assert files(folder)[0].endswith(".note")
