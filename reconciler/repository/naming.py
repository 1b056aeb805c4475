"""The names of files: which are read, and several files with one stem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from reconciler.model.errors import Problem, Severity

__all__ = ["CASES", "FOLDERS", "YAML", "is_cases", "others", "same_stem", "shown", "unread"]

YAML = (".yaml", ".yml")

CASES = (".test.yaml", ".test.yml")
"""How the name of a file in manifests/ ends that has the tests of one."""

FOLDERS = ("config", "hires", "manifests")
"""Where a repository's files are; nothing else in it is read."""

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
    if suffix.lower() not in (*YAML, ".json"):
        return []
    allowed = ", ".join(endings)
    return [Problem(name, None, f"not read: a name in {folder}/ ends in {allowed}; rename it", Severity.WARNING)]


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
