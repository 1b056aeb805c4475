"""The settings of a revision: config/reconciler.yaml."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from reconciler.model.errors import Problem, SettingsError, Severity
from reconciler.model.settings import Settings
from reconciler.repository.documents.problems import explain, near
from reconciler.repository.documents.yaml import BrokenFile, read
from reconciler.repository.git.trees import Tree
from reconciler.repository.reach import objection_to_home

__all__ = ["SETTINGS", "read_settings", "unknown_pruned"]

SETTINGS = "config/reconciler.yaml"


def read_settings(tree: Tree, root: Path | None) -> Settings:
    """The settings of a revision, all defaults where it has none. Raises SettingsError where they are broken.

    `root` is the checkout, into which no setting may lead; None where no setting is acted on.
    """
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
    if root is not None and settings.gnupg_home is not None:
        objection = objection_to_home(root, settings.gnupg_home)
        if objection is not None:
            line = document.line(("gnupg_home",))
            raise SettingsError([Problem(SETTINGS, line, f"gnupg_home: {objection}")])
    return settings


def unknown_pruned(tree: Tree, settings: Settings, known: Collection[str]) -> list[Problem]:
    """A warning for each integration that `prune` names and that does not exist."""
    file = tree.find(SETTINGS)
    unknown = [name for name in settings.prune if name not in known] if isinstance(settings.prune, dict) else []
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
