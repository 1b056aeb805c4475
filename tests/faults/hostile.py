"""What somebody could put into a file, an answer or a message: odd values, samples gone wrong, bytes, bombs.

A sample that is nearly right comes further than noise does. So most of what is made here begins as one, has a few of
its parts replaced, moved, doubled or taken out, is written down, and perhaps has a few of its bytes spoiled too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ODD: tuple[Any, ...] = (
    "", " ", "\0", "\x1b[2J", "\n", "a\r\nX-Evil: 1", "\u202e", "\ufeff", "é", "e\u0301", "😀", "\uffff", "İ", "ß",
    "null", "~", "true", "no", "on", "0x1f", "012", "1_000", "1e400", "-1e-400", "nan", "inf", ".inf", "-0", "9" * 5000,
    "²", "٣", "2026-02-30", "0001-01-01", "9999-12-31", "2026-12-01T00:00:00Z", "999999d", "0s", "start+9999d",
    "start-9999d", "commit", "{{", "}}", "{{}}", "{{ email }}", "{{email}}{{", "{{a.b.0}}", "{{ x|upper }}", "{% if %}",
    "{{responses.0.id}}", "{{oauth.access_token}}", "{{extra.X}}", "../..", "%2e%2e", "..", ".", "/",
    "~root", "$HOME", "-", "--x",
    "http://[::1", "http://[]/", "https://a@b/", "http://127.0.0.1:99999/", "https://ü..example/", "http://a\\b/",
    "//x",
    "https://{{email}}/", "ann@example.com", "o'brien@example.com", "ANN@EXAMPLE.COM", "@", "a@b@c", '"a b"@c', "a@[1]",
    "sqlite:///", "[::1]:80", "a..b:1", "Europe", "../etc/passwd", "(a+)+$", "(", "\\p{L}", "a{1000}{1000}", "(?=a)",
    "\\U001fffff", "\\ud800", "&#x110000;", "%ff%ff", "=\r\n", "+%2B", "\\u", "\\x4",
    0, 1, -1, 2**31, 2**63, 2**64, -(2**64), 10**400, 0.0, -0.0, 1e308, 5e-324, 0.1, 1e8, 1e15,
    True, False, None, [], {}, [[]], [{}], {"": None}, date.min, date.max,
)  # fmt: skip
"""Values that programs stumble over."""


_AGAIN = (
    "a",
    "a@",
    "a.",
    "a'",
    "a ",
    "\\",
    '\\"',
    '"',
    "'",
    "%",
    "%41",
    "{{",
    "}}",
    "{{a",
    "{{ ",
    "{%",
    "((",
    " ",
    "\n",
    "\t",
    "😀",
    "@",
)


def repeated() -> SearchStrategy[str]:
    """A few signs, very often: what looks at each of them from each of them never comes to an end."""
    return st.builds(
        lambda piece, times, end: piece * times + end,
        st.sampled_from(_AGAIN),
        st.sampled_from([20, 500, 5000, 60_000]),
        st.sampled_from(["", "!", "@", "{{email}}", '"', "}}"]),
    )


def odd() -> SearchStrategy[Any]:
    """One value: a known stumbling block, or any text or number."""
    return st.one_of(
        st.sampled_from(ODD),
        st.sampled_from(ODD),
        repeated(),
        st.text(max_size=20),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.dates(),
        # Half of a pair of surrogates, as JSON can spell it.
        st.sampled_from(["\ud800", "a\udfff", "\udc80\ud83d"]),
    )


def structures(keys: Sequence[str] = (), leaves: int = 12) -> SearchStrategy[Any]:
    """Maps and lists of odd values; some keys are those that mean something where it is read."""
    names = st.text(max_size=8) | (st.sampled_from(keys) if keys else st.just("id"))
    return st.recursive(
        odd(), lambda below: st.lists(below, max_size=5) | st.dictionaries(names, below, max_size=5), max_leaves=leaves
    )


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    found, waiting = [], [data]
    while waiting:
        here = waiting.pop()
        steps = list(here) if isinstance(here, dict) else list(range(len(here))) if isinstance(here, list) else []
        found += [(here, step) for step in steps]
        waiting += [here[step] for step in steps]
    return found


@st.composite
def altered(draw: DrawFn, samples: Sequence[Any], keys: Sequence[str] = ()) -> Any:
    """A sample of which a few parts are others."""
    data = copy.deepcopy(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        places = _places(data)
        if not places:
            return copy.deepcopy(draw(structures(keys)))
        into, step = draw(st.sampled_from(places))
        match draw(st.integers(0, 6)):
            case 0 | 1:
                into[step] = copy.deepcopy(draw(odd()))  # it may be altered next
            case 2:
                into[step] = copy.deepcopy(draw(structures(keys)))
            case 3:
                del into[step]
            case 4:
                other, where = draw(st.sampled_from(places))
                if where in other if isinstance(other, dict) else where < len(other):
                    into[step] = copy.deepcopy(other[where])
            case 5 if isinstance(into, dict):
                into[draw(st.sampled_from(keys) if keys else st.text(max_size=8))] = into.pop(step)
            case 5:
                into.append(copy.deepcopy(into[step]))
            case _:
                for _ in range(draw(st.sampled_from([1, 40, 60]))):
                    into[step] = [into[step]] if isinstance(into, list) else {"a": into[step]}
    return data


def written(data: Any, *, as_json: bool) -> bytes:
    """Data as a file has it: JSON, or YAML by hand where that can hold it."""
    if not as_json:
        try:
            return yaml.dump(data, Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False).encode()
        except (yaml.YAMLError, UnicodeError, RecursionError):
            pass
    return json.dumps(data, default=str).encode()


_PIECES = (
    b"&a ", b"*a", b"&a [*a]",
    b"x: &a 1\ny: &a 2\n", b"<<: ", b"- ", b"? ", b": ", b"|\n", b">-\n", b"{", b"}", b"[", b"]", b'"', b"'", b"\\",
    b"#", b"%YAML 1.1\n", b"---\n", b"...\n", b"!!python/object:os.system ", b"!a", b"\t", b"\0", b"\x1b", b"\xff",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc2\x85", b"\r", b"\r\n", b"\\ud800", b'"\\u0000"', b"NaN",
    b"Infinity", b"-", b"e999", b",", b"ENC[", b"9" * 5000, b"a: 1\na: 2\n",
)  # fmt: skip
"""What means something to the one or the other that reads bytes."""


@st.composite
def spoiled(draw: DrawFn, samples: SearchStrategy[bytes]) -> bytes:
    """Bytes of which a few are others, gone, or doubled many times."""
    raw = draw(samples)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 4]))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.sampled_from([0, 1, 3, 20, 400])))
        match draw(st.integers(0, 4)):
            case 0:
                middle = draw(st.sampled_from(_PIECES))
            case 1:
                middle = draw(st.binary(max_size=4))
            case 2:
                middle = b""
            case 3:
                middle = raw[start:end] * draw(st.sampled_from([2, 3, 50]))
            case _:
                return raw[:start]
        raw = (raw[:start] + middle + raw[end:])[: 1 << 20]
    return raw


@st.composite
def spelled(draw: DrawFn, data: SearchStrategy[Any], *, as_json: bool) -> bytes:
    """Altered data, written down, and spoiled now and then."""
    return draw(spoiled(data.map(lambda found: written(found, as_json=as_json))))


BOMBS: tuple[Callable[[int], bytes], ...] = (
    lambda size: b"[" * size,
    lambda size: b"[" * size + b"]" * size,
    lambda size: b'{"a":' * size + b"1" + b"}" * size,
    lambda size: b"".join(b" " * level + b"a:\n" for level in range(min(size, 1000))),
    lambda size: b"- " * size + b"a",
    lambda size: (
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"b%d: &a [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n" % level for level in range(min(size, 40)))
    ),
    lambda size: b"a: &a {b: *a}\n" * min(size, 100),
    lambda size: b"&a [*a]" * min(size, 100),
    lambda size: b"x: &a " + b"z" * size + b"\ny: [" + b"*a," * size + b"]",
    lambda size: b"a: " + b"9" * size,
    lambda size: b'{"a": ' + b"9" * size + b"}",
    lambda size: b'{"access_token": "' + b"z" * size + b'"}',
    lambda size: b"{" + b",".join(b'"k%d": "secret-%040d"' % (each, each) for each in range(min(size, 15_000))) + b"}",
    lambda size: b'{"a": 1e' + b"9" * size + b"}",
    lambda size: b"k" * size + b": 1",
    lambda size: (b'"' + b"k" * min(size, 99_999) + b'": 1\n') * 2,
    lambda size: b"? " * size,
    lambda size: b"".join(b"k%d: 1\n" % number for number in range(size)),
    lambda size: b"a: 1\n" * size,
    lambda size: b'{"' + b'a": 1, "' * size + b'": 1}',
    lambda size: b'"' + b'\\"' * size,
    lambda size: b"'" * size,
    lambda size: b"a: |\n" + b" \n" * size,
    lambda size: b"#" * size + b"\n" + b"\n" * size,
    lambda size: b"{{" * size,
    lambda size: b"%a\n" * size,
    lambda size: b"[" + b"1," * size + b"1]",
    lambda size: b"\0" * size,
    lambda size: b"a" * (1 << 20) + b"a",
)
"""Files that are small to write and much to read; the number says how much."""

SIZES = (1, 3, 49, 50, 51, 100, 600, 800, 900, 990, 2500, 20_000, 200_000)


def bombs() -> SearchStrategy[bytes]:
    """One of them, in one of a few sizes."""
    return st.builds(lambda make, size: make(size)[: (1 << 20) + 1], st.sampled_from(BOMBS), st.sampled_from(SIZES))
