"""What `validate` found, kept in the state's folder from one run to the next.

A hire without a problem is not looked at again as long as everything stands that its findings follow from. What has
problems is looked at each time: none is reported from the cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import msgspec

from reconciler.ledger.sqlite.lock import refuse_unsafe
from reconciler.model.errors import LedgerError, RepositoryError
from reconciler.model.value import Frozen
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import CommitTree, FolderTree, Stamp, Stamped, Tree, blob_of
from reconciler.repository.hire_index import HireSummary, as_columns, of_columns
from reconciler.repository.hires import Hires
from reconciler.repository.parallel import spread
from reconciler.repository.private_file import VALIDATE_CACHE, PrivateFile
from reconciler.review.findings import Findings, Inspector

WORTH_KEEPING = 2_000
"""Hires, from which on a second to validate them all can be saved."""

Context = tuple[str, ...]
"""The ids of a hire's file, and of the files of those that it names."""


class _Saved(Frozen):
    """What is written: hires as `as_columns` has them, and by path how a file stood and what was found of it.

    That is the place among the `kinds` of findings, and the context.
    """

    surroundings: str
    day: str
    hires: tuple[list[Any], ...]
    stamps: Mapping[str, Stamp]
    found: Mapping[str, tuple[int, Context]]
    kinds: list[Findings]


class Validated:
    """What an earlier run found, or this one in another revision, and what it finds.

    Without a checkout, or a state's folder in it, nothing is kept from one run to the next.
    """

    def __init__(self, checkout: Checkout | None = None) -> None:
        ours = checkout is not None and _is_ours(checkout)
        self._file = PrivateFile(checkout.root / VALIDATE_CACHE) if checkout is not None and ours else None
        self.stamped: Mapping[str, Stamped] = {}
        self.summaries: dict[str, HireSummary] = {}
        self._surroundings = ""
        self._day = ""
        self._known: dict[str, tuple[Context, Findings]] = {}
        self._found: dict[str, tuple[Context, Findings]] = {}
        if self._file is not None and (content := self._file.read()) is not None:
            saved = msgspec.json.decode(content, type=_Saved)
            self._surroundings, self._day = saved.surroundings, saved.day
            self.summaries = of_columns(saved.hires)
            self.stamped = {path: (stamp, self.summaries[path].blob) for path, stamp in saved.stamps.items()}
            self._known = {path: (context, saved.kinds[kind]) for path, (kind, context) in saved.found.items()}

    def begin(self, tree: Tree) -> None:
        """Forget what was found in other surroundings than a revision has; to be called before it is loaded."""
        surroundings = _surroundings(tree)
        self._known = self._known | self._found if surroundings == self._surroundings else {}
        self._found = {}
        self._surroundings = surroundings

    def on(self, day: date) -> None:
        """Forget what may be another thing on this day."""
        if day.isoformat() != self._day:
            self._known = {path: known for path, known in self._known.items() if not known[1].dated}
        self._day = day.isoformat()

    def of(self, file: HireSummary, hires: Hires) -> Findings | None:
        """What is known of a hire; None where it has to be looked at."""
        known = self._known.get(file.path)
        if known is None or known[0] != _context(file, hires):
            return None
        self._found[file.path] = known
        return known[1]

    def note(self, file: HireSummary, hires: Hires, findings: Findings) -> None:
        """Remember what was found of a hire, where nothing is wrong with it and its file is what was hashed."""
        context = _context(file, hires)
        hashed = file.raw is None or blob_of(file.raw) == file.blob
        if context is not None and hashed and not (findings.problems or file.problems):
            self._found[file.path] = (context, findings)

    def keep(self, tree: FolderTree, hires: Hires) -> None:
        """Write down what was found, if that is another thing than what was known; few are as soon looked at again."""
        if len(self._found) < WORTH_KEEPING:
            return
        stamped = {path: tree.stamped[path] for path in self._found if path in tree.stamped}
        if self._file is None or (self._found == self._known and stamped == self.stamped):
            return
        if _surroundings(tree) != self._surroundings:
            return  # somebody edits them just now: which version was read is unknown
        files = (hires.file(stem) for stem in hires)
        kinds: dict[Findings, int] = {}
        found = {
            path: (kinds.setdefault(findings, len(kinds)), context) for path, (context, findings) in self._found.items()
        }
        columns = as_columns(file for file in files if file is not None and file.path in found)
        stamps = {path: stamp for path, (stamp, _) in stamped.items()}
        saved = _Saved(self._surroundings, self._day, columns, stamps=stamps, found=found, kinds=list(kinds))
        self._file.write(msgspec.json.encode(saved))


def found_in(inspector: Inspector, validated: Validated) -> Iterator[tuple[str, Findings]]:
    """What is found of each hire; of those that are not known, by several processes where they are very many."""
    hires, left = inspector.desired.hires, []
    for hire in hires:
        known = validated.of(hires.index.file(hire), hires)
        if known is None:
            left.append(hire)
        else:
            yield hire, known
    for hire, findings in zip(left, spread(inspector.of_all, left), strict=True):
        validated.note(hires.index.file(hire), hires, findings)
        yield hire, findings


def _context(file: HireSummary, hires: Hires) -> Context | None:
    """None if a hire that it refers to cannot be read: the cause may be in further files."""
    named = [hires.file(hire) for hire in file.references]
    return None if None in named else (file.blob, *(each.blob for each in named if each is not None))


def _surroundings(tree: Tree) -> str:
    """A digest of the files that every hire's findings follow from."""
    files = sorted((file.path, file.blob) for folder in ("config", "manifests") for file in tree.files(folder))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _is_ours(checkout: Checkout) -> bool:
    """Whether there is a state's folder that nobody else could have written to, a commit of a pull request neither."""
    file = checkout.root / VALIDATE_CACHE
    if not file.parent.is_dir():
        return False
    try:
        refuse_unsafe(file)
        head = checkout.head() if checkout.head_id() is not None else None
        return not (isinstance(head, CommitTree) and any(head.below(file.parent.name)))
    except (LedgerError, RepositoryError):
        return False
