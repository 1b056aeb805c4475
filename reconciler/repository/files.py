"""All files of a revision, parsed: settings, manifests, hires and sequences.

One broken file touches only itself (docs/design/rules.md, "Source of truth"): it is in `broken` with its problems, and
everything else is usable. What a file was parsed to is remembered by the id of its content, so that the next revision
parses only what is new. What needs several files at once is checked anew: stems, addresses, variables of a service.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TypeVar, cast

from reconciler.model.base import Model
from reconciler.model.condition import Sequence
from reconciler.model.config_files import AccessRequest, IgnoredAccount, Rule
from reconciler.model.errors import Problem, RepositoryError, Severity
from reconciler.model.failpoints import Failpoint, Reached, unwatched
from reconciler.model.hire import Hire
from reconciler.model.imports import Import
from reconciler.model.manifest import Manifest
from reconciler.model.settings import OWN, Settings
from reconciler.model.text import hint
from reconciler.model.value import Frozen
from reconciler.repository.config_files import Listed, Offers, read_ignore, read_policy, read_requestable
from reconciler.repository.documents.checks import manifest_ids, unfilled
from reconciler.repository.documents.problems import MOST, few
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.git.trees import CommitTree, File, Tree, blob_of, lacks_folder
from reconciler.repository.hire_index import NOTHING, HireCache, HireIndex, HireSummary, SavedHires, stem_of
from reconciler.repository.hires import Hires, ParsedHires
from reconciler.repository.naming import is_cases, misplaced_in_config, others, same_stem, shown, unread
from reconciler.repository.needs import circular_among
from reconciler.repository.parallel import MANY, spread
from reconciler.repository.parsing import (
    HIRES,
    IMPORTS,
    MANIFESTS,
    REQUESTS,
    SEQUENCES,
    FileKind,
    ParsedFile,
    parse,
    parse_hire,
    summarize,
)
from reconciler.repository.settings_file import doubtful, read_settings

MAX_LOOKUPS = 1000
"""Changed files from which on a walk over all is no slower than finding each."""

_CLAIMS = f"{OWN!r} is the program itself, whose secrets no other service is given; give it another name"

M = TypeVar("M", bound=Model)


class Files(Frozen, kw_only=True):
    """A revision's files. `broken` has, by kind and stem, the problems of files that cannot be used."""

    revision: str
    settings: Settings
    manifests: dict[str, Loaded[Manifest]]
    hires: Hires
    sequences: dict[str, Loaded[Sequence]]
    imports: dict[str, Loaded[Import]]
    broken: dict[str, dict[str, list[Problem]]]
    problems: list[Problem]
    ignore: tuple[IgnoredAccount, ...] = ()
    """Accounts that need no owner."""
    policy: Listed[Rule] = Listed()
    """Who may hold what."""
    requests: Mapping[str, Loaded[AccessRequest]] = {}
    """Access that somebody asked for."""
    offers: Offers = Offers()
    """What may be asked for."""


class Reader:
    """Loads revisions, caching what it parsed; in the file `cache` from one start to the next."""

    def __init__(
        self,
        cache: Path | None = None,
        reached: Reached = unwatched,
        *,
        root: Path | None = None,
        known: Mapping[str, HireSummary] | None = None,
    ) -> None:
        """`root` is the checkout's, for settings that must not lead into it.

        With `known`, summaries from an earlier run, it is for a command that loads one revision and ends: very many
        files are parsed by several processes, and of files as they stand those that are known are not read.
        """
        self._cache = HireCache(cache) if cache is not None else None
        self._root = root
        self._reached = reached
        self._saved = SavedHires(None, known) if known is not None else None
        """What is known from before the start; `NOTHING` once a revision was loaded."""
        self._once = known is not None
        self._unsaved = False
        """Whether hires were parsed, or all files looked at, since the cache was saved."""
        self._parsed: dict[str, ParsedFile] = {}
        self._index = HireIndex()
        self._indexed: Tree | None = None
        """The revision that `_index` is of."""
        self._misnamed: dict[str, list[Problem]] = {}
        """The problems of files in hires/ that are not read, by path."""
        self._files: Files | None = None
        self._ahead: Files | None = None
        """What was read ahead and not yet asked for."""
        self._loading = Lock()
        self.without_hires = False
        """Whether a revision without `hires/` is read all the same: for what a person takes away by hand."""

    def settings(self, tree: Tree) -> Settings:
        """Return the settings of a revision, defaults if it has none. Raises SettingsError if they are broken."""
        return read_settings(tree, self._root)

    def load(self, tree: Tree) -> Files:
        """Load all files of a revision.

        Raises SettingsError where the settings cannot be read, and RepositoryError where there is no `hires/` or no
        `manifests/` at all: an emptied repository must not look like one in which nobody should have anything.
        """
        if isinstance(tree, CommitTree):
            if self._ahead is not None and self._ahead.revision == tree.revision:
                self._files, self._ahead = self._ahead, None
            if self._files is not None and self._files.revision == tree.revision:
                return self._files
        with self._loading:
            self._files = self._load(tree)
        return self._files

    def read_ahead(self, tree: CommitTree) -> None:
        """Load in a thread what is to be in force next: until `load` is asked for that, it has the revision before."""
        with self._loading:
            if self._files is None or self._files.revision != tree.revision:
                self._ahead = self._load(tree)

    def _load(self, tree: Tree) -> Files:
        settings = self.settings(tree)
        if (why := lacks_folder(tree, hires=not self.without_hires)) is not None:
            raise RepositoryError(why)
        found = _Loading()
        with _no_collection():
            manifests = self._folder(tree, MANIFESTS, found)
            sequences = self._folder(tree, SEQUENCES, found)
            imports = self._folder(tree, IMPORTS, found)
            requests = self._folder(tree, REQUESTS, found)
            self._index = self._updated_index(tree, found)
        self._parsed, self._indexed, self._saved, self._misnamed = found.parsed, tree, NOTHING, found.misnamed
        _check_index(self._index, found, partial(parse_hire, tree))
        for path, skipped in found.misnamed.items():
            if errors := [problem for problem in skipped if problem.severity is Severity.ERROR]:
                found.broken["hires"].setdefault(stem_of(shown(path)), []).extend(errors)
        hires = Hires(self._index, found.broken["hires"], tree, found.hires)
        found.problems += chain.from_iterable(found.misnamed.values())
        _check_variables(manifests, found)
        _check_includes(sequences, found)
        known = [*manifests, *found.broken["manifests"]]
        found.problems += doubtful(tree, settings, known, self._index)
        found.problems += misplaced_in_config([file.path for file in tree.files("config")])
        ignore, wrong = read_ignore(tree, known)
        policy, offers = read_policy(tree), read_requestable(tree)
        found.problems += [*wrong, *policy.problems, *offers.problems, *_of_nobody(requests, hires)]
        problems = sorted(set(found.problems), key=lambda problem: problem.order)
        return Files(
            revision=tree.revision,
            settings=settings,
            manifests=manifests,
            hires=hires,
            sequences=sequences,
            imports=imports,
            broken=found.broken,
            problems=problems,
            ignore=ignore,
            policy=policy,
            requests=requests,
            offers=offers,
        )

    def keep(self) -> None:
        """Save what was parsed for the next start. Only the process that locked the state may call this."""
        if self._cache is not None and self._unsaved:
            with self._loading:
                revision = self._indexed.revision if isinstance(self._indexed, CommitTree) else None
                summaries, misnamed, self._unsaved = self._index.paths.values(), self._misnamed, False
            self._reached(Failpoint.CACHE, done=False)
            self._cache.save(revision, summaries, misnamed)
            self._reached(Failpoint.CACHE, done=True)

    def _updated_index(self, tree: Tree, found: _Loading) -> HireIndex:
        """Return a revision's index: updated by git's changes since the last one, or made from all files."""
        if self._saved is None:
            self._saved = self._cache.load() if self._cache is not None else NOTHING
        paths = self._to_read(tree, self._saved)
        if paths is None or len(paths) > MAX_LOOKUPS:
            self._unsaved |= isinstance(tree, CommitTree)
            return HireIndex(_by_path(self._summaries(tree, tree.files("hires"), found)))
        files = [file for path in sorted(paths) if (file := tree.find(path)) is not None]
        found.misnamed = {path: problems for path, problems in self._misnamed.items() if path not in paths}
        new = self._summaries(tree, files, found)
        if self._indexed is not None:
            return self._index.updated([path for path in paths if path in self._index.paths], list(new))
        kept = dict(self._saved.summaries)
        if paths:  # in the order in which all files are read
            left = (summary for path, summary in kept.items() if path not in paths)
            kept = _by_path(sorted([*left, *new]))
        return HireIndex(kept)

    def _to_read(self, tree: Tree, saved: SavedHires) -> set[str] | None:
        """Return the paths in hires/ that may differ from the index or from what was saved; None if git cannot tell."""
        if not isinstance(tree, CommitTree):
            return None
        if isinstance(self._indexed, CommitTree):
            return _of_hires(tree.changed(self._indexed))
        if self._indexed is None and saved.revision is not None:
            with suppress(RepositoryError):  # what git still has of that revision need not be complete
                before = tree.other(saved.revision)
                return None if before is None else _of_hires(tree.changed(before)) | saved.left_out
        return None

    def _summaries(self, tree: Tree, files: Iterable[File], found: _Loading) -> Iterator[HireSummary]:
        files = list(files)
        often = Counter(file.blob for file in files)
        ahead = self._parsed_ahead(tree, files) if self._once else {}
        for file in files:
            skipped = unread(file.path, HIRES.folder, HIRES.suffixes)
            if skipped is not None:
                if skipped:
                    found.misnamed[file.path] = skipped
                continue
            known = self._known(file)
            if known is None:
                self._unsaved = True
                if (first := found.summaries.get(file.blob)) is not None:
                    yield first.renamed(file.path)
                    continue
                summary, loaded = ahead.get(file.path) or summarize(tree, file)
                if loaded is not None:
                    found.hires.add(loaded)
                if often[file.blob] > 1:
                    found.summaries[file.blob] = summary
                yield summary
            elif self._once or not known.valid or (known.raw is None) == isinstance(tree, CommitTree):
                yield known
            else:
                yield known._replace(raw=None if isinstance(tree, CommitTree) else tree.read(file))

    def _known(self, file: File) -> HireSummary | None:
        known = self._index.paths.get(file.path) or (self._saved or NOTHING).summaries.get(file.path)
        return known if known is not None and known.blob == file.blob else None

    def _parsed_ahead(self, tree: Tree, files: Iterable[File]) -> dict[str, tuple[HireSummary, None]]:
        """Summarize new files by path, each content once, in processes if there are very many."""
        contents: dict[str, File] = {}
        for file in files:
            if self._known(file) is None and unread(file.path, HIRES.folder, HIRES.suffixes) is None:
                contents.setdefault(file.blob, file)
        if len(contents) < MANY:
            return {}
        made = spread(lambda part: [_without_content(tree, file) for file in part], list(contents.values()))
        return {summary.path: (summary, None) for summary in made}

    def _folder(self, tree: Tree, kind: FileKind[M], found: _Loading) -> dict[str, Loaded[M]]:
        stems: dict[str, list[ParsedFile]] = {}
        paths: dict[str, list[str]] = {}
        for file in tree.files(kind.folder):
            if kind is MANIFESTS and is_cases(file.path):
                continue
            path, skipped = PurePosixPath(file.path), unread(file.path, kind.folder, kind.suffixes)
            if skipped is not None:
                found.problems += skipped
                continue
            parsed = self._parsed.get(file.path)
            if parsed is None or parsed.blob != file.blob:
                first = found.files.get((kind.name, file.blob, path.suffix))
                parsed = parse(tree, file, kind) if first is None else first.renamed(file.path)
            found.files[kind.name, file.blob, path.suffix] = parsed
            found.parsed[file.path] = parsed
            found.problems += parsed.problems
            stems.setdefault(path.stem, []).append(parsed)
            paths.setdefault(path.stem, []).append(file.path)
        valid: dict[str, Loaded[M]] = {}
        for stem, several in stems.items():
            loaded = several[0].loaded
            if len(several) > 1:
                alike = same_stem(stem, paths[stem], kind.name)
                found.problems += alike
                found.broken[kind.name][stem] = [problem for each in several for problem in each.problems] + alike
            elif loaded is None:
                found.broken[kind.name][stem] = list(several[0].problems)
            elif kind in (MANIFESTS, IMPORTS) and (getattr(loaded.model, "service", None) or stem) == OWN:
                claims = [Problem(loaded.path, loaded.document.line(("service",)), _CLAIMS)]
                found.problems += claims
                found.broken[kind.name][stem] = claims
            else:
                valid[stem] = cast("Loaded[M]", loaded)
        return valid


def _of_hires(paths: Iterable[str]) -> set[str]:
    """Return those that are listed in hires/: a name that begins with a dot is not."""
    return {path for path in paths if path.startswith("hires/") and "/." not in path}


def _by_path(summaries: Iterable[HireSummary]) -> dict[str, HireSummary]:
    return {summary.path: summary for summary in summaries}


def _without_content(tree: Tree, file: File) -> HireSummary:
    """Return a file's summary. Contents are read again rather than kept, except of recently changed files."""
    summary, _ = summarize(tree, file)
    hashed = summary.raw is None or blob_of(summary.raw) == file.blob
    return summary._replace(raw=None) if hashed else summary


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection meanwhile: all objects made here stay, and scanning them costs 40 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Loading:
    """What one load collects; a load that fails leaves nothing behind.

    `misnamed` are the problems of files in hires/ that are not read, by path, `hires` those that were parsed. `files`
    (of a kind) and `summaries` are by content, which may stand under many names.
    """

    def __init__(self) -> None:
        self.misnamed: dict[str, list[Problem]] = {}
        self.hires = ParsedHires()
        self.parsed: dict[str, ParsedFile] = {}
        self.files: dict[tuple[str, str, str], ParsedFile] = {}
        self.summaries: dict[str, HireSummary] = {}
        self.problems: list[Problem] = []
        self.broken: dict[str, dict[str, list[Problem]]] = {
            kind.name: {} for kind in (MANIFESTS, HIRES, SEQUENCES, IMPORTS, REQUESTS)
        }


def _check_index(index: HireIndex, found: _Loading, parsed: Callable[[HireSummary], Loaded[Hire]]) -> None:
    """Collect the problems of hires' files: their own, duplicate stems, duplicate addresses.

    Addresses are compared without case, broken files count, and it is an error on every file that has the address.
    """
    broken = found.broken["hires"]
    for summary in index.with_problems():
        found.problems += summary.problems
        if not summary.valid:
            broken[summary.stem] = list(summary.problems)
    for stem, paths in index.shared_stems().items():
        alike = same_stem(stem, paths, HIRES.name)
        found.problems += alike
        broken[stem] = [problem for path in paths for problem in index.paths[path].problems] + alike
    lines: dict[str, int | None] = {}
    for paths in index.shared_addresses():
        for path in paths:
            summary = index.paths[path]
            what = f"email: {others(path, paths)} has this address too: an address belongs to one hire"
            if summary.blob not in lines:
                line = parsed(summary).document.line(("email",)) if summary.valid else summary.email_line
                lines[summary.blob] = line
            problem = Problem(path, lines[summary.blob], what)
            found.problems.append(problem)
            broken.setdefault(summary.stem, []).append(problem)


def _of_nobody(requests: Mapping[str, Loaded[AccessRequest]], hires: Hires) -> Iterator[Problem]:
    """Report the requests of hires that are not there."""
    for loaded in requests.values():
        hire = loaded.model.hire
        if hire not in hires.index:
            message = f"hire: there is no hires/{hire}.yaml{hint(hire, hires.index)}"
            yield Problem(loaded.path, loaded.document.line(("hire",)), message)


def _check_includes(sequences: dict[str, Loaded[Sequence]], found: _Loading) -> None:
    """Set aside the sequences that include each other in a circle."""
    circular = circular_among({name: each.model.include for name, each in sequences.items()})
    for name in circular:
        loaded = sequences.pop(name)
        message = f"include: goes in a circle among {', '.join(sorted(circular))}"
        problem = Problem(loaded.path, loaded.document.line(("include",)), message)
        found.problems.append(problem)
        found.broken["sequences"][name] = [problem]


def _check_variables(manifests: dict[str, Loaded[Manifest]], found: _Loading) -> None:
    """Warn of placeholders without a value; the manifests of one service give each other values."""
    given: dict[str, set[str]] = {}
    for stem, loaded in manifests.items():
        given.setdefault(loaded.model.service or stem, set()).update(manifest_ids(loaded.model))
    for stem, loaded in manifests.items():
        if loaded.model.service is None or not found.broken["manifests"]:
            # Else the one that gives it may be the broken one.
            found.problems += few(islice(unfilled(loaded.document, given[loaded.model.service or stem]), MOST + 1))
