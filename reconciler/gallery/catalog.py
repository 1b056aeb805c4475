"""The ready manifests and imports: their names, heads, and features.

A head is the comment that a manifest begins with: a title, then a line for each key, which tests hold it to. What does
not fit a line goes on below it, further in:

    # GitHub organization: members
    # service: github
    # plan: any
    # traps: an address is no login; the login comes from the hire's
    #   `extra`

The comment ends the head with the first line that is none; comments further down belong to what they stand over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from itertools import takewhile

from reconciler.model.errors import UsageError
from reconciler.model.imports import Import
from reconciler.model.manifest import Manifest
from reconciler.model.text import hint
from reconciler.model.value import Frozen
from reconciler.repository.documents.yaml import read
from reconciler.repository.naming import CASES, is_cases

MANIFESTS, IMPORTS = "manifests", "config/imports"
"""Where in a repository a copy goes."""

_LINE = re.compile(r"# ([a-z]+): (\S.*)")

_FOLDERS = {
    MANIFESTS: files("reconciler.gallery") / "manifests",
    IMPORTS: files("reconciler.gallery") / "imports",
}


class ReadyManifest(Frozen, dict=True):
    """A manifest or import that is ready to be copied into a `folder` of a repository."""

    name: str
    text: str
    title: str
    head: Mapping[str, str]
    folder: str = MANIFESTS

    @cached_property
    def manifest(self) -> Manifest:
        """Return the manifest; of an import, its requests as a manifest."""
        data = read(self.text.encode(), f"{self.name}.yaml").data
        return Import.model_validate(data).as_manifest if self.imports else Manifest.model_validate(data)

    @property
    def cases(self) -> str | None:
        """Return the text of its tests; None if it has none."""
        file = _FOLDERS[self.folder] / f"{self.name}{CASES[0]}"
        return file.read_text() if file.is_file() else None

    @property
    def imports(self) -> bool:
        """Whether it imports people, and makes no accounts."""
        return self.folder == IMPORTS

    @property
    def service(self) -> str:
        """Return the service whose initial data it shares."""
        return self.manifest.service or self.name

    @property
    def can(self) -> list[str]:
        """Return its features beside checking and making an account."""
        if self.imports:
            return ["import"]
        manifest, exists, listing = self.manifest, self.manifest.exists, self.manifest.listing
        invites = exists is not None and (exists.pending is not None or exists.invited)
        found = {
            "list": listing is not None,
            "update": bool(manifest.updates),
            "revoke": bool(manifest.revoke),
            "invite": bool(invites),
            "last used": listing is not None and listing.used is not None,
        }
        return [word for word, there in found.items() if there]

    def as_json(self) -> dict[str, str]:
        """Return its entry in `reconcile add --list --output json`."""
        metadata = {key: self.head[key] for key in ("verified", "revoke", "plan", "scopes")}
        return {"name": self.name, "service": self.service, **metadata}


def everything(folder: str = MANIFESTS) -> dict[str, ReadyManifest]:
    """Return every ready manifest by its name, or every ready import."""
    entries = {entry.name for entry in _FOLDERS[folder].iterdir() if entry.name.endswith(".yaml")}
    names = sorted(entry.removesuffix(".yaml") for entry in entries if not is_cases(entry))
    return {name: _ready(name, folder) for name in names}


def named(name: str, known: Mapping[str, ReadyManifest]) -> ReadyManifest:
    """Return the one of this name. Raises UsageError if there is none."""
    if name not in known:
        raise UsageError(f"there is no ready manifest {name}{hint(name, known)}; `reconcile add --list` names them all")
    return known[name]


def _ready(name: str, folder: str) -> ReadyManifest:
    text = (_FOLDERS[folder] / f"{name}.yaml").read_text()
    title, head = head_of(text)
    return ReadyManifest(name, text, title, head, folder)


def head_of(text: str) -> tuple[str, dict[str, str]]:
    """Return the title and lines of a head."""
    title, *lines = takewhile(lambda line: line.startswith("#"), text.split("\n"))
    head: dict[str, str] = {}
    key = ""
    for line in lines:
        if (said := _LINE.fullmatch(line)) is not None:
            key, head[said[1]] = said[1], said[2]
        else:
            head[key] += f" {line.removeprefix('#').strip()}"
    return title.removeprefix("# "), head
