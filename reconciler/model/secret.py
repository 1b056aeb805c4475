"""Secret values, and redacting them from text.

A `Secret` reveals itself only on request, at the wire. A `Redactor` knows every secret of the process and removes them,
in every encoding in which they may appear, from any text that leaves the program.

Encodings that keep most characters (percent, form, JSON, HTML, quoted-printable, Python's `repr`) are not guessed one
by one, because encoders differ: the text is decoded, and whatever decodes to a secret is masked. Base64 is searched for
in each of its three alignments, so that `Basic dXNlcjprZXk=` reveals neither part.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from threading import RLock
from typing import Any, NoReturn

MASK = "***"
SHORTEST = 6
"""Shorter values are masked only where they were put in: they would stand in half of all text.

See docs/design/rules.md, "Secrets".
"""

RENEWALS = 16
"""So many times a source's secrets are renewed before the old ones are forgotten."""

NESTED = 2
"""The deepest nesting of encodings that is searched: JSON in a JSON string, a form's field in a log line."""

_OWN_KEY = re.compile(r"[a-z]+(?:_[a-z]+)*")
_NAMES = frozenset({"hire", "access", "integration", "service", "grant", "grants"})
_CLOSED = frozenset({"status", "action", "event", "kind", "level", "severity", "outcome"})
_WORD = re.compile(r"[a-z]+(?:[._][a-z]+)*")
"""An event (`attempt.failed`), a status, an action."""
_PROTOCOL = re.compile(r"\b(?:https?|ldaps?|postgresql|mysql)://")


class Secret:
    """A string that never shows itself: `str`, `repr`, `format`, JSON and pickle give the mask or refuse."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value; only what writes to the wire or to an encrypted file may call this."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class Redactor:
    """Removes every secret that it learned from text. Thread-safe."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._lasting: set[str] = set()
        self._renewed: dict[str, list[frozenset[str]]] = {}
        """By source, what it had: the oldest first."""
        self._changing = RLock()
        self._counts: Counter[str] = Counter()
        """Of how many secrets each needle is."""
        self._needles: dict[str, tuple[str, ...]] = {}
        """By their first characters, so that a text is walked once however many secrets there are."""
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Add secrets. Values of fewer than six characters are masked only where they are substituted."""
        fresh = {value for value in values if len(value) >= SHORTEST} - self._lasting
        self._lasting |= fresh
        if fresh:
            self._search(fresh, 1)

    def renew(self, source: str, values: Iterable[str]) -> None:
        """Add the secrets that a source has now, and forget those that it had `RENEWALS` renewals before.

        A daemon's tokens are replaced each hour for months: all that there were take gigabytes, and to search for them
        in a text takes seconds.
        """
        new = frozenset(value for value in values if len(value) >= SHORTEST)
        with self._changing:
            before = self._renewed.get(source, [])
            if before and before[-1] == new:
                return
            after = [*(each for each in before if each != new), new][-RENEWALS:]
            self._renewed[source] = after
            self._search(new, 1)
            for each in [each for each in before if each not in after or each == new]:
                self._search(each, -1)

    def forget(self, source: str) -> None:
        """Forget the secrets that a source has and had."""
        with self._changing:
            for each in self._renewed.pop(source, []):
                self._search(each, -1)

    def _search(self, values: Iterable[str], change: int) -> None:
        """Search for secrets, or with a `change` of -1 no longer where nothing else asks for them."""
        changed: dict[str, set[str]] = {}
        with self._changing:
            for needle in (needle for value in values for needle in _needles(value)):
                begins = needle[:SHORTEST]
                same = changed.setdefault(begins, set(self._needles.get(begins, ())))
                self._counts[needle] += change
                if self._counts[needle]:
                    same.add(needle)
                else:
                    del self._counts[needle]
                    same.discard(needle)
            for begins, same in changed.items():
                # The longest first, so that no part of a secret is left standing beside the mask.
                self._needles[begins] = tuple(sorted(same, key=lambda each: (-len(each), each)))
                if not same:
                    del self._needles[begins]

    def redact(self, text: str) -> str:
        """Return the text with every known secret replaced by the mask."""
        if not self._needles or len(text) < SHORTEST:
            return text
        parts: list[str] = []
        masked = 0
        found = sorted(self._found(text, NESTED))
        ours = [each.span() for each in _PROTOCOL.finditer(text)] if found else []
        for start, end in found:
            if any(first <= start and end <= last for first, last in ours):
                continue  # a login that is called as its server is
            if start >= masked:
                parts += [text[masked:start], MASK]
            masked = max(masked, end)
        return "".join([*parts, text[masked:]])

    def redact_all(self, value: Any) -> Any:
        """Redact every string of a structure, except the program's own; what is no JSON becomes its text.

        Our own are keys that look like ours, names (of a hire, an access entry, an integration) and the words of closed
        sets: a secret that is spelled like one of these must not make a log unreadable.
        """
        if isinstance(value, dict):
            return dict(self._field(key, item) for key, item in value.items())
        if isinstance(value, list | tuple):
            return [self.redact_all(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.redact(str(value))

    def _field(self, key: Any, value: Any) -> tuple[Any, Any]:
        """Redact a key and its value; the program's own stay."""
        ours = isinstance(key, str) and _OWN_KEY.fullmatch(key) is not None
        if ours and (key in _NAMES or (key in _CLOSED and isinstance(value, str) and _WORD.fullmatch(value))):
            return key, value
        return (key if ours else self.redact_all(key)), self.redact_all(value)

    def _found(self, text: str, depth: int) -> Iterator[tuple[int, int]]:
        """Return the spans of secrets in a text. They may overlap."""
        needles = self._needles
        for start in range(len(text) - SHORTEST + 1):
            for needle in needles.get(text[start : start + SHORTEST], ()):
                if text.startswith(needle, start):
                    yield start, start + len(needle)
                    break
        for sign, pattern, decode in _ENCODINGS if depth else ():
            if sign in text and pattern.search(text) is not None:
                view = _View(text, pattern, decode)
                for start, end in self._found(view.text, depth - 1):
                    yield view.place(start), view.place(end)


class _View:
    """A decoded text, with the original position of each of its characters."""

    def __init__(self, text: str, pattern: re.Pattern[str], decode: Callable[[str], str]) -> None:
        parts, self._here, self._there = [], [0], [0]
        length = at = 0
        for match in pattern.finditer(text):
            char = decode(match[0])
            parts += [text[at : match.start()], char]
            length += match.start() - at
            at = match.end()
            self._here += [length, length + len(char)]
            self._there += [match.start(), at]
            length += len(char)
        self.text = "".join([*parts, text[at:]])

    def place(self, index: int) -> int:
        """Return the index in the original text."""
        mark = bisect_right(self._here, index) - 1
        return self._there[mark] + index - self._here[mark]


def _percent(written: str) -> str:
    return bytes.fromhex(written.replace("%", "")).decode(errors="replace")


def _printed(written: str) -> str:
    return _percent(written.replace("=", "%"))


def _form(written: str) -> str:
    return " " if written == "+" else _percent(written)


_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "0": "\0"}


def _escape(written: str) -> str:
    if written[1] not in "xuU":
        return _ESCAPES.get(written[1], written[1])
    halves = [int(half, 16) for half in re.split(r"\\[xuU]", written)[1:]]
    return "".join(map(chr, halves)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


_BYTE = "%[0-9A-Fa-f]{2}"
_CHAR = (
    "(?:%[2-7][0-9A-Fa-f]|%[CcDd][0-9A-Fa-f]%[89ABab][0-9A-Fa-f]|%[Ee][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){2}"
    f"|%[Ff][0-7](?:%[89ABab][0-9A-Fa-f]){{3}}|{_BYTE})"
)
"""One percent-encoded character of UTF-8."""

_ENCODINGS: tuple[tuple[str, re.Pattern[str], Callable[[str], str]], ...] = (
    ("%", re.compile(_CHAR), _percent),
    ("+", re.compile(rf"\+|{_CHAR}"), _form),
    (
        "\\",
        re.compile(
            r"\\(?:u[dD][89ABab][0-9A-Fa-f]{2}\\u[dD][C-Fc-f][0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}"
            r"|U00(?:0[0-9A-Fa-f]|10)[0-9A-Fa-f]{4}|[^xuU])"
        ),
        _escape,
    ),
    ("=", re.compile(r"=\r?\n"), lambda _written: ""),
    ("=", re.compile(_CHAR.replace("%", "=")), _printed),
    ("&", re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,6});"), unescape),
)
"""What an encoding cannot do without, one encoded character, and what it stands for."""


def _needles(value: str) -> set[str]:
    """Return the value, each of its lines if it has several, and all of them in base64."""
    texts = {value, value.strip(), *(line.strip() for line in value.splitlines())}
    # Services that repeat a header mostly read its bytes as Latin-1.
    texts |= {text.encode(errors="replace").decode("latin-1") for text in texts}
    forms = {
        form for text in texts if len(text) >= SHORTEST for form in (text, *_base64(text.encode(errors="replace")))
    }
    return {form for form in forms if len(form) >= SHORTEST}


def _base64(raw: bytes) -> set[str]:
    """Return the stable part of the value in base64, whatever surrounds it: one form for each of three alignments."""
    forms = {base64.b64encode(raw).decode().rstrip("=")}
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + raw).decode()
        first = -(-lead * 8 // 6) if lead else 0
        whole = (lead + len(raw)) * 8 // 6
        forms.add(encoded[first:whole])
    return forms | {form.replace("+", "-").replace("/", "_") for form in forms}
