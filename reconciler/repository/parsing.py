"""Parse one file: its YAML, its types, and the checks that need no other file.

What needs several files at once is checked where a revision is loaded (`files`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from sys import intern
from typing import Any, Generic, TypeVar

from reconciler.model.base import EMAIL, Model
from reconciler.model.condition import Sequence
from reconciler.model.config_files import AccessRequest
from reconciler.model.errors import Problem, RepositoryError, Severity
from reconciler.model.hire import Hire
from reconciler.model.imports import Import
from reconciler.model.manifest import Manifest
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.checks import hire_problems, import_problems, manifest_problems
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import few, model_of
from reconciler.repository.documents.yaml import Document, Loaded, read
from reconciler.repository.git.trees import CommitTree, File, Tree, blob_of
from reconciler.repository.hire_index import HireSummary, stem_of
from reconciler.repository.naming import YAML

M = TypeVar("M", bound=Model)

_ADDRESS = re.compile(rb"""^["']?email["']?[ \t]*:[ \t]*["']?([^\s"']+)""", re.MULTILINE)


class FileKind(Frozen, Generic[M], kw_only=True):
    """A kind of file: its folder, suffixes, and checks beyond its types."""

    name: str
    folder: str
    model: type[M]
    suffixes: tuple[str, ...]
    check: Callable[[Any, Document], Iterator[Problem]] = lambda _model, _document: iter(())


MANIFESTS = FileKind(
    name="manifests", folder="manifests", model=Manifest, suffixes=(*YAML, ".json"), check=manifest_problems
)
HIRES = FileKind(name="hires", folder="hires", model=Hire, suffixes=YAML, check=hire_problems)
SEQUENCES = FileKind(name="sequences", folder="config/sequences", model=Sequence, suffixes=YAML)
REQUESTS = FileKind(name="requests", folder="config/requests", model=AccessRequest, suffixes=YAML)
IMPORTS = FileKind(
    name="imports", folder="config/imports", model=Import, suffixes=(*YAML, ".json"), check=import_problems
)


class ParsedFile(Frozen):
    """The result of parsing a file: `loaded` if it is valid. Of a broken hire the address is kept, if it has one."""

    blob: str
    loaded: Loaded[Any] | None
    problems: tuple[Problem, ...]
    email: str | None = None
    email_line: int | None = None

    def renamed(self, path: str) -> ParsedFile:
        """Return the same content under another name."""
        loaded = self.loaded
        if loaded is not None:
            document = loaded.document.called(path)
            loaded = replace(loaded, stem=PurePosixPath(path).stem, path=path, document=document)
        return replace(self, loaded=loaded, problems=tuple(replace(problem, file=path) for problem in self.problems))


def parse(tree: Tree, file: File, kind: FileKind[M]) -> ParsedFile:
    """Parse a file of a tree."""
    try:
        raw = tree.read(file)
    except BrokenFile as error:
        return ParsedFile(file.blob, None, (error.problem,))
    return _parse(raw, file, kind)


def parse_hire(tree: Tree, summary: HireSummary) -> Loaded[Hire]:
    """Parse a hire whose file is known to be valid. Raises RepositoryError if it is not any more."""
    loaded = _parse(read_hire(tree, summary), File(summary.path, summary.blob), HIRES).loaded
    assert loaded is not None
    return loaded


def read_hire(tree: Tree, summary: HireSummary) -> bytes:
    """Read the content that a hire's file had. Raises RepositoryError if it has another by now."""
    if summary.raw is not None:
        return summary.raw
    raw = tree.read(File(summary.path, summary.blob))
    if not isinstance(tree, CommitTree) and blob_of(raw) != summary.blob:
        raise RepositoryError(f"{summary.path} was changed while it was read: run the command again")
    return raw


def summarize(tree: Tree, file: File) -> tuple[HireSummary, Loaded[Hire] | None]:
    """Parse a hire's file for its summary; if it is valid, return the hire too."""
    try:
        raw = tree.read(file)
    except BrokenFile as error:
        return HireSummary(path=file.path, blob=file.blob, valid=False, problems=(error.problem,)), None
    parsed = _parse(raw, file, HIRES)
    summary = HireSummary(
        path=file.path,
        blob=file.blob,
        valid=parsed.loaded is not None,
        email=parsed.email,
        email_line=parsed.email_line,
        problems=parsed.problems,
        raw=None if isinstance(tree, CommitTree) else raw,
    )
    if parsed.loaded is None:
        return summary, None
    hire: Hire = parsed.loaded.model
    summary = summary._replace(
        email=intern(hire.email),
        sequences=tuple(map(intern, hire.sequences)),
        references=tuple(map(intern, hire.references.values())),
        integrations=_shared(tuple(intern(entry.integration) for entry in hire.access)),
    )
    return summary, parsed.loaded


def _parse(raw: bytes, file: File, kind: FileKind[M]) -> ParsedFile:
    try:
        document = read(raw, file.path)
    except BrokenFile as error:
        return ParsedFile(file.blob, None, (error.problem,), *_written_address(raw))
    data = document.data
    if data is None:
        problem = Problem(
            file.path, None, f"the file is empty: `reconcile schema` tells what {kind.folder}/ files have"
        )
        return ParsedFile(file.blob, None, (problem,))
    email = data.get("email") if isinstance(data, dict) and isinstance(data.get("email"), str) else None
    try:
        model = model_of(document, kind.model)
    except BrokenFile as error:
        return _broken(file, document, error.problems, email)
    problems = tuple(few(kind.check(model, document)))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return _broken(file, document, problems, email)
    loaded = Loaded(
        stem=stem_of(file.path),
        path=file.path,
        blob=file.blob,
        model=model,
        lines=_entry_lines(model, document),
        document=document,
    )
    return ParsedFile(file.blob, loaded, problems, email)


def _written_address(raw: bytes) -> tuple[str, int] | tuple[None, None]:
    """Find the address of a file that is not YAML, and its line: if the file is renamed too, its hire keeps all."""
    found = _ADDRESS.search(raw)
    address = "" if found is None else found[1].decode(errors="replace")
    if found is None or not EMAIL.fullmatch(address):
        return None, None
    return address, raw.count(b"\n", 0, found.start()) + 1


def _broken(file: File, document: Document, problems: Iterable[Problem], email: str | None) -> ParsedFile:
    return ParsedFile(file.blob, None, tuple(problems), email, document.line(("email",)) if email else None)


def _entry_lines(model: Model, document: Document) -> tuple[int, ...]:
    entries = getattr(model, "access", ())
    if not isinstance(entries, Collection):  # a request has one
        return (document.line(("access",)) or 1,)
    lines = document.item_lines("access")
    if len(lines) != len(entries):
        # The list is an alias: its items stand elsewhere, and the line that uses it is the better place.
        lines = [document.line(("access",)) or 1] * len(entries)
    return tuple(lines)


@lru_cache(maxsize=4096)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one tuple for all that are equal."""
    return names
