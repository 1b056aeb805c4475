"""Secrets that stay secret, and text that gives none away, whatever it was encoded with on its way."""

from __future__ import annotations

import base64
import copy
import html
import json
import pickle
import quopri
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reconciler.model.secret import MASK, RENEWALS, Redactor, Secret

NASTY = "p/Q+r=s t\"u\\v%41&w<x>'y\u00e9\U0001f600z"


def test_secret_is_never_formatted() -> None:
    secret = Secret(NASTY)
    assert {str(secret), f"{secret}", f"{secret!s}", "%s" % secret} == {MASK}  # noqa: UP031
    assert repr(secret) == "Secret(***)"
    assert NASTY not in f"{secret:>40}"
    with pytest.raises(TypeError):
        json.dumps(secret)
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            take(secret)
    assert secret.reveal() == NASTY
    assert secret == Secret(NASTY) != Secret("other")
    assert hash(secret) == hash(Secret(NASTY)) != hash(NASTY)


ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent": lambda text: quote(text, safe=""),
    "percent, slashes left": quote,
    "percent, much left": lambda text: quote(text, safe="!$&'()*+,;=:@/?"),
    "percent, lower case": lambda text: "".join(
        f"%{byte:02x}" if not chr(byte).isalnum() or byte > 127 else chr(byte) for byte in text.encode()
    ),
    "percent, all of it": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "form": quote_plus,
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON, not only ASCII": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON, slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON in a URL": lambda text: quote(json.dumps(text)[1:-1], safe=""),
    "percent twice": lambda text: quote(quote(text, safe=""), safe=""),
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "HTML": html.escape,
    "quoted-printable": lambda text: quopri.encodestring(text.encode()).decode(),
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in a form": lambda text: quote_plus(base64.b64encode(text.encode()).decode().rstrip("=")),
}
WHOLE = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=6, max_size=40)


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
@given(value=WHOLE)
@example(value=NASTY)
def test_secret_is_redacted_in_every_encoding(value: str, encode: Callable[[str], str]) -> None:
    assume(value == value.strip() and not value.endswith("://"))  # a protocol by itself is not masked
    # Between characters that no drawn value has: whatever is masked beyond the value shows.
    assert Redactor([value]).redact(f"\x01{encode(value)}\x01") == "\x01***\x01"


@given(user=st.text("abcXYZ/+.\u00e9", min_size=0, max_size=9), key=WHOLE)
def test_neither_part_of_basic_credentials(user: str, key: str) -> None:
    sent = base64.b64encode(f"{user}:{key}".encode()).decode()
    left = Redactor([key]).redact(f"Basic {sent}").replace(MASK, "")
    # What stays is the user, and at most the few bits of the key that share a sign with what stands before or after.
    assert len(left) <= len("Basic ") + -(-len(f"{user}:".encode()) * 8 // 6) + 3


@given(st.lists(WHOLE, min_size=1, max_size=5), st.text(max_size=60))
def test_no_secret_is_left_and_nothing_else_is_taken(values: list[str], text: str) -> None:
    redactor = Redactor(values)
    shown = redactor.redact(text + "".join(values) + text)
    assert not any(value in shown for value in values if value not in MASK)
    assert Redactor(values).redact("plain words") == "plain words" or any(value in "plain words" for value in values)


def test_secrets_that_overlap_leave_no_part_of_either() -> None:
    redactor = Redactor(["abcdefgh", "efghijkl", "abcdef"])
    assert redactor.redact("<abcdefghijkl>") == "<***>"
    assert redactor.redact("<abcdefgh><abcdef>") == "<***><***>"


def test_every_line_of_a_key_that_has_several() -> None:
    key = "-----BEGIN KEY-----\r\nMIIabcdefgh\r\nshort\r\n-----END KEY-----\r\n"
    redactor = Redactor([key])
    assert redactor.redact("it was MIIabcdefgh, or so") == "it was ***, or so"
    assert redactor.redact(f"<{key}>") == "<***>"
    assert redactor.redact(json.dumps({"k": key.strip()})) == '{"k": "***"}'


@pytest.mark.parametrize("sign", [r"\U00110000", r"\U001fffff", r"\ud800", r"\xff", "&#9999999;", "&#xd800;", "%ff%f8"])
def test_malformed_escape_is_left_unchanged(sign: str) -> None:
    assert Redactor(["s3cr3t!"]).redact(f"{sign} and s3cr3t!") == f"{sign} and ***"


def test_a_short_value_is_left_to_the_place_where_it_is_put_in() -> None:
    assert Redactor(["admin", ""]).redact("the admin's page") == "the admin's page"


def test_structures_are_gone_through() -> None:
    redactor = Redactor(["s3cr3t!"])
    assert redactor.redact_all({"s3cr3t!": ["a s3cr3t!", 1, None, ("s3cr3t!",)]}) == {
        "***": ["a ***", 1, None, ["***"]]
    }


def test_many_secrets_that_begin_alike_are_all_found() -> None:
    secrets = [f"secret-number-{number}-{number * 7919}" for number in range(300)]
    redactor = Redactor(secrets)
    text = "exists check: answered 503; retried at 2026-12-01T09:00:00Z "
    assert redactor.redact(text) == text
    assert redactor.redact(text + " ".join(secrets)) == text + " ".join([MASK] * 300)


def test_secrets_that_are_renewed_for_ever_are_forgotten_in_time() -> None:
    redactor = Redactor(["a-lasting-secret"])
    for number in range(100):
        redactor.renew("acme", [f"access-token-{number:03}", "the-refresh-token", "a-lasting-secret"])
        redactor.renew("other", [f"access-token-{number // 50:03}"])
    text = "access-token-{:03}, the-refresh-token, a-lasting-secret"
    assert [redactor.redact(text.format(number)).count(MASK) for number in (0, 1, 2, 50, 84, 99)] == [3, 3, 2, 2, 3, 3]
    redactor.renew("acme", ["access-token-090", "the-refresh-token"])
    for number in range(200, 200 + RENEWALS):
        assert redactor.redact(text.format(90)).count(MASK) == 3
        redactor.renew("acme", [f"access-token-{number}"])
    assert redactor.redact(text.format(90)) == "access-token-090, the-refresh-token, ***"
    redactor.renew("ada/acme", ["access-token-090", "access-token-215"])
    redactor.forget("ada/acme")
    assert redactor.redact(f"{text.format(90)}, access-token-215") == "access-token-090, the-refresh-token, ***, ***"


def test_program_vocabulary_is_not_redacted() -> None:
    redactor = Redactor(["failed", "status", "present", "attempt.failed", "ada/asana"])
    line = {"event": "attempt.failed", "status": "present", "grant": "ada/asana", "hire": "present", "kind": "failed"}
    assert redactor.redact_all(line) == line
    told = {"problem": "it failed", "source": "it is present", "event": "GET /?q=failed"}
    assert redactor.redact_all(told) == {"problem": "it ***", "source": "it is ***", "event": "GET /?q=***"}


def test_protocol_of_a_url_is_not_redacted() -> None:
    """A login is often called as its server is, and a case that `try` saves has to be found again."""
    redactor = Redactor(["postgres", "https:"])
    told = "GET postgresql://127.0.0.1/postgres of postgres, https://x, xpostgresql://x, postgres://x"
    assert redactor.redact(told) == "GET postgresql://127.0.0.1/*** of ***, https://x, x***ql://x, ***://x"
