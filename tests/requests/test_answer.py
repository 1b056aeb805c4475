from __future__ import annotations

import pytest

from reconciler.transports.messages import DEEPEST, LIMIT, Response
from tests.timing import at_most


@pytest.mark.parametrize(
    "charset", ["idna", "punycode", "undefined", "unicode_escape", "raw-unicode-escape", "zlib", "rot13", "of-nobody"]
)
def test_unknown_charset_is_read_as_utf_8(charset: str) -> None:
    content = b"\\x41" * (LIMIT // 8) + "é-".encode() + b"a1" * (LIMIT // 4)
    answer = Response(200, {"content-type": f"text/plain; charset={charset}"}, content)
    with at_most(10):
        assert answer.text == answer.whole_text == content.decode()


def test_a_charset_is_kept() -> None:
    latin = {"content-type": 'application/json; charset="ISO-8859-1"'}
    answer = Response(200, latin, b"Zo\xeb")
    assert Response(200, latin, b'{"name": "Zo\xeb"}').json() == {"name": "Zoë"}
    assert Response(200, {}, b'{"name": "Zo\xeb"}').json() is None
    assert answer.text == "Zoë"


@pytest.mark.parametrize(
    ("opens", "closes"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")], ids=["list", "map", "both"]
)
def test_json_that_is_nested_too_deep_is_none(opens: str, closes: str) -> None:
    times = DEEPEST // len(closes)
    assert Response(200, {}, f"{opens * times}1{closes * times}".encode()).json() is not None
    assert Response(200, {}, f"[{opens * times}1{closes * times}]".encode()).json() is None
    assert Response(200, {}, f"{opens * 100_000}1{closes * 100_000}".encode()).json() is None


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (rb'{"name": "Zo\u00eb \ud83d\ude00"}', {"name": "Zoë 😀"}),
        (rb'{"name": "cut \ud83d"}', {"name": "cut \ufffd"}),
        (rb'{"\ude00": ["\ud83d", 1.5, null]}', {"\ufffd": ["\ufffd", 1.5, None]}),
        (b'{"name": "cut \xed\xa0\xbd"}', {"name": "cut \ufffd"}),
        (rb'{"name": "\\ud83d"}', {"name": r"\ud83d"}),
    ],
    ids=["whole", "cut", "key and list", "bytes", "no escape"],
)
def test_half_a_character_can_be_written_down(content: bytes, read: object) -> None:
    assert Response(200, {}, content).json() == read
