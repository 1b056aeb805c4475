"""Read `config/ignore.yaml`. A broken one ignores nothing, so that all accounts are reported."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from reconciler.model.errors import Problem, Severity
from reconciler.model.ignore import Ignore, IgnoredAccount
from reconciler.model.near import near
from reconciler.repository.documents.empty_keys import validated
from reconciler.repository.documents.problems import explain
from reconciler.repository.documents.yaml import BrokenFile, Document, read
from reconciler.repository.git.trees import Tree

__all__ = ["IGNORE", "read_ignore"]

IGNORE = "config/ignore.yaml"


def read_ignore(tree: Tree, known: Collection[str]) -> tuple[tuple[IgnoredAccount, ...], list[Problem]]:
    """Return what a revision ignores, nothing without the file; and the file's problems.

    `known` are the integrations that there are: another one is a warning.
    """
    file = tree.find(IGNORE)
    if file is None:
        others = [path for path in ("config/ignore.yml", "config/ignore.json") if tree.find(path) is not None]
        return (), [Problem(path, None, f"not read: rename it to {IGNORE}", Severity.WARNING) for path in others]
    try:
        document = read(tree.read(file), file.path)
    except BrokenFile as error:
        return (), [error.problem]
    if document.data is None:
        return (), []
    try:
        entries = validated(Ignore, document.data).root
    except ValidationError as error:
        return (), explain(error, list[IgnoredAccount], document)
    return tuple(entries), [*_unknown(entries, known, document)]


def _unknown(entries: list[IgnoredAccount], known: Collection[str], document: Document) -> list[Problem]:
    return [
        Problem(
            document.file,
            document.line((index, "integration")),
            f"{index}.integration: there is no integration {entry.integration}{near(entry.integration, known)}",
            Severity.WARNING,
        )
        for index, entry in enumerate(entries)
        if entry.integration not in known
    ]
