"""What users' files may hold, what it means, and what is refused with which advice."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read


def value(text: str) -> object:
    return read(f"v: {text}\n".encode(), "hires/a.yaml").data["v"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", True), ("false", False), ("True", "True"), ("NO", "NO"), ("no", "no"), ("on", "on"), ("yes", "yes"),
        ("off", "off"), ("y", "y"), ("null", None), ("~", None), ("", None), ("Null", "Null"), ("NULL", "NULL"),
        ("0", 0), ("12", 12), ("-3", -3), ("-0", "-0"), ("+3", "+3"), ("012345", "012345"), ("00", "00"),
        ("0x1f", "0x1f"), ("0o7", "0o7"), ("0b1", "0b1"), ("1_000", "1_000"), ("1e3", "1e3"), ("1.5e3", "1.5e3"),
        ("1.5", 1.5), ("-1.5", -1.5), ("0.5", 0.5), ("1.", "1."), (".5", ".5"), ("01.5", "01.5"), ("1.10", "1.10"),
        ("1.2.3", "1.2.3"), (".inf", ".inf"), (".nan", ".nan"), ("12:30", "12:30"), ("190:20:30", "190:20:30"),
        ("2026-12-01", date(2026, 12, 1)), ("2026-13-01", "2026-13-01"), ("2026-1-1", "2026-1-1"),
        ("2026-12-01T10:00:00Z", "2026-12-01T10:00:00Z"), ("2026-12-01 10:00", "2026-12-01 10:00"), ("=", "="),
        ('"12"', "12"), ("'true'", "true"), ('"2026-12-01"', "2026-12-01"), ("|\n  12\n", "12\n"),
        (">-\n  true", "true"), ("٣", "٣"), ("12345678901234567890", 12345678901234567890),
        ("1234567890.12345678901", "1234567890.12345678901"),
    ],
)  # fmt: skip
def test_only_truth_values_plain_decimals_and_dates_are_not_text(written: str, meant: object) -> None:
    got = value(written)
    assert (got, type(got)) == (meant, type(meant))


def test_a_number_of_ten_thousand_digits_is_text() -> None:
    assert value("1" * 10_000) == "1" * 10_000


def test_keys_are_text_as_written() -> None:
    assert read(b"12: a\ntrue: b\nNO: c\n2026-12-01: d\n", "x.yaml").data == {
        "12": "a",
        "true": "b",
        "NO": "c",
        "2026-12-01": "d",
    }


def test_a_byte_order_mark_is_skipped() -> None:
    assert read(b"\xef\xbb\xbfa: 1\n", "x.yaml").data == {"a": 1}
    assert read(b'\xef\xbb\xbf{"a": 1}\n', "x.json").data == {"a": 1}


@pytest.mark.parametrize("raw", [b"", b"# nothing\n", b"---\n", b"--- \n...\n"])
def test_an_empty_file_is_none(raw: bytes) -> None:
    document = read(raw, "x.yaml")
    assert document.data is None
    assert document.line(("a",)) in (None, 1, 2)


def test_aliases_stand_for_what_they_name() -> None:
    text = b"a: &x {k: [1, 2]}\nb: *x\nc: [&y text, *y, *x]\n"
    assert read(text, "x.yaml").data == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": ["text", "text", {"k": [1, 2]}]}


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


DEEP_ALIAS = "a: &a " + "[" * 30 + "]" * 30 + "\nb: " + "[" * 30 + "*a" + "]" * 30

BROKEN_YAML = [
    pytest.param("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a': keep one", id="duplicate"),
    pytest.param("x:\n  a: 1\n  'a': 3\n", 3, "duplicate key 'a'", id="duplicate-inside"),
    pytest.param("a: {b: 1, b: 2}", 1, "duplicate key 'b'", id="duplicate-flow"),
    pytest.param("a: b: c\n", 1, "not YAML: mapping values are not allowed in this context; put text", id="colon"),
    pytest.param("a:\n\tb: 1\n", 2, "indent with blanks, not tabs", id="tab"),
    pytest.param("a: @x\n", 1, "in quotes", id="at"),
    pytest.param("ok: 1\nurl: {{ email }}\n", 2, "in quotes", id="braces"),
    pytest.param("? [a]\n: b\n", 1, "a map or list as a key", id="complex-key"),
    pytest.param("a: &x k\n*x : 1\n", 2, "alias as a key", id="alias-key"),
    pytest.param("a: *nobody\n", 1, "an alias to nothing", id="unknown-alias"),
    pytest.param("a: &a [*a]\n", 1, "an alias to nothing", id="itself"),
    pytest.param("a: &a 1\nb: &a [*a]\n", 2, "an alias to nothing", id="itself-again"),
    pytest.param(bomb(9), 4, "more than 10,000 values", id="bomb"),
    pytest.param(DEEP_ALIAS, 2, "nested more than 50", id="deep-alias"),
    pytest.param("base: &b {a: 1}\nx:\n  <<: *b\n", 3, "merge keys", id="merge"),
    pytest.param("a: !!str 1\n", 1, "tags", id="tag"),
    pytest.param("a: !python/object:os.system {}\n", 1, "tags", id="object"),
    pytest.param("a: !secret x\n", 1, "tags", id="local-tag"),
    pytest.param("a: 1\n---\nb: 2\n", 2, "second document", id="two"),
    pytest.param("a: 'x\n", 2, "a quote is opened", id="quote"),
    pytest.param("a: 1\nb: x\x01y\n", 2, "control character", id="control"),
    pytest.param("a: 1\nb: x\0y\n", 2, "control character", id="nul"),
    pytest.param("v:\n  " + "[" * 51 + "]" * 51, 2, "nested more than 50", id="deep"),
    pytest.param("[" * 400_000, 1, "nested more than 50", id="very-deep"),
    pytest.param("\n".join(" " * n + "a:" for n in range(60)), 51, "nested more than 50", id="deep-block"),
    pytest.param("{" * 3000, 1, "nested", id="deep-keys"),
]


@pytest.mark.parametrize(("text", "line", "part"), BROKEN_YAML)
def test_refused_yaml(text: str, line: int, part: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        read(text.encode(), "manifests/a.yaml")
    problem = caught.value.problem
    assert problem.file == "manifests/a.yaml"
    assert part in problem.message
    assert problem.line == line
    assert str(problem).startswith(f"manifests/a.yaml:{line}: error: ")


BROKEN_JSON = [
    pytest.param('{"a": 1,\n "b": {"c": 1,\n "c": 2}}', 3, "duplicate key 'c', first on line 2", id="duplicate"),
    pytest.param('{"a": 1, "\\u0061": 2}', 1, "duplicate key 'a'", id="duplicate-escaped"),
    pytest.param('\n{"a": 1,}', 2, "not JSON", id="comma"),
    pytest.param("{'a': 1}", 1, "double quotes", id="quotes"),
    pytest.param('{"a": NaN}', None, "NaN", id="nan"),
    pytest.param('{"a": -Infinity}', None, "NaN", id="infinity"),
    pytest.param('{"a": 1e999}', None, "too large", id="overflow"),
    pytest.param('{"a": ' + "1" * 5000 + "}", None, "too large", id="digits"),
    pytest.param('{"a": "\\ud83d"}', None, "surrogate", id="surrogate"),
    pytest.param("\n" + "[" * 51 + "]" * 51, 2, "nested more than 50", id="deep"),
    pytest.param("\n" + "[" * 400_000, 2, "nested more than 50", id="very-deep"),
    pytest.param('\n{"a":' * 100_000, 52, "nested more than 50", id="very-deep-maps"),
    pytest.param("", 1, "not JSON", id="empty"),
    pytest.param("{} {}", 1, "not JSON", id="two"),
]


@pytest.mark.parametrize(("text", "line", "part"), BROKEN_JSON)
def test_refused_json(text: str, line: int | None, part: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        read(text.encode(), "manifests/a.json")
    assert part in caught.value.problem.message
    assert caught.value.problem.line == line


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_encoding_and_size(name: str) -> None:
    with pytest.raises(BrokenFile, match="UTF-8"):
        read('{"a": "é"}'.encode("latin-1"), name)
    with pytest.raises(BrokenFile, match="UTF-8"):
        read('{"a": "é"}'.encode("utf-16"), name)
    with pytest.raises(BrokenFile, match="1 MiB"):
        read(b'{"a": "' + b"x" * 1024 * 1024 + b'"}', name)
    assert read(b'{"a": "' + b"x" * 1000 * 1000 + b'"}', name).data["a"][0] == "x"


@pytest.mark.parametrize(("name", "text"), [
    ("a.yaml", "TOKEN: *hunter2-secret"), ("a.yaml", "TOKEN: !hunter2-secret x"), ("a.yaml", "TOKEN: 'hunter2-secret"),
    ("a.yaml", "TOKEN: @hunter2-secret"), ("a.yaml", "TOKEN: hunter2-secret: x"), ("a.json", '{"T": "hunter2-secret}'),
    ("a.json", '{"T": "hunter2-secret" "x"}'), ("a.json", '{"T": hunter2-secret}'),
])  # fmt: skip
def test_a_message_quotes_no_value(name: str, text: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        read(text.encode(), name)
    assert "hunter2" not in str(caught.value) + repr(caught.value)


HIRE = b"""\
# a comment

email: ada@example.com
extra: {A: 1,
  B: 2}
access:
  - slack
  - integration: asana
    values: {TEAM_ID: "1"}
  -
    integration: x
"""
AS_JSON = b"""\

{
"email": "ada@example.com",
"extra": {"A": "}\\"[",
  "B": 2},
"access": [
    "slack",
    {"integration": "asana",
    "values": {"TEAM_ID": "1"}},

    {"integration": "x"}
]}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("email",), 3),
        (("extra", "A"), 4),
        (("extra", "B"), 5),
        (("extra", "C"), 4),
        (("access",), 6),
        (("access", 0), 7),
        (("access", 0, "integration"), 7),
        (("access", 1, "values"), 9),
        (("access", 1, "values", "TEAM_ID", "deeper", 3), 9),
        (("access", 2), 11),
        (("access", 7), 6),
    ],
)
@pytest.mark.parametrize(("name", "raw"), [("a.yaml", HIRE), ("a.json", AS_JSON)])
def test_lines(name: str, raw: bytes, path: tuple[str | int, ...], line: int) -> None:
    assert read(raw, name).line(path) == line


@pytest.mark.parametrize(("name", "raw"), [("a.yaml", HIRE), ("a.json", AS_JSON)])
def test_item_lines(name: str, raw: bytes) -> None:
    document = read(raw, name)
    assert document.item_lines("access") == [7, 8, 11]
    assert document.item_lines("extra") == []
    assert document.item_lines("nothing") == []


def test_item_lines_know_only_the_list_itself() -> None:
    assert read(b"access: [[a,\n b], &x c,\n *x]\nother: {access: [\n1]}\n", "a.yaml").item_lines("access") == [1, 2, 3]
    assert read(b"access: [[a,\n b], &x c,\n *x]\nother: {access: [\n1]}\n", "a.yaml").item_lines("other") == []


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), children),
    max_leaves=30,
)  # fmt: skip


@given(TREES, st.booleans(), st.sampled_from([None, 1]))
def test_json_comes_back_as_it_was(tree: object, ascii_only: bool, indent: int | None) -> None:
    assert read(json.dumps(tree, ensure_ascii=ascii_only, indent=indent).encode(), "x.json").data == tree


@given(st.binary(max_size=200) | st.text("-:{}[]*&!<> \n\t'\"ab0#|>?,%@", max_size=60).map(str.encode), st.booleans())
def test_nothing_but_a_broken_file_is_ever_raised(raw: bytes, as_json: bool) -> None:
    try:
        document = read(raw, "x.json" if as_json else "x.yaml")
    except BrokenFile:
        return
    document.line(("a", 0))
    document.item_lines("a")
