"""docs/design/rules.md, "What a service says"."""

from __future__ import annotations

import json

import pytest

from reconciler.model.secret import Redactor
from reconciler.requests.excerpt import CHARACTERS, excerpt
from reconciler.transports.messages import Response

SECRET = "s3cr3t-token-of-ours"


def repeated(text: str | bytes, status: int = 400, *secrets: str) -> str:
    content = text if isinstance(text, bytes) else text.encode()
    return excerpt(Response(status, {}, content), Redactor(secrets))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no such team", ": no such team"),
        ('{"error": "no such team"}', ': {"error": "no such team"}'),
        ("a\r\n  b\tc\u2028d\u2029", ": a b c d"),
        ("a\x1b[31mred\x00", ": a[31mred"),
        ("n\x00o\x00", ": no"),
        ("a\x1b[31mred\x07\x9b", ": a[31mred"),
        ("\u202egpj.exe\u2066x\u200f\ufeff", ": gpj.exex"),
        ("", ""),
        (" \n ", ""),
        (b"\xff\xfe\x01", ""),
    ],
)
def test_messages_that_are_repeated(text: str, shown: str) -> None:
    assert repeated(text) == shown


def test_the_beginning_only() -> None:
    assert repeated("x" * (CHARACTERS + 1)) == f": {'x' * CHARACTERS}…"
    assert repeated("x" * CHARACTERS) == f": {'x' * CHARACTERS}"


@pytest.mark.parametrize("place", range(CHARACTERS - len(SECRET) - 2, CHARACTERS + 2))
def test_no_half_of_a_secret_is_left_at_the_end(place: int) -> None:
    shown = repeated("x" * place + SECRET, 400, SECRET)
    assert SECRET[:4] not in shown


@pytest.mark.parametrize("between", ["\u200b", "\x07", "\u202e", "\x00"])
def test_secret_with_invisible_characters_is_masked(between: str) -> None:
    assert repeated(f"token {between.join(SECRET)}", 400, SECRET) == ": token ***"


def test_an_errors_code_is_quoted_also_of_a_success() -> None:
    body = '{"ok": false, "code": "seat_limit_reached", "error": {"code": 4041}}'
    assert repeated(body, 200) == f": {body}"
    browsers = "4/0AX4XfWhZm9vYmFyYmF6MTIz"
    assert repeated(json.dumps({"code": browsers}), 200) == ': {"code": "***"}', "what is long and random is a secret"


def test_token_in_successful_answer_is_not_quoted() -> None:
    body = json.dumps({"access_token": "new-one", "state": "pending", "x": "Zm9vYmFyYmF6MTIzNDU2Nzg5MA"})
    assert repeated(body, 200) == ': {"access_token": "***", "state": "pending", "x": "***"}'


@pytest.mark.parametrize("name", ["token", "secret", "jwt", "api_key"])
def test_what_is_called_a_secret_is_none_to_quote_however_plain_it_is(name: str) -> None:
    body = json.dumps({"ok": True, "authed_user": {name: "correct horse"}})
    assert repeated(body, 200) == ': {"ok": true, "authed_user": {"' + name + '": "***"}}'


@pytest.mark.parametrize(
    "text",
    [
        "access_token=xoxp123456789abcdefgh123&scope=a",
        "<token>xoxp123456789abcdefgh123</token>",
        '{"access_token":"xoxp123456789abcdefgh123"},',
        '{"location": "https://login.example.com/?ticket=xoxp123456789abcdefgh123"}',
    ],
)
def test_a_token_that_came_without_an_error_is_masked_in_whatever_form(text: str) -> None:
    assert "xoxp" not in repeated(text, 200)
    assert "***" in repeated(text, 302)
