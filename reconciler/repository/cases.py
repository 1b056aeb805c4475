"""Read the tests of manifests, `manifests/NAME.test.yaml`. Only `validate` and `test` do; no pass needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import PurePosixPath

from reconciler.model.case import Case, CaseFile
from reconciler.model.errors import Problem
from reconciler.model.text import hint
from reconciler.model.value import Frozen
from reconciler.repository.config_files import read_list
from reconciler.repository.git.trees import Tree
from reconciler.repository.naming import CASES, is_cases


class LoadedCases(Frozen):
    """A file's cases, each with its line; none and the problems where it cannot be read."""

    path: str
    cases: tuple[tuple[Case, int | None], ...] = ()
    problems: tuple[Problem, ...] = ()


def _stem_of(path: str) -> str:
    """Return the stem of the manifest that a file has the tests of."""
    name = PurePosixPath(path).name
    return name[: -len(next(suffix for suffix in CASES if name.endswith(suffix)))]


def read_cases(tree: Tree, manifests: Collection[str]) -> dict[str, LoadedCases]:
    """Read the tests of all manifests of a revision, by the manifest's stem; `manifests` are those that there are."""
    found: dict[str, LoadedCases] = {}
    for file in tree.files("manifests"):
        if not is_cases(file.path):
            continue
        stem = _stem_of(file.path)
        loaded = parse_cases(partial(tree.read, file), file.path)
        if stem not in manifests:
            what = f"there is no manifest {stem} that this could test{hint(stem, manifests)}"
            loaded = LoadedCases(file.path, problems=(*loaded.problems, Problem(file.path, None, what)))
        if (other := found.get(stem)) is not None:
            what = f"{other.path} has the tests of {stem} already: put them into one file"
            loaded = LoadedCases(file.path, other.cases, (*other.problems, Problem(file.path, None, what)))
        found[stem] = loaded
    return found


def parse_cases(content: Callable[[], bytes], path: str) -> LoadedCases:
    """Parse a file's cases."""
    found = read_list(content, path, CaseFile)
    return LoadedCases(path, found.entries, found.problems)
