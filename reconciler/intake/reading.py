"""Read an import's source: an HR system, page by page, or a CSV on this machine.

It is read completely or not at all: if a page fails or a line is invalid, nothing is known. Only a reading that was
limited to a number of pages is known to be incomplete.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pygit2

from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import connected
from reconciler.model.errors import NothingImported, TransportError
from reconciler.model.imports import ByAddress, Import
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import Checkout
from reconciler.requests.match import failure
from reconciler.requests.pages import MorePages, items
from reconciler.requests.render import render
from reconciler.transports.answer import LARGE, LIMIT

__all__ = [
    "SourceRecords",
    "as_integrations",
    "ask",
    "could_be_added",
    "csv_file",
    "read_csv",
]

SEPARATORS = (",", ";", "\t")
"""What separates the columns of a CSV; spreadsheets of some countries write the second."""


class SourceRecords(Frozen):
    """The people of the source, an item each; not `whole` if more pages follow than may be read."""

    items: list[Any]
    whole: bool
    columns: tuple[str, ...] | None = None
    """Of a CSV: what its first line names."""

    def at(self, item: Any, path: str) -> Any:
        """Return an item's value at a path; in a CSV a path is a column's name."""
        return item.get(path) if self.columns is not None else walk(item, path)


def as_integrations(files: Files, name: str) -> Files:
    """Return the files with one import in place of the manifests, for code that takes manifests."""
    loaded = files.imports[name]
    asked = Loaded(
        stem=name,
        path=loaded.path,
        blob=loaded.blob,
        model=loaded.model.as_manifest,
        lines=(),
        document=loaded.document,
    )
    return replace(files, manifests={name: asked})


async def ask(integration: Integration, imported: Import) -> SourceRecords:
    """Read all people. Raises Blocked and TransportError with the reason if that fails."""
    manifest, client = integration.manifest, integration.client
    scope = await connected(integration, integration.scope(()))
    scope = await _before(integration, manifest, scope)
    found: list[Any] = []
    pages = imported.amount_pages_to_fetch or None
    try:
        async for item in items(client, manifest.form[0], scope, manifest, pages=pages, most=LARGE):
            found.append(item)  # noqa: PERF401  what came before the exception counts
    except MorePages:
        if pages is None:
            raise
        return SourceRecords(found, whole=False)
    return SourceRecords(found, whole=True)


async def _before(integration: Integration, manifest: Manifest, scope: Scope) -> Scope:
    """Send the requests before the last one, and return a scope with their answers."""
    responses: list[Any] = []
    stored: dict[str, Any] = {}
    for index, request in enumerate(manifest.execute):
        answer = await integration.client.send(render(request, scope, manifest), follow=True)
        if (reason := failure(request, answer)) is not None:
            what = f"execute.{index}: {reason}{integration.client.excerpt(answer)}"
            raise TransportError(what, left=True)
        responses.append(answer.json())
        for key, path in request.store_data.items():
            stored[key] = answer.at(path)
            if stored[key] is None:
                raise TransportError(f"execute.{index}: the answer has nothing at {path}", left=True)
        secret = frozenset({"responses", *stored})
        scope = scope.over(Layer("the requests before", {"responses": responses, **stored}, secret))
    return scope


def csv_file(checkout: Checkout, imported: Import) -> Path:
    """Return the CSV's path. Raises NothingImported if it is in git, whose history keeps people's data for ever."""
    assert imported.file is not None
    path = checkout.root / Path(imported.file).expanduser()
    inside = _inside(checkout, path)
    if inside is not None and checkout.repository is not None and _tracked(checkout.repository, inside):
        raise NothingImported(
            f"{imported.file} is in git, where everybody's data would stay in the history: `git rm --cached "
            f"{imported.file}`, add it to .gitignore, and keep it on this machine only"
        )
    return path


def could_be_added(checkout: Checkout, path: Path) -> bool:
    """Whether the next `git add --all` would add a file."""
    inside = _inside(checkout, path)
    return inside is not None and checkout.repository is not None and not checkout.repository.path_is_ignored(inside)


def _inside(checkout: Checkout, path: Path) -> str | None:
    """Return a path from the checkout's root; None for one elsewhere."""
    try:
        return path.resolve().relative_to(checkout.root.resolve()).as_posix()
    except ValueError:
        return None


def _tracked(repository: pygit2.Repository, path: str) -> bool:
    """Whether a path is in git's index or in the commit at HEAD."""
    repository.index.read()
    if path in repository.index:
        return True
    return not repository.head_is_unborn and path in repository.head.peel(pygit2.Commit).tree


def read_csv(path: Path, imported: Import) -> SourceRecords:
    """Read every line of a CSV. Raises NothingImported with the line if it is invalid."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(LARGE + 1)
    except OSError as error:
        raise NothingImported(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > LARGE:
        raise NothingImported(f"{path}: a CSV may have {LARGE // LIMIT} MiB at most")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise NothingImported(f"{path}:{line}: not UTF-8: save it in that encoding") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, imported), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise NothingImported(f"{path}:{reader.line_num}: not CSV: {error}; nothing was changed") from None
    if not rows:
        raise NothingImported(f"{path} is empty: its first line has to name the columns")
    columns = tuple(name.strip() for name in rows[0][1])
    _check_columns(path, columns, imported)
    for line, row in rows[1:]:
        if len(row) != len(columns):
            what = f"{len(row)} columns, and the first line has {len(columns)}"
            raise NothingImported(f"{path}:{line}: {what}: check its quotes and separators; nothing was changed")
    return SourceRecords([dict(zip(columns, row, strict=True)) for _, row in rows[1:]], whole=True, columns=columns)


def _separator(text: str, imported: Import) -> str:
    """Return what separates the columns: what makes the most of those that are needed out of the first line."""
    first, needed = text.lstrip().partition("\n")[0], {*_used(imported)}

    def found(separator: str) -> int:
        names = next(csv.reader([first], delimiter=separator), ())
        return len(needed.intersection(name.strip() for name in names))

    return max(SEPARATORS, key=found)


def _check_columns(path: Path, columns: tuple[str, ...], imported: Import) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise NothingImported(f"{path}:1: two columns are called {name!r}: rename one")
    for name in _used(imported):
        if name not in columns:
            has = ", ".join(columns)
            raise NothingImported(f"{path}:1: there is no column {name!r}; it has {has}{hint(name, columns)}")


def _used(imported: Import) -> Iterable[str]:
    for source in imported.fills.values():
        yield source.hire if isinstance(source, ByAddress) else source
    yield from imported.only
