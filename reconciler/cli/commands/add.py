"""`reconcile add`: copy a ready manifest or import into the repository."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note
from reconciler.cli.output.text import cell, columns, emit, table_head
from reconciler.gallery.description import read_description
from reconciler.gallery.first_manifest import first_manifest
from reconciler.model.errors import UsageError
from reconciler.repository.naming import CASES, line_in

if TYPE_CHECKING:
    from reconciler.gallery.catalog import ReadyManifest
    from reconciler.repository.naming import Kind

__all__ = ["add", "prerequisites"]


@click.command()
@click.argument("name", required=False, shell_complete=complete.ready)
@option("--as", "stem", metavar="STEM", help="The integration's name.  [default: the ready manifest's]")
@option(
    "--from-openapi",
    "description",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Begin a manifest from a service's description, OpenAPI 3 or Swagger 2.",
)
@option("--list", "listing", is_flag=True, help="List the ready manifests: what each can do, and how it was verified.")
@shared(csv=False)
def add(
    options: SharedOptions,
    name: str | None,
    stem: str | None,
    description: Path | None,
    listing: bool,  # noqa: FBT001  click's
) -> int:
    """Copy the ready manifest NAME to manifests/, with its tests, and list what it requires.

    A ready import is copied to config/imports/. An existing file is not overwritten. --list needs no repository.

    --from-openapi writes a first manifest, called NAME or as the FILE, with a proposal for each part and the operation
    that it comes from, or that none was found. It is a file to edit.
    """
    from reconciler.gallery.catalog import MANIFESTS, everything, imports, named
    from reconciler.intake.files import write_all

    if listing:
        if name is not None or stem is not None or description is not None:
            raise UsageError("--list names every ready manifest: leave the other words out")
        _list(options)
        return 0
    if description is not None:
        return _begin(options, stem or name or description.name.partition(".")[0], description)
    if name is None:
        raise UsageError("say which ready manifest, as `reconcile add github`; `reconcile add --list` names them all")
    ready = named(name, {**everything(), **imports()})
    root = options.repo
    path = _free(root / ready.folder, root, stem or name)
    kind: Kind = "manifest" if ready.folder == MANIFESTS else "import"
    written = {f"{ready.folder}/{path.name}": line_in(root, kind, ready.folder) + ready.text}
    if ready.cases is not None:
        written[f"{ready.folder}/{path.stem}{CASES[0]}"] = line_in(root, "test", ready.folder) + ready.cases
    write_all(root, {name: text.encode() for name, text in written.items()}, {})
    fields = [field.id for field in ready.manifest.asks_for]
    service = ready.manifest.service or path.stem
    file = f"{ready.folder}/{path.name}"
    emit(options, {"file": file, "service": service, "initial_data": fields}, [file])
    if ready.cases is not None:
        note(f"its tests, for `reconcile test {path.stem}`: {ready.folder}/{path.stem}{CASES[0]}")
    for line in prerequisites(ready, service):
        note(line)
    if fields:
        first = "" if any((root / "config/initial_data").glob("[!.]*")) else " --recipient KEY"
        note(f"next: reconcile initial-data set {service}{first}")
    else:
        note("next: reconcile validate")
    return 0


def _begin(options: SharedOptions, stem: str, description: Path) -> int:
    """Write a first manifest from a service's description."""
    from reconciler.gallery.catalog import MANIFESTS
    from reconciler.intake.files import write_all

    root = options.repo
    path = f"{MANIFESTS}/{_free(root / MANIFESTS, root, stem).name}"
    text = line_in(root, "manifest", MANIFESTS) + first_manifest(read_description(description))
    write_all(root, {path: text.encode()}, {})
    emit(options, {"file": path, "service": stem, "initial_data": []}, [path])
    note(f"next: edit it; reconcile validate; reconcile try {stem} --email ADDRESS --host HOST")
    return 0


def prerequisites(ready: ReadyManifest, service: str) -> list[str]:
    """List what the manifest needs from its user, one line for each place; the copy belongs to `service`."""
    manifest = ready.manifest
    form = [] if ready.imports else manifest.form
    places = (
        (f"initial data of {service}", [field.id for field in manifest.asks_for]),
        ("each hire's extra", [field.id for field in manifest.extra_user_info]),
        ("each access entry's values", [field.id for field in form if field.type != "generate"]),
    )
    host = ready.head.get("replace")
    lines = (
        []
        if host is None
        else [f"in the {'import' if ready.imports else 'manifest'}: replace {host} with your own host"]
    )
    return lines + [f"in {place}: {', '.join(ids)}" for place, ids in places if ids]


def _free(folder: Path, root: Path, stem: str) -> Path:
    """Return the path of the copy. Raises UsageError if the stem is not a file name, or another file has it."""
    if PurePosixPath(stem).name != stem or stem.startswith("."):
        raise UsageError(f"--as {stem}: give the name of an integration, not a path")
    taken = sorted(
        path.relative_to(root).as_posix()
        for path in folder.rglob("*")
        if path.stem in (stem, f"{stem}.test") and path.suffix in (".yaml", ".yml", ".json")
    )
    if taken:
        raise UsageError(f"{taken[0]} is there already: give another name with --as, or delete it first")
    return folder / f"{stem}.yaml"


def _list(options: SharedOptions) -> None:
    from reconciler.gallery.catalog import everything, imports

    every = sorted([*everything().values(), *imports().values()], key=lambda it: it.name)
    head = ("name", "service", "what", "can", "verified")
    rows = [(it.name, it.service, it.title, ", ".join(it.can) or "check", it.head["verified"]) for it in every]
    emit(
        options,
        [ready.as_json() for ready in every],
        columns([head, *rows]),
        markdown=[*table_head(head), *(f"| {' | '.join(map(cell, row))} |" for row in rows)],
    )
