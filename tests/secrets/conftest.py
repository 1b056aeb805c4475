"""Keys that all tests of `secrets` share; they are made once, because making them takes time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.secrets.gpg import Gnupg
from tests.secrets.keys import PASSPHRASE, AgeKey, Home, Sops


@dataclass(frozen=True)
class Office:
    """A home with a key of every state. `mine` and `other` are good ones."""

    home: Home
    mine: str
    other: str
    expired: str
    locked: str
    signs_only: str


@pytest.fixture(scope="session")
def office() -> Iterator[Office]:
    home = Home()
    yield Office(
        home,
        mine=home.fingerprint,
        other=home.add("other"),
        expired=home.add("expired", expired=True),
        locked=home.add("locked", passphrase=PASSPHRASE),
        signs_only=home.add("signs", encrypts=False),
    )
    home.close()


@pytest.fixture(scope="session")
def stranger() -> Iterator[Home]:
    """A home that has a key of its own and none of the office's."""
    home = Home()
    yield home
    home.close()


@pytest.fixture
def gnupg(office: Office) -> Gnupg:
    return Gnupg(office.home.path)


@pytest.fixture(scope="session")
def age_key() -> AgeKey:
    return AgeKey()


@pytest.fixture(scope="session")
def sops_program(office: Office, age_key: AgeKey) -> Sops:
    return Sops(office.home.path, age_key.identity)


@pytest.fixture(autouse=True)
def _no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SOPS_AGE_KEY", "SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY_CMD", "GNUPGHOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
