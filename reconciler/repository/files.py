"""All files of a revision, parsed: settings, manifests, hires and sequences.

One broken file touches only itself (docs/design/rules.md, "Source of truth"): it stands in `broken` with its problems,
and everything else is there. What a file said is remembered by the id of its content, so that the next revision parses
only what is new. What needs several files at once is checked anew each time: stems, addresses, a service's variables.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from sys import intern
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from reconciler.model.base import Model
from reconciler.model.errors import Problem, RepositoryError, SettingsError, Severity
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.hire import Hire, HireRef, Sequence
from reconciler.model.manifest import Manifest
from reconciler.model.settings import DEFAULT, Settings
from reconciler.repository.documents.checks import hire_problems, manifest_ids, manifest_problems, unfilled
from reconciler.repository.documents.problems import MOST, explain, few, near
from reconciler.repository.documents.yaml import BrokenFile, Document, read
from reconciler.repository.git.trees import CommitTree, File, Tree
from reconciler.repository.hire_cache import keep, recall
from reconciler.repository.hires import Hires, HireSummary, Index, Whole
from reconciler.repository.naming import YAML, others, shown, twins, unread
from reconciler.repository.reach import objection_to_home

__all__ = ["SETTINGS", "Files", "Loaded", "Reader"]

SETTINGS = "config/reconciler.yaml"

MANY = 1000
"""Changed files from which on a whole walk is no slower than finding each."""

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """A file that is in order. `lines` are those of its access entries, one for each."""

    stem: str
    path: str
    blob: str
    model: M
    lines: tuple[int, ...]
    document: Document = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Files:
    """What a revision says. `broken` has, for each kind and stem, the problems of what could not be used."""

    revision: str
    settings: Settings
    manifests: dict[str, Loaded[Manifest]]
    hires: Hires
    sequences: dict[str, Loaded[Sequence]]
    broken: dict[str, dict[str, list[Problem]]]
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class _Kind(Generic[M]):
    """One kind of file: where it is, what it is called, and what is checked beyond its types."""

    name: str
    folder: str
    model: type[M]
    endings: tuple[str, ...]
    check: Callable[[Any, Document], Iterator[Problem]]


def _nothing_more(_model: Model, _document: Document) -> Iterator[Problem]:
    return iter(())


_MANIFESTS = _Kind("manifests", "manifests", Manifest, (*YAML, ".json"), manifest_problems)
_HIRES = _Kind("hires", "hires", Hire, YAML, hire_problems)
_SEQUENCES = _Kind("sequences", "config/sequences", Sequence, YAML, _nothing_more)


@dataclass(frozen=True, slots=True)
class _Parsed:
    """What one file came to: `loaded` where it is in order. A broken hire's address is kept too, where it has one."""

    blob: str
    loaded: Loaded[Any] | None
    problems: tuple[Problem, ...]
    email: str | None = None
    email_line: int | None = None


class Reader:
    """Reads revisions, and remembers what it parsed, in `kept_in` from one start to the next."""

    def __init__(self, kept_in: Path | None = None, reached: Reached = unwatched, *, root: Path | None = None) -> None:
        """`root` is the checkout's, for settings that must not lead into it."""
        self._kept_in = kept_in
        self._root = root
        self._reached = reached
        self._recalled: dict[str, HireSummary] | None = None
        self._fresh = 0
        """How many hires were parsed since they were last kept."""
        self._parsed: dict[str, _Parsed] = {}
        self._people = Index()
        self._read: Tree | None = None
        """The revision that `_people` is the index of."""
        self._misnamed: list[Problem] = []
        self._files: Files | None = None

    def settings(self, tree: Tree) -> Settings:
        """The settings of a revision, all defaults where it has none. Raises SettingsError where they are broken."""
        file = tree.find(SETTINGS)
        if file is None:
            for other in ("config/reconciler.yml", "config/reconciler.json"):
                if tree.find(other) is not None:
                    raise SettingsError([Problem(other, None, f"settings are read from {SETTINGS}: rename the file")])
            return Settings()
        try:
            document = read(tree.read(file), file.path)
        except BrokenFile as error:
            raise SettingsError([error.problem]) from error
        try:
            settings = Settings.model_validate({} if document.data is None else document.data)
        except ValidationError as error:
            raise SettingsError(explain(error, Settings, document)) from None
        objection = (
            None
            if self._root is None or settings.gnupg_home is None
            else objection_to_home(self._root, settings.gnupg_home)
        )
        if objection is not None:
            line = document.line(("gnupg_home",))
            raise SettingsError([Problem(SETTINGS, line, f"gnupg_home: {objection}")])
        return settings

    def load(self, tree: Tree) -> Files:
        """Everything that a revision says.

        Raises SettingsError where the settings cannot be read, and RepositoryError where there is no `hires/` or no
        `manifests/` at all: an emptied repository must not look like one in which nobody should have anything.
        """
        if isinstance(tree, CommitTree) and self._files is not None and self._files.revision == tree.revision:
            return self._files
        settings = self.settings(tree)
        for folder in ("hires", "manifests"):
            if not tree.has(folder):
                raise RepositoryError(
                    f"there is no {folder}/ folder at {tree.revision}: give the repository's root with --repo, or run "
                    "`reconcile init` for a new one"
                )
        found = _Gathering()
        with _no_collection():
            manifests = self._folder(tree, _MANIFESTS, found)
            sequences = self._folder(tree, _SEQUENCES, found)
            self._people = self._index(tree, found)
        self._parsed, self._read, self._recalled, self._misnamed = found.parsed, tree, {}, found.misnamed
        _tell(self._people, found, partial(_whole, tree))
        hires = Hires(self._people, found.broken["hires"], partial(_whole, tree), found.whole)
        found.problems += found.misnamed
        _fill(manifests, found)
        if isinstance(settings.prune, dict):
            known = [DEFAULT, *manifests, *found.broken["manifests"]]
            found.problems += _unknown_pruned(tree, settings.prune, known)
        problems = sorted(
            set(found.problems), key=lambda each: (each.file, each.line or 0, each.severity, each.message)
        )
        self._files = Files(tree.revision, settings, manifests, hires, sequences, found.broken, problems)
        return self._files

    def _index(self, tree: Tree, found: _Gathering) -> Index:
        """The hires' files: what git says has changed since the revision read before, or all that there is."""
        paths = None
        if isinstance(self._read, CommitTree) and isinstance(tree, CommitTree):
            paths = sorted(path for path in tree.changed(self._read) if path.startswith("hires/"))
        if paths is None or len(paths) > MANY:
            return Index(self._slims(tree, tree.files("hires"), found))
        files = [file for path in paths if (file := tree.find(path)) is not None]
        names = {shown(path) for path in paths}
        found.misnamed = [problem for problem in self._misnamed if problem.file not in names]
        gone = [path for path in paths if path in self._people.paths]
        return self._people.updated(gone, list(self._slims(tree, files, found)))

    def keep(self) -> None:
        """Keep what was parsed for the next start, where something was. Only who holds the state may call this."""
        if self._kept_in is not None and self._fresh:
            self._reached(Failpoint.CACHE, done=False)
            keep(self._kept_in, self._people.paths.values())
            self._reached(Failpoint.CACHE, done=True)
            self._fresh = 0

    def _slims(self, tree: Tree, files: Iterable[File], found: _Gathering) -> Iterator[HireSummary]:
        if self._recalled is None:
            self._recalled = recall(self._kept_in) if self._kept_in is not None else {}
        files = list(files)
        often = Counter(file.blob for file in files)
        for file in files:
            skipped = unread(file.path, _HIRES.folder, _HIRES.endings)
            if skipped is not None:
                found.misnamed += skipped
                continue
            known = self._people.paths.get(file.path) or self._recalled.get(file.path)
            if known is None or known.blob != file.blob:
                self._fresh += 1
                if (first := found.slims.get(file.blob)) is not None:
                    yield _as_named(first, file.path)
                    continue
                summary, whole = _slim(tree, file)
                if whole is not None:
                    found.whole.keep(whole)
                if often[file.blob] > 1:
                    found.slims[file.blob] = summary
                yield summary
            elif (known.raw is None) == isinstance(tree, CommitTree):
                yield known
            else:
                yield replace(known, raw=None if isinstance(tree, CommitTree) else tree.read(file))

    def _folder(self, tree: Tree, kind: _Kind[M], found: _Gathering) -> dict[str, Loaded[M]]:
        stems: dict[str, list[_Parsed]] = {}
        paths: dict[str, list[str]] = {}
        for file in tree.files(kind.folder):
            path, skipped = PurePosixPath(file.path), unread(file.path, kind.folder, kind.endings)
            if skipped is not None:
                found.problems += skipped
                continue
            parsed = self._parsed.get(file.path)
            if parsed is None or parsed.blob != file.blob:
                first = found.files.get((file.blob, path.suffix))
                parsed = _read_and_parse(tree, file, path.stem, kind) if first is None else _renamed(first, file.path)
            found.files[file.blob, path.suffix] = parsed
            found.parsed[file.path] = parsed
            found.problems += parsed.problems
            stems.setdefault(path.stem, []).append(parsed)
            paths.setdefault(path.stem, []).append(file.path)
        good: dict[str, Loaded[M]] = {}
        for stem, several in stems.items():
            loaded = several[0].loaded
            if len(several) > 1:
                alike = twins(stem, paths[stem], kind.name)
                found.problems += alike
                found.broken[kind.name][stem] = [problem for each in several for problem in each.problems] + alike
            elif loaded is None:
                found.broken[kind.name][stem] = list(several[0].problems)
            else:
                good[stem] = cast("Loaded[M]", loaded)
        return good


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection: all that is made here stays, and looking through it costs 40 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Gathering:
    """What one load comes across; of one that fails nothing is left.

    `misnamed` tells of the files in hires/ that are not read, `whole` keeps the hires that were parsed. `files` and
    `slims` have what one content came to, which may stand under many names.
    """

    def __init__(self) -> None:
        self.misnamed: list[Problem] = []
        self.whole = Whole()
        self.parsed: dict[str, _Parsed] = {}
        self.files: dict[tuple[str, str], _Parsed] = {}
        self.slims: dict[str, HireSummary] = {}
        self.problems: list[Problem] = []
        self.broken: dict[str, dict[str, list[Problem]]] = {"manifests": {}, "hires": {}, "sequences": {}}


def _parse(raw: bytes, file: File, stem: str, kind: _Kind[M]) -> _Parsed:
    try:
        document = read(raw, file.path)
    except BrokenFile as error:
        return _Parsed(file.blob, None, (error.problem,))
    data = document.data
    if data is None:
        problem = Problem(
            file.path, None, f"the file is empty: `reconcile schema` tells what {kind.folder}/ files have"
        )
        return _Parsed(file.blob, None, (problem,))
    email = data.get("email") if isinstance(data, dict) and isinstance(data.get("email"), str) else None
    try:
        model = kind.model.model_validate(data)
    except ValidationError as error:
        return _broken(file, document, explain(error, kind.model, document), email)
    problems = tuple(few(kind.check(model, document)))
    if any(problem.severity is Severity.ERROR for problem in problems):
        return _broken(file, document, problems, email)
    lines = _entry_lines(model, document)
    loaded = Loaded(stem, file.path, file.blob, model, lines, document)
    return _Parsed(file.blob, loaded, problems, email)


def _read_and_parse(tree: Tree, file: File, stem: str, kind: _Kind[M]) -> _Parsed:
    try:
        return _parse(tree.read(file), file, stem, kind)
    except BrokenFile as error:
        return _Parsed(file.blob, None, (error.problem,))


def _as_named(summary: HireSummary, path: str) -> HireSummary:
    """The same content under another name."""
    return replace(summary, path=path, problems=tuple(replace(problem, file=path) for problem in summary.problems))


def _renamed(parsed: _Parsed, path: str) -> _Parsed:
    """The same content under another name."""
    loaded = parsed.loaded
    if loaded is not None:
        document = loaded.document.called(path)
        loaded = replace(loaded, stem=PurePosixPath(path).stem, path=path, document=document)
    return replace(parsed, loaded=loaded, problems=tuple(replace(problem, file=path) for problem in parsed.problems))


def _broken(file: File, document: Document, problems: Iterable[Problem], email: str | None) -> _Parsed:
    return _Parsed(file.blob, None, tuple(problems), email, document.line(("email",)) if email else None)


def _entry_lines(model: Model, document: Document) -> tuple[int, ...]:
    entries = getattr(model, "access", ())
    lines = document.item_lines("access")
    if len(lines) != len(entries):
        # The list is an alias: its items stand elsewhere, and where it is used is the better place.
        lines = [document.line(("access",)) or 1] * len(entries)
    return tuple(lines)


def _slim(tree: Tree, file: File) -> tuple[HireSummary, Loaded[Hire] | None]:
    """Parse a hire's file for what is remembered of it; the hire too, where the file is in order."""
    stem = PurePosixPath(file.path).stem
    try:
        raw = tree.read(file)
    except BrokenFile as error:
        return HireSummary(file.path, file.blob, sound=False, problems=(error.problem,)), None
    parsed = _parse(raw, file, stem, _HIRES)
    kept = None if isinstance(tree, CommitTree) else raw
    if parsed.loaded is None:
        broken = HireSummary(
            file.path, file.blob, False, parsed.email, parsed.email_line, problems=parsed.problems, raw=kept
        )
        return broken, None
    hire: Hire = parsed.loaded.model
    knows = tuple(person.hire for person in (hire.manager, hire.buddy) if isinstance(person, HireRef))
    summary = HireSummary(
        file.path,
        file.blob,
        True,
        intern(hire.email),
        sequences=tuple(map(intern, hire.sequences)),
        knows=tuple(map(intern, knows)),
        integrations=_shared(tuple(intern(entry.integration) for entry in hire.access)),
        problems=parsed.problems,
        raw=kept,
    )
    return summary, parsed.loaded


@lru_cache(maxsize=4096)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all that hold the same."""
    return names


def _whole(tree: Tree, summary: HireSummary) -> Loaded[Hire]:
    """A hire whose file is known to be in order."""
    file = File(summary.path, summary.blob)
    loaded = _parse(summary.raw if summary.raw is not None else tree.read(file), file, summary.stem, _HIRES).loaded
    assert loaded is not None
    return loaded


def _tell(people: Index, found: _Gathering, whole: Callable[[HireSummary], Loaded[Hire]]) -> None:
    """What is wrong with hires' files: each by itself, two with one stem, two with one address.

    Addresses are compared without case, broken files count, and it is an error on both.
    """
    broken = found.broken["hires"]
    for summary in people.troubled():
        found.problems += summary.problems
        if not summary.sound:
            broken[summary.stem] = list(summary.problems)
    for stem, paths in people.twins().items():
        alike = twins(stem, paths, _HIRES.name)
        found.problems += alike
        broken[stem] = [problem for path in paths for problem in people.paths[path].problems] + alike
    lines: dict[str, int | None] = {}
    for paths in people.shared():
        for path in paths:
            summary = people.paths[path]
            what = f"email: {others(path, paths)} has this address too: an address belongs to one hire"
            if summary.blob not in lines:
                lines[summary.blob] = whole(summary).document.line(("email",)) if summary.sound else summary.email_line
            line = lines[summary.blob]
            problem = Problem(path, line, what)
            found.problems.append(problem)
            broken.setdefault(summary.stem, []).append(problem)


def _unknown_pruned(tree: Tree, prune: Iterable[str], known: list[str]) -> list[Problem]:
    """A warning for each integration that `prune` names and that is not there."""
    file = tree.find(SETTINGS)
    unknown = [name for name in prune if name not in known]
    if file is None or not unknown:
        return []
    document = read(tree.read(file), file.path)
    return [
        Problem(
            file.path,
            document.line(("prune", name)),
            f"prune.{name}: there is no integration of that name{near(name, known)}",
            Severity.WARNING,
        )
        for name in unknown
    ]


def _fill(manifests: dict[str, Loaded[Manifest]], found: _Gathering) -> None:
    """Placeholders that nothing gives; the manifests of one service give to each other."""
    given: dict[str, set[str]] = {}
    for stem, loaded in manifests.items():
        given.setdefault(loaded.model.service or stem, set()).update(manifest_ids(loaded.model))
    for stem, loaded in manifests.items():
        if loaded.model.service is None or not found.broken["manifests"]:
            # Else the one that gives it may be the broken one.
            found.problems += few(islice(unfilled(loaded.document, given[loaded.model.service or stem]), MOST + 1))
