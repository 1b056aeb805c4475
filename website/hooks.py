"""What the site has that docs/ has not: the sample manifests and the changelog, which live elsewhere in the repository.

In the repository the pages link to them where they are; in the site the links lead to copies.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]

_UP = re.compile(r"\]\((?:\.\./)+(manifests/[^)#]+|CHANGELOG\.md)\)")

_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")


def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Add the copies."""
    for path in sorted((ROOT / "manifests").iterdir()):
        files.append(File.generated(config, f"manifests/{path.name}", content=path.read_bytes()))
    files.append(File.generated(config, "CHANGELOG.md", content=(ROOT / "CHANGELOG.md").read_text()))
    return files


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links that leave docs/ to the copies, and write bars within code as this Markdown wants them in a table."""
    up = "../" * page.file.src_uri.count("/")
    markdown = _UP.sub(rf"]({up}\1)", markdown)
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), markdown)
