from __future__ import annotations

import logging
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.model.errors import SecretsError
from reconciler.secrets import gpg
from reconciler.secrets.gpg import LIMIT, Gnupg
from tests.secrets.conftest import Office
from tests.secrets.keys import SECRET, Home, said

PLAIN = f"TOKEN: {SECRET}\n".encode()


@pytest.mark.parametrize("armor", [False, True], ids=["binary", "armored"])
def test_own_encryption_decrypts(gnupg: Gnupg, office: Office, armor: bool):
    message = gnupg.encrypt(PLAIN, [office.mine], armor=armor)
    assert message.startswith(b"-----BEGIN PGP MESSAGE-----\n\n") is armor
    assert gnupg.decrypt(message) == PLAIN


@pytest.mark.parametrize("options", [(), ("--armor",), ("--force-ocb",), ("-z", "0")], ids=lambda o: " ".join(o) or "-")
def test_encryption_of_gpg_decrypts(gnupg: Gnupg, office: Office, options: tuple[str, ...]):
    assert gnupg.decrypt(office.home.encrypt_to(PLAIN, office.mine, options=options)) == PLAIN


def test_signed_and_encrypted_opens_even_where_the_signer_is_unknown(gnupg: Gnupg, office: Office, stranger: Home):
    public = office.home.run("--export", office.mine)
    stranger.run("--import", given=public)
    signed = stranger.run("--sign", "--encrypt", "--recipient", office.mine, given=PLAIN)
    stranger.run("--yes", "--delete-keys", office.mine)
    assert gnupg.decrypt(signed) == PLAIN


def test_the_form_ignores_the_users_configuration(gnupg: Gnupg, office: Office):
    configuration = Path(office.home.path, "gpg.conf")
    configuration.write_text(f"comment made by me\nemit-version\nencrypt-to {office.other}\nthrow-keyids\n")
    try:
        message = gnupg.encrypt(PLAIN, [office.mine], armor=True)
        assert b"Comment" not in message
        assert b"Version" not in message
    finally:
        configuration.unlink()
    assert len(gnupg.recipients(message)) == 1


def test_recipients_are_read_without_a_key(office: Office, stranger: Home):
    message = office.home.encrypt_to(PLAIN, office.mine, office.other, office.locked)
    found = Gnupg(stranger.path).recipients(message)
    assert found == sorted(found)
    assert len(found) == 3
    assert all(len(key) == 16 for key in found)


def test_hidden_recipient_is_not_listed(gnupg: Gnupg, office: Office):
    hidden = office.home.run("--hidden-recipient", office.mine, "--encrypt", given=PLAIN)
    assert gnupg.recipients(hidden) == []
    assert gnupg.decrypt(hidden) == PLAIN


def test_expired_key_still_decrypts_and_is_reported(gnupg: Gnupg, office: Office):
    message = office.home.encrypt_to(PLAIN, office.expired, options=("--faked-system-time", "20200101T020000"))
    assert gnupg.expired == []
    assert gnupg.decrypt(message) == PLAIN
    assert gnupg.expired == gnupg.recipients(message)


def flipped(message: bytes) -> bytes:
    return message[:-5] + bytes([message[-5] ^ 1]) + message[-4:]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        pytest.param(lambda home, key: flipped(home.encrypt_to(PLAIN, key)), "altered", id="altered"),
        pytest.param(
            lambda home, key: flipped(home.encrypt_to(PLAIN, key, options=("--force-ocb",))),
            "altered",
            id="altered-ocb",
        ),
        pytest.param(lambda home, key: home.encrypt_to(PLAIN, key)[:-30], "damaged", id="cut-off"),
        pytest.param(lambda home, key: home.encrypt_to(PLAIN, key)[:20], "not a PGP message", id="nearly-nothing"),
        pytest.param(lambda home, key: PLAIN, "not a PGP message", id="clear-text"),
        pytest.param(lambda home, key: b"", "not a PGP message", id="empty"),
        pytest.param(lambda home, key: b"\0" * 900_000, "not a PGP message", id="zeros"),
        pytest.param(lambda home, key: home.run("--store", given=PLAIN), "not encrypted", id="packed-only"),
        pytest.param(
            lambda home, key: home.run("--passphrase", "x", "--symmetric", given=PLAIN),
            "passphrase, not",
            id="symmetric",
        ),
        pytest.param(
            lambda home, key: home.encrypt_to(PLAIN, key, options=("--rfc2440", "--disable-mdc")),
            "no integrity protection",
            id="unprotected",
        ),
        pytest.param(lambda home, key: home.encrypt_to(b" " * (LIMIT + 1), key), "over 1 MiB", id="unpacks-too-large"),
    ],
)
def test_a_bad_file_has_its_own_message(gnupg: Gnupg, office: Office, spoil, says: str):
    with pytest.raises(SecretsError, match=says) as refused:
        gnupg.decrypt(spoil(office.home, office.mine))
    assert SECRET not in said(refused.value)


def test_exactly_the_limit_opens(gnupg: Gnupg, office: Office):
    assert len(gnupg.decrypt(office.home.encrypt_to(b" " * LIMIT, office.mine))) == LIMIT


def test_no_secret_key_names_whom_it_is_for(office: Office, stranger: Home):
    message = office.home.encrypt_to(PLAIN, office.mine, office.other)
    outsider = Gnupg(stranger.path)
    with pytest.raises(SecretsError, match="no secret key") as refused:
        outsider.decrypt(message)
    assert all(key in str(refused.value) for key in outsider.recipients(message))
    assert stranger.path in str(refused.value)


def test_missing_passphrase_does_not_hang(gnupg: Gnupg, office: Office):
    message = office.home.encrypt_to(PLAIN, office.locked)
    office.home.forget_passphrases()
    with pytest.raises(SecretsError, match=r"gpg --decrypt config/x\.yaml\.gpg") as refused:
        gnupg.decrypt(message, "config/x.yaml.gpg")
    assert gnupg.recipients(message)[0] in str(refused.value)


def test_a_passphrase_that_the_agent_remembers_is_used(gnupg: Gnupg, office: Office):
    message = office.home.encrypt_to(PLAIN, office.locked)
    office.home.run("--passphrase", "correct horse", "--decrypt", given=message)
    assert gnupg.decrypt(message) == PLAIN
    office.home.forget_passphrases()


@pytest.mark.parametrize(
    ("who", "says"),
    [("expired", "has expired"), ("signs_only", "cannot encrypt"), ("nobody@example.com", "no public key")],
)
def test_unusable_recipient_is_named(gnupg: Gnupg, office: Office, who: str, says: str):
    recipient = getattr(office, who, who)
    with pytest.raises(SecretsError, match=says) as refused:
        gnupg.encrypt(PLAIN, [office.mine, recipient], armor=False)
    assert recipient in str(refused.value)


def test_encryption_needs_a_recipient(gnupg: Gnupg):
    with pytest.raises(SecretsError, match="no key to encrypt to"):
        gnupg.encrypt(PLAIN, [], armor=False)


def test_a_home_that_is_not_there(tmp_path: Path):
    with pytest.raises(SecretsError, match=r"is not there.*mkdir"):
        Gnupg(str(tmp_path / "none")).decrypt(b"")


def test_a_home_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    with pytest.raises(SecretsError, match="cannot be read by this user"):
        Gnupg(str(tmp_path)).decrypt(b"")


def test_a_home_from_the_environment_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "none"))
    with pytest.raises(SecretsError, match="is not there"):
        Gnupg(None).decrypt(b"")


def test_a_home_whose_path_is_too_long_for_a_socket(office: Office, tmp_path: Path):
    home = tmp_path / ("x" * 120)
    home.mkdir(mode=0o700)
    with pytest.raises(SecretsError, match="cannot reach its agent"):
        Gnupg(str(home)).decrypt(office.home.encrypt_to(PLAIN, office.mine))


def test_a_configuration_that_gpg_refuses(tmp_path: Path):
    (tmp_path / "gpg.conf").write_text("no-such-option\n")
    with pytest.raises(SecretsError, match="does not start"):
        Gnupg(str(tmp_path)).decrypt(b"")


def test_gpg_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gnupg: Gnupg, office: Office):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SecretsError, match="not installed"):
        gnupg.decrypt(PLAIN)
    monkeypatch.undo()
    assert gnupg.decrypt(office.home.encrypt_to(PLAIN, office.mine)) == PLAIN


def program(folder: Path, script: str) -> None:
    path = folder / "gpg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_hung_gpg_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program(tmp_path, 'case "$*" in *--list-config*) exit 0;; esac; exec sleep 600')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpg, "TIMEOUT_SECONDS", 0.05)
    with pytest.raises(SecretsError, match="did not answer"):
        Gnupg(None).decrypt(b"x" * 500_000)


def test_four_threads_at_once(gnupg: Gnupg, office: Office):
    plains = [f"N: {number}".encode() for number in range(12)]
    messages = [office.home.encrypt_to(plain, office.mine) for plain in plains]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(gnupg.decrypt, messages)) == plains


def test_nothing_reaches_the_log(gnupg: Gnupg, office: Office, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    gnupg.decrypt(gnupg.encrypt(PLAIN, [office.mine], armor=False))
    with pytest.raises(SecretsError):
        gnupg.decrypt(PLAIN)
    assert caplog.records == []
