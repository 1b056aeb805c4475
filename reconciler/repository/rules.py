"""Read `config/policy.yaml`. A broken one is not an empty one: it blocks new grants."""

from __future__ import annotations

from pydantic import ValidationError

from reconciler.model.errors import Problem
from reconciler.model.policy import PolicyFile, Rule
from reconciler.model.value import Frozen
from reconciler.repository.documents.empty_keys import validated
from reconciler.repository.documents.problems import explain
from reconciler.repository.documents.yaml import BrokenFile, read
from reconciler.repository.git.trees import Tree

__all__ = ["NONE", "POLICY", "Rules", "read_policy"]

POLICY = "config/policy.yaml"


class Rules(Frozen):
    """A revision's rules, with their lines; or that they cannot be read."""

    rules: tuple[tuple[Rule, int | None], ...] = ()
    broken: Problem | None = None


NONE = Rules()
"""The rules of a revision that has no policy."""


def read_policy(tree: Tree) -> tuple[Rules, list[Problem]]:
    """Return a revision's rules, none without the file; and the file's problems."""
    file = tree.find(POLICY)
    if file is None:
        others = [path for path in ("config/policy.yml", "config/policy.json") if tree.find(path) is not None]
        problems = [Problem(path, None, f"not read: rename it to {POLICY}") for path in others]
        return Rules(broken=problems[0] if problems else None), problems
    try:
        document = read(tree.read(file), file.path)
    except BrokenFile as error:
        return Rules(broken=error.problem), [error.problem]
    try:
        rules = validated(PolicyFile, [] if document.data is None else document.data).root
    except ValidationError as error:
        problems = explain(error, list[Rule], document)
        return Rules(broken=problems[0]), problems
    return Rules(tuple((rule, document.line((index,))) for index, rule in enumerate(rules))), []
