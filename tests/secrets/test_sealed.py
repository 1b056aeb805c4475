from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import SecretsError
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sealed import Sealer
from tests.secrets.conftest import Office
from tests.secrets.keys import AgeKey, Home

NOBODY = Gnupg(None)
"""A sealer without recipients asks no GnuPG."""


@given(plain=st.binary(max_size=200), place=st.text(max_size=40))
def test_sealed_value_opens_only_in_its_place(plain: bytes, place: str):
    sealer, wrapped = Sealer.create([], NOBODY)
    blob = sealer.seal(plain, place)
    assert Sealer.unwrap(wrapped, NOBODY).open(blob, place) == plain
    with pytest.raises(SecretsError):
        sealer.open(blob, place + "x")
    assert sealer.seal(plain, place) != blob


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-1], lambda b: b"", lambda b: b[:5], lambda b: bytes([b[0] ^ 1]) + b[1:]]
)
def test_an_altered_row_is_refused(spoil):
    sealer, _ = Sealer.create([], NOBODY)
    with pytest.raises(SecretsError, match="altered, moved, or sealed with another key"):
        sealer.open(spoil(sealer.seal(b"token", "t:1:c")), "t:1:c")


def test_another_stores_row_is_refused():
    one, _ = Sealer.create([], NOBODY)
    other, _ = Sealer.create([], NOBODY)
    with pytest.raises(SecretsError):
        other.open(one.seal(b"token", "x"), "x")


def test_the_digest_is_keyed_and_lasts():
    sealer, wrapped = Sealer.create([], NOBODY)
    other, _ = Sealer.create([], NOBODY)
    assert sealer.digest(b"a") == Sealer.unwrap(wrapped, NOBODY).digest(b"a")
    assert len({sealer.digest(b"a"), sealer.digest(b"b"), other.digest(b"a")}) == 3
    assert len(bytes.fromhex(sealer.digest(b""))) == 32


def test_state_of_an_earlier_release_still_opens():
    """With other derived keys, every token of a state would be lost, and each open attempt would start afresh."""
    sealer = Sealer.unwrap(b'{"form": "none", "recipients": []}\n' + bytes(range(32)), NOBODY)
    blob = bytes.fromhex("0d7a12c7eab3fc9daaaa2d109044ae63cc657a91bf88c733b7b2f6db9d63aee754")
    assert sealer.open(blob, "oauth/suite") == b"token"
    assert sealer.digest(b"what is sent") == "1577d7f60b5ea5e1f5c4cee2e97b734fe7abd5663e5bdc456f4a22f0c1cc02be"


def test_the_key_is_never_shown():
    sealer, wrapped = Sealer.create([], NOBODY)
    key = wrapped.partition(b"\n")[2]
    assert repr(sealer) == str(sealer) == f"{sealer}" == "Sealer(***)"
    assert not hasattr(sealer, "__dict__")
    for show in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            show(sealer)
    assert len(key) == 32


def test_wrapped_by_gpg_the_key_does_not_stand_in_the_bytes(gnupg: Gnupg, office: Office):
    sealer, wrapped = Sealer.create([office.mine], gnupg)
    assert json.loads(wrapped.partition(b"\n")[0]) == {"form": "gpg", "recipients": [office.mine]}
    assert len(gnupg.recipients(wrapped.partition(b"\n")[2])) == 1
    again = Sealer.unwrap(wrapped, gnupg)
    assert again.recipients == (office.mine,)
    assert again.open(sealer.seal(b"token", "x"), "x") == b"token"


def test_wrapped_by_age_where_there_is_only_age(gnupg: Gnupg, age_key: AgeKey, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOPS_AGE_KEY", age_key.identity)
    sealer, wrapped = Sealer.create([age_key.recipient], gnupg)
    assert Sealer.unwrap(wrapped, gnupg).open(sealer.seal(b"token", "x"), "x") == b"token"
    monkeypatch.delenv("SOPS_AGE_KEY")
    with pytest.raises(SecretsError, match="no age identity here"):
        Sealer.unwrap(wrapped, gnupg)


def test_recipients_that_this_machine_does_not_know_are_left_out(gnupg: Gnupg, office: Office, age_key: AgeKey):
    named = ["0123456789ABCDEF", office.expired, office.mine, age_key.recipient]
    sealer, wrapped = Sealer.create(named, gnupg)
    assert sealer.recipients == tuple(sorted(named))  # so that nobody rewraps for ever
    assert len(gnupg.recipients(wrapped.partition(b"\n")[2])) == 1


def test_the_key_ids_of_a_message_are_recipients(gnupg: Gnupg, office: Office):
    ids = gnupg.recipients(office.home.encrypt_to(b"x", office.mine, office.other))
    _, wrapped = Sealer.create(ids, gnupg)
    assert gnupg.recipients(wrapped.partition(b"\n")[2]) == ids


def test_rewrapped_key_opens_sealed_values(gnupg: Gnupg, office: Office):
    sealer, plain = Sealer.create([], gnupg)
    blob = sealer.seal(b"token", "x")
    to_mine = sealer.rewrap([office.mine])
    assert sealer.recipients == (office.mine,)
    to_other = Sealer.unwrap(to_mine, gnupg).rewrap([office.other])
    for wrapped in (plain, to_mine, to_other):
        assert Sealer.unwrap(wrapped, gnupg).open(blob, "x") == b"token"


def test_value_that_could_not_be_opened_is_not_written(gnupg: Gnupg, office: Office, stranger: Home):
    stranger.run("--import", given=office.home.run("--export", office.other))
    theirs = Gnupg(stranger.path)
    sealer, _ = Sealer.create([stranger.fingerprint], theirs)
    with pytest.raises(SecretsError, match="does not open"):
        sealer.rewrap([office.other])
    assert sealer.recipients == (stranger.fingerprint,)
    stranger.run("--yes", "--delete-keys", office.other)


def test_error_without_a_usable_key_gives_the_reason_for_each(gnupg: Gnupg, office: Office):
    with pytest.raises(SecretsError, match=r"has expired.*cannot encrypt|cannot encrypt.*has expired"):
        Sealer.create([office.expired, office.signs_only], gnupg)


def test_a_lost_key_is_a_state_with_a_way_on(gnupg: Gnupg, office: Office, stranger: Home):
    _, wrapped = Sealer.create([office.mine], gnupg)
    with pytest.raises(SecretsError, match=r"does not open: there is no secret key.*Bring back.*docs/security.md"):
        Sealer.unwrap(wrapped, Gnupg(stranger.path))


@pytest.mark.parametrize(
    "wrapped",
    [
        b"",
        b"\xff\n",
        b"[]\nx",
        b'{"form": "none"}\nx',
        b'{"form": "none", "recipients": []}\nshort',
        b'{"form": "none", "recipients": 5}\n' + bytes(32),
        b'{"form": "gpg", "recipients": []}\nx',
        b'{"form": "later", "recipients": []}\nx',
        b'{"form": "age", "recipients": []}\nx',
    ],
)
def test_damaged_bytes_are_no_crash(wrapped: bytes, gnupg: Gnupg):
    with pytest.raises(SecretsError, match="the sealed store's key"):
        Sealer.unwrap(wrapped, gnupg)
