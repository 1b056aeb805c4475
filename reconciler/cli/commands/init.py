"""Begin: `reconcile init` makes a repository from `template/`, `add` copies a ready manifest to one, and `demo`."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, run_in_context
from reconciler.cli.options import FilePath, SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import as_json, columns, emit, table_head, table_row
from reconciler.model.errors import RepositoryError, UsageError, not_written
from reconciler.model.template import FILL_IN
from reconciler.model.text import some
from reconciler.repository.naming import CASES, SCHEMAS, line_in, modeline

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from reconciler.engine.context import Context
    from reconciler.gallery.catalog import ReadyManifest
    from reconciler.repository.naming import Kind

SET_IDENTITY = 'git config user.name "Your Name" && git config user.email you@example.com'
"""The command that git needs before the first commit."""

DOT = "dot-"
"""Stands for the leading dot of a file's name in the template: package data leaves dot files out."""

SAMPLE, PERSON, SEQUENCE = "manifests/example.yaml", "hires/ada.yaml", "config/sequences/everyone.yaml"


@click.command()
@click.argument("folder", metavar="DIR", type=FilePath())
@option(
    "--with",
    "names",
    multiple=True,
    metavar="NAMES",
    help="Use ready manifests instead of the sample: github,slack; repeatable.",
)
@option("--from", "source", metavar="INTEGRATION", help="Start with the accounts that an integration lists.")
@shared(csv=False)
def init(options: SharedOptions, folder: Path, names: tuple[str, ...], source: str | None) -> int:
    """Create a new repository in DIR: settings, a manifest, a person, a sequence, CI, and first steps.

    DIR is created, or must be empty, or the clone of an empty repository. `reconcile add --list` lists the ready
    manifests.

    --from queries an integration of the repository in --repo or of the current folder. It copies the integration's
    manifest and initial data, and writes a hire's file for each account in its listing. To start with a ready manifest,
    commit it with its initial data first; then run `reconcile adopt INTEGRATION --all --write`.
    """
    from importlib.resources import files

    from reconciler.gallery.catalog import everything, named
    from reconciler.intake.files import write_all
    from reconciler.repository.documents.schema import KINDS, json_schema

    wanted = dict.fromkeys(filter(None, map(str.strip, ",".join(names).split(","))))
    ready = [named(name, everything()) for name in wanted]
    if (there := _in_the_way(folder)) is not None:
        raise UsageError(f"{folder} {there}: give the name of a new folder, or of one that has nothing but .git in it")
    written = dict(_template(files("reconciler.cli") / "template"))
    if ready and source:
        raise UsageError("--with has no initial data to ask with yet: leave --from out, and `reconcile adopt` then")
    if ready:
        written = _with_ready(ready, written)
    if (branch := _branch_in(folder)) is not None:
        written = {name: _BRANCH.sub(rf"\g<1>{branch}\g<2>", text) for name, text in written.items()}
    written |= {f"{SCHEMAS}/{kind}.json": f"{as_json(json_schema(kind), indent=2)}\n" for kind in KINDS}
    found: dict[str, bytes] = {}
    if source:
        written = _without_people(source, written)
        found = _from_accounts(options, folder, source, written)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RepositoryError(not_written(folder, error)) from error
    write_all(folder, {**{name: text.encode() for name, text in written.items()}, **found}, {})
    for name in found:
        if name.startswith("config/initial_data/"):
            (folder / name).chmod(0o600)
    in_git = _git(folder)
    made = sorted({*written, *found})
    emit(options, {"folder": str(folder), "files": made, "git": in_git}, (str(folder / name) for name in made))
    _note_next_steps(folder, ready, written, in_git=in_git)
    return 0


def _in_the_way(folder: Path) -> str | None:
    """Say why a repository cannot be made in a folder; None if it can. One that was cloned empty has `.git`."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        return "is no folder"
    others = sorted(each.name for each in folder.iterdir() if each.name != ".git")
    return f"has {some(others, 3)} in it" if others else None


_BRANCH = re.compile(r"(\bbranch: |\bbranches: \[|`reconcile diff )main(\b)")
"""Where the template names the branch."""


def _branch_in(folder: Path) -> str | None:
    """Return the branch that a clone is on, on which the first commit will be; None where there is no clone."""
    from reconciler.repository.git.checkout import Checkout

    return Checkout.open(folder).checked_out if (folder / ".git").exists() else None


def _note_next_steps(folder: Path, ready: list[ReadyManifest], written: Mapping[str, str], *, in_git: bool) -> None:
    """Say what the ready manifests ask for, what is to be filled in, and what to type."""
    for it in ready:
        note(f"{it.name} asks for")
        for line in prerequisites(it, it.service):
            note(f"  {line}")
    if unfilled := [name for name, text in written.items() if FILL_IN in text]:
        note(f"before anything is sent, write your own values in place of {FILL_IN} in {', '.join(sorted(unfilled))}")
    steps = [
        "" if in_git else "git init",
        "" if _has_identity(folder) else SET_IDENTITY,
        'git add . && git commit -m "Access as files"',
        "reconcile validate",
    ]
    note(f"next, in {folder}:")
    for step in filter(None, steps):
        note(f"  {step}")
    note("then README.md: a GnuPG key, a service's secrets, and the first `reconcile --dry-run`")


def _from_accounts(
    options: SharedOptions, folder: Path, integration: str, template: dict[str, str]
) -> dict[str, bytes]:
    """Copy the manifest and initial data of an integration, and write a hire's file for each account that it lists."""
    from reconciler.intake.adopt import proposed
    from reconciler.repository.git.trees import FolderTree, OverlayTree
    from reconciler.review.population import known_integration
    from reconciler.secrets.initial_data import FOLDER, service_of

    async def copy(context: Context) -> dict[str, bytes]:
        here = Here(context)
        tree, known = here.force.tree, here.files
        known_integration(known, integration)
        if problems := known.broken["manifests"].get(integration):
            raise RepositoryError(f"the manifest of {integration} has an error: {problems[0].clause}: mend it first")
        loaded = known.manifests[integration]
        service = loaded.model.service or integration
        copied = {
            file.path: tree.read(file)
            for where in ("manifests", FOLDER)
            for file in tree.files(where)
            if file.path == loaded.path
            or (where == FOLDER and service_of(file.path.removeprefix(f"{FOLDER}/")) == service)
        }
        base = {**{name: text.encode() for name, text in template.items()}, **copied}
        new = OverlayTree(base, FolderTree(folder))
        people, _ = await proposed(context, integration, into=new)
        return {**copied, **{each.path: each.content for each in people}}

    return run_in_context(options, set_up(options), copy)


def _has_identity(folder: Path) -> bool:
    """Whether git knows who commits there; True if git is not installed."""
    from reconciler.repository.git.program import GitFailed, GitUnavailable, git

    try:
        git(folder, "var", "GIT_COMMITTER_IDENT")
    except GitFailed as error:
        return isinstance(error, GitUnavailable)
    return True


def _template(folder: Traversable, under: str = "") -> Iterator[tuple[str, str]]:
    """Read the template's files, as path and text."""
    for item in folder.iterdir():
        name = item.name
        if name.startswith(DOT):
            name = f".{name.removeprefix(DOT)}"
        if item.is_dir():
            yield from _template(item, f"{under}{name}/")
        else:
            yield under + name, item.read_text(encoding="utf-8")


def _with_ready(ready: list[ReadyManifest], template: dict[str, str]) -> dict[str, str]:
    """Replace the template's sample with ready manifests, which the sequence grants at once."""
    texts = _renamed(ready[0].name, template)
    extra = {field.id: FILL_IN for it in ready for field in it.manifest.extra_user_info}
    person = re.sub(r"^(start:|#     values:) .*\n", "", texts[PERSON], flags=re.MULTILINE)
    texts[PERSON] = re.sub(r"^# extra: .*$", f"extra: {_flow(extra)}", person, flags=re.MULTILINE) if extra else person
    texts[SEQUENCE] = re.sub(r"(?s)^(.*?access:\n).*", r"\1", texts[SEQUENCE]) + "".join(map(_entry, ready))
    return texts | {f"manifests/{it.name}.yaml": modeline("manifest", "manifests") + it.text for it in ready}


def _without_people(integration: str, template: dict[str, str]) -> dict[str, str]:
    """Leave out the template's sample, its person and its sequence, also where the README lists them."""
    gone = (PERSON, SEQUENCE)
    texts = {name: text for name, text in _renamed(integration, template).items() if name not in gone}
    readme = texts["README.md"].splitlines(keepends=True)
    return texts | {"README.md": "".join(line for line in readme if not line.startswith(gone))}


def _renamed(integration: str, template: dict[str, str]) -> dict[str, str]:
    """Name an integration wherever the template names its sample, whose manifest is left out."""
    sample = re.compile(r"(?<![@./])\bexample\b(?!\.com)")
    path = f"manifests/{integration}.yaml".ljust(len(SAMPLE))
    return {
        name: sample.sub(lambda _: integration, text.replace(SAMPLE, path))
        for name, text in template.items()
        if name != SAMPLE
    }


def _entry(ready: ReadyManifest) -> str:
    """Write an access entry, with the first choice of each field that has fixed ones."""
    fields = [field for field in ready.manifest.form if field.type != "generate"]
    values = {field.id: str(field.items[0].id) if field.items else FILL_IN for field in fields}
    return f"  - integration: {ready.name}\n" + (f"    values: {_flow(values)}\n" if values else "")


def _flow(values: dict[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {json.dumps(value)}" for name, value in values.items()) + "}"


def _git(folder: Path) -> bool:
    """Make the folder a git repository; False if git is not installed."""
    from reconciler.repository.git.program import GitFailed, git

    if (folder / ".git").exists():
        return shutil.which("git") is not None
    with suppress(GitFailed):
        # -c and not --initial-branch: git before 2.28 ignores the former and fails on the latter.
        git(folder, "-c", "init.defaultBranch=main", "init", "--quiet")
        return True
    return False


@click.command()
@click.argument("name", required=False, shell_complete=complete.ready)
@option("--as", "stem", metavar="STEM", help="The integration's name.  [default: the ready manifest's]")
@option(
    "--from-openapi",
    "description",
    type=FilePath(exists=True, dir_okay=False),
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
    from reconciler.gallery.catalog import IMPORTS, MANIFESTS, everything, named
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
    ready = named(name, {**everything(), **everything(IMPORTS)})
    root = options.repo
    path = _free(root / ready.folder, root, stem or name)
    kind: Kind = "manifest" if ready.folder == MANIFESTS else "import"
    written = {f"{ready.folder}/{path.name}": line_in(root, kind, ready.folder) + ready.text}
    if ready.cases is not None:
        written[f"{ready.folder}/{path.stem}{CASES[0]}"] = line_in(root, "test", ready.folder) + ready.cases
    write_all(root, {name: text.encode() for name, text in written.items()}, {})
    fields = [field.id for field in ready.manifest.asks_for]
    service = ready.manifest.service or path.stem
    file, *tests = written
    emit(options, {"file": file, "service": service, "initial_data": fields}, [file])
    for each in tests:
        note(f"its tests, for `reconcile test {path.stem}`: {each}")
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
    from reconciler.gallery.description import read_description
    from reconciler.gallery.first_manifest import first_manifest
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
    host, kind = ready.head.get("replace"), "import" if ready.imports else "manifest"
    lines = [] if host is None else [f"in the {kind}: replace {host} with your own host"]
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
    from reconciler.gallery.catalog import IMPORTS, everything

    every = sorted([*everything().values(), *everything(IMPORTS).values()], key=lambda it: it.name)
    head = ("name", "service", "what", "can", "verified")
    rows = [(it.name, it.service, it.title, ", ".join(it.can) or "check", it.head["verified"]) for it in every]
    markdown = [*table_head(head), *map(table_row, rows)]
    emit(options, [ready.as_json() for ready in every], columns([head, *rows]), markdown=markdown)


@click.command()
@option("--once", is_flag=True, help="Exit after the walk-through, without keeping the daemon running.")
@shared()
def demo(_options: SharedOptions, *, once: bool) -> int:
    """Run a demo on this machine: sample repository, sample services on loopback, daemon.

    Uses only its own services and key, in temporary folders that are removed at the end.
    """
    from reconciler.demo.walk import walk

    return walk(once=once)
