"""The kinds of files with a JSON Schema, and the line by which editors find it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["SCHEMAS", "Kind", "line_in", "modeline"]

Kind = Literal[
    "manifest", "hire", "sequence", "settings", "ignore", "import", "policy", "review", "test", "request", "requestable"
]

SCHEMAS = ".schemas"
"""Where a repository has the schemas (docs/files.md, "Schemas for editors")."""


def modeline(kind: Kind, folder: str) -> str:
    """Return the first line of a file in a folder of the repository, for YAML's language server."""
    return f"# yaml-language-server: $schema={'../' * (1 + folder.count('/'))}{SCHEMAS}/{kind}.json\n"


def line_in(root: Path, kind: Kind, folder: str) -> str:
    """Return that line if the repository has the schema, else an empty text."""
    return modeline(kind, folder) if (root / SCHEMAS / f"{kind}.json").is_file() else ""
