"""The kinds of files that have a JSON Schema, and the line by which an editor finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["SCHEMAS", "Kind", "line_in", "modeline"]

Kind = Literal["manifest", "hire", "sequence", "settings", "ignore", "import", "policy", "review"]

SCHEMAS = ".schemas"
"""Where a repository has the schemas (docs/files.md, "Schemas for editors")."""


def modeline(kind: Kind, folder: str) -> str:
    """The first line of a file in a folder of the repository, which YAML's language server reads."""
    return f"# yaml-language-server: $schema={'../' * (1 + folder.count('/'))}{SCHEMAS}/{kind}.json\n"


def line_in(root: Path, kind: Kind, folder: str) -> str:
    """That line where the repository has the schema; nothing where it does not."""
    return modeline(kind, folder) if (root / SCHEMAS / f"{kind}.json").is_file() else ""
