"""Shell completion: names from the repository, read from the files on disk.

It sends nothing, takes no lock, writes nothing and imports little, because a person waits for it. A broken file offers
no names, and no error is shown in the line that is being typed. Anybody who opens a branch chooses names, and a shell
runs what is in its line: only names without a meaning to a shell are offered.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from reconciler.repository.discovery import repository
from reconciler.repository.naming import is_cases

_Complete = Callable[[click.Context, click.Parameter, str], list[str]]

_PLAIN = re.compile(r"\w[\w.+@~-]*")

_FILES = (".yaml", ".yml", ".json")


def _offered(names: Callable[[click.Context], Iterable[str]]) -> _Complete:
    """Make the function that click calls to complete a value: it sorts the names that begin with it."""

    def complete(ctx: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
        try:
            found = {name for name in names(ctx) if name.startswith(begun) and _PLAIN.fullmatch(name)}
        except Exception:  # noqa: BLE001  any traceback would appear in the line that is being typed
            return []
        return sorted(found)

    return complete


def _root(ctx: click.Context) -> Path:
    return repository(ctx.obj.path)


def _files(root: Path, folder: str) -> Iterator[Path]:
    """Find the files under a folder that may be a user's."""
    for place, folders, names in os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if name.endswith(_FILES) and not name.startswith("."))


def _stems(folder: str) -> Callable[[click.Context], Iterator[str]]:
    def stems(ctx: click.Context) -> Iterator[str]:
        return (file.stem for file in _files(_root(ctx), folder) if not is_cases(file.name))

    return stems


def _data(file: Path) -> dict[str, Any]:
    """Read a file; empty if it is broken or not a map."""
    from reconciler.repository.documents.events import MAX_BYTES, BrokenFile
    from reconciler.repository.documents.yaml import read

    there = file.lstat()
    if not stat.S_ISREG(there.st_mode) or there.st_size > MAX_BYTES:
        return {}
    try:
        data = read(file.read_bytes(), file.name).data
    except BrokenFile:
        return {}
    return data if isinstance(data, dict) else {}


def _accesses(ctx: click.Context) -> Iterator[str]:
    """Name a hire's entries, those of the sequences that it names, and of those that may be assigned to it."""
    root, hire = _root(ctx), ctx.params["hire"]
    person = _data(next(file for file in _files(root, "hires") if file.stem == hire))
    entries = list(person.get("access") or ())
    for file in _files(root, "config/sequences"):
        sequence = _data(file)
        if file.stem in (person.get("sequences") or ()) or sequence.get("assign"):
            entries += sequence.get("access") or ()
    for entry in entries:
        yield str(entry.get("name") or entry["integration"]) if isinstance(entry, dict) else str(entry)


def _fields(ctx: click.Context) -> Iterator[str]:
    manifest = next(file for file in _files(_root(ctx), "manifests") if file.stem == ctx.params["integration"])
    return (str(field["id"]) for field in _data(manifest)["form"])


def _services(ctx: click.Context) -> Iterator[str]:
    """Name what may have initial data: integrations, imports, and the program itself."""
    yield from _stems("manifests")(ctx)
    yield from _stems("config/imports")(ctx)
    yield "reconciler"


def _ready(_ctx: click.Context) -> Iterator[str]:
    from importlib.resources import files

    for folder in ("manifests", "imports"):
        for item in (files("reconciler.gallery") / folder).iterdir():
            if not is_cases(item.name):
                yield Path(item.name).stem


hires = _offered(_stems("hires"))
integrations = _offered(_stems("manifests"))
imports = _offered(_stems("config/imports"))
accesses = _offered(_accesses)
fields = _offered(_fields)
services = _offered(_services)
ready = _offered(_ready)
periods = _offered(lambda ctx: (at.name for at in (_root(ctx) / "config/reviews").iterdir() if at.is_dir()))
