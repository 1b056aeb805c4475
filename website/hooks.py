"""What the site has that docs/ has not: copies of files from elsewhere in the repository, boxes that scroll, an index.

In the repository the pages link to the sample manifests and the changelog where they are; in the site the links lead to
copies.
"""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from website.search import Section, script, sections

__all__ = ["on_files", "on_nav", "on_page_content", "on_page_markdown", "on_post_build"]

ROOT = Path(__file__).parents[1]

_UP = re.compile(r"\]\((?:\.\./)+(manifests/[^)#]+|CHANGELOG\.md)\)")

_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")

_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)

_ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "th": "columnheader"}

_index: dict[str, list[Section]] = {}


def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Add the copies."""
    for path in sorted((ROOT / "manifests").iterdir()):
        files.append(File.generated(config, f"manifests/{path.name}", content=path.read_bytes()))
    files.append(File.generated(config, "CHANGELOG.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files


def on_nav(nav: Navigation, /, *, config: MkDocsConfig, files: Files) -> Navigation:  # noqa: ARG001
    """Begin the index: of what fits a search equally well, what stands first in the navigation is shown first."""
    _index.clear()
    _index.update({page.url: [] for page in nav.pages})
    return nav


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links that leave docs/ to the copies, and write bars within code as this Markdown wants them in a table."""
    up = "../" * page.file.src_uri.count("/")
    markdown = _UP.sub(rf"]({up}\1)", markdown)
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)


def on_page_content(html: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Take the page into the index, and put each table into a box of its own, which scrolls on a narrow screen."""
    _index[page.url] = sections(str(page.title), page.url, html)
    return _TABLE.sub(_boxed, html)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Write the index."""
    (Path(config.site_dir) / "assets" / "search-index.js").write_text(
        script([each for found in _index.values() for each in found])
    )


def _boxed(table: re.Match[str]) -> str:
    """A table in its box. Each cell says which column it is of: on a phone a row is shown as a card.

    The roles keep it a table for a screen reader, however it is shown.
    """
    columns = re.findall(r"<th[^>]*>(.*?)</th>", table[0])
    place = count()

    def cell(_: re.Match[str]) -> str:
        return f'<td role="cell" data-column="{re.sub("<[^>]*>", "", columns[next(place) % len(columns)])}"'

    html = re.sub(r"<td", cell, table[0])
    for tag, role in _ROLES.items():
        html = html.replace(f"<{tag}>", f'<{tag} role="{role}">')
    return f'<div class="table">{html}</div>'
