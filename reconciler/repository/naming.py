"""The names of files: which are read, several files with one stem, and the schemas by which editors know them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from reconciler.model.errors import Problem, Severity
from reconciler.model.text import hint

YAML = (".yaml", ".yml")

CASES = (".test.yaml", ".test.yml")
"""How the name of a file in manifests/ ends that has the tests of one."""

FOLDERS = ("config", "hires", "manifests")
"""Where a repository's files are; nothing else in it is read."""

_CONFIG = ("reconciler.yaml", "ignore.yaml", "policy.yaml", "requestable.yaml")
_FOLDERS = ("sequences", "imports", "initial_data", "reviews", "requests")

_NAMED = 3
"""The most files that are named in one message: a commit may have one content under any number of names."""


def is_cases(path: str) -> bool:
    """Whether a file in manifests/ has the tests of a manifest, and is none itself."""
    return path.endswith(CASES)


def unread(path: str, folder: str, endings: tuple[str, ...]) -> list[Problem] | None:
    """Return the problems of a file that is skipped, if its name may be a mistake; None if it is read."""
    if path.isascii() and path.endswith(endings) and "/." not in path:  # as nearly always
        return None
    suffix = PurePosixPath(path).suffix
    ours, name = suffix in endings, shown(path)
    if ours and name == path:
        return None
    if ours:
        return [Problem(name, None, "not read: its name is not UTF-8; rename it")]
    return [*_misplaced(path, folder, endings)]


def _misplaced(path: str, folder: str, endings: tuple[str, ...]) -> Iterator[Problem]:
    """Warn of a file that is not read for its ending, and name the one that was probably meant; a README is fine."""
    file = PurePosixPath(path)
    if file.suffix in endings or file.name.startswith((".", "README")):
        return
    meant = f"{shown(file.name).partition('.')[0]}{endings[0]}"
    text = f"not read: a name in {folder}/ ends in {', '.join(endings)}; rename it; did you mean {meant}?"
    if not file.suffix:
        text += " Of a link to a folder and of a submodule, commit the files themselves"
    yield Problem(shown(path), None, text, Severity.WARNING)


def misplaced_in_config(paths: Collection[str]) -> Iterator[Problem]:
    """Warn of files in config/ that are not read; the folders that are look after their own."""
    known, there = (*_CONFIG, *(f"{folder}/" for folder in _FOLDERS)), {*paths}
    for path in paths:
        _, *folders, name = PurePosixPath(path).parts
        first = f"{folders[0]}/" if folders else name
        ours = f"{PurePosixPath(name).stem}.yaml"
        lacks_ours = not folders and ours in _CONFIG and f"config/{ours}" not in there  # whoever reads that reports it
        if first not in known and not lacks_ours and not name.startswith((".", "README")):
            text = f"not read: in config/ are {', '.join(known)}{hint(first, known)}"
            yield Problem(shown(path), None, text, Severity.WARNING)


def shown(path: str) -> str:
    """Return a path as text; bytes that are not UTF-8 are escaped."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def same_stem(stem: str, paths: Sequence[str], kind: str) -> list[Problem]:
    """Report several files that have one stem, an error for each."""
    return [
        Problem(
            path,
            None,
            f"{others(path, paths)} has the stem {stem!r} too: rename one, for the stem is what names it among the "
            f"{kind}",
        )
        for path in paths
    ]


def others(path: str, paths: Sequence[str]) -> str:
    """Name the other files than this one, up to a few."""
    named = [other for other in paths[: _NAMED + 1] if other != path][:_NAMED]
    more = len(paths) - 1 - len(named)
    return " and ".join(named) + (f" and {more} more" if more else "")


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
