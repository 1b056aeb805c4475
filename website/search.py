"""What the site's search looks through: each section of each page, as plain text.

The index is written as a script that sets a variable: a page that is read from a folder (`file://`) may run a script
beside it, and may fetch no data.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from html.parser import HTMLParser

_HEADING = re.compile(r"h[1-6]")
_BLOCK = re.compile(r"h[1-6]|p|li|tr|td|th|pre|div|table")


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it, up to the next heading."""

    page: str
    url: str
    title: str
    text: str


class _Reader(HTMLParser):
    """Takes a page's content apart at its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str], list[str]]] = [("", [], [])]
        self._in_heading = False
        self._skipped = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if _HEADING.fullmatch(tag):
            self.found.append((given.get("id") or "", [], []))
            self._in_heading = tag != "h1"  # which is the page's own, called as in the navigation
        self._skipped = given.get("class") == "headerlink"
        self._space(tag)

    def handle_endtag(self, tag: str) -> None:
        if _HEADING.fullmatch(tag):
            self._in_heading = False
        self._skipped = False
        self._space(tag)

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            _, title, text = self.found[-1]
            (title if self._in_heading else text).append(data)

    def _space(self, tag: str) -> None:
        if _BLOCK.fullmatch(tag):
            self.found[-1][2].append(" ")


def sections(page: str, url: str, html: str) -> list[Section]:
    """The sections of one page: `page` is its title, `url` its path within the site."""
    reader = _Reader()
    reader.feed(html)
    plain = [(anchor, _line(title), _line(text)) for anchor, title, text in reader.found]
    return [
        Section(page, f"{url}#{anchor}" if anchor else url, title or page, text)
        for anchor, title, text in plain
        if title or text
    ]


def script(found: list[Section]) -> str:
    """The index as a script."""
    return f"window.searchIndex = {json.dumps([asdict(section) for section in found], ensure_ascii=False)};\n"


def _line(parts: list[str]) -> str:
    return " ".join("".join(parts).split())
