"""Read an import's source, an HR system page by page or a CSV on this machine, and take people from its items.

It is read completely or not at all: if a page fails or a line is invalid, nothing is known. Only a reading that was
limited to a number of pages is known to be incomplete. Data from outside is not trusted to have the right types, to be
unique, or to be present: an invalid item is reported with the reason.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import read_connected
from reconciler.intake.files import stem_of
from reconciler.model.base import EMAIL, as_text, day
from reconciler.model.errors import MissingVariable, NothingImported, TransportError
from reconciler.model.hire import DAYS, EXTRA
from reconciler.model.imports import ByAddress, Import
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.secret import Redactor
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.files import Files
from reconciler.repository.git import pygit2
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.extent import UNREADABLE
from reconciler.requests.match import failure
from reconciler.requests.pages import MorePages, items
from reconciler.requests.record import same
from reconciler.requests.render import render
from reconciler.requests.template import render_text
from reconciler.transports.messages import LARGE, LIMIT

SEPARATORS = (",", ";", "\t")
"""What separates the columns of a CSV; spreadsheets of some countries write the second."""


class SourceRecords(Frozen):
    """The people of the source, an item each; not `whole` if more pages follow than may be read."""

    items: list[Any]
    whole: bool
    columns: tuple[str, ...] | None = None
    """Of a CSV: what its first line names."""

    def at(self, item: Any, path: str) -> Any:
        """Return an item's value at a path; in a CSV a path is a column's name."""
        return item.get(path) if self.columns is not None else walk(item, path)


def as_integrations(files: Files, name: str) -> Files:
    """Return the files with one import in place of the manifests, for code that takes manifests."""
    loaded = files.imports[name]
    asked = Loaded(
        stem=name,
        path=loaded.path,
        blob=loaded.blob,
        model=loaded.model.as_manifest,
        lines=(),
        document=loaded.document,
    )
    return replace(files, manifests={name: asked})


async def ask(integration: Integration, imported: Import) -> SourceRecords:
    """Read all people, anew with another token if one is refused. Raises Blocked and TransportError with the reason."""

    async def read(scope: Scope) -> SourceRecords:
        manifest, client = integration.manifest, integration.client
        scope = await _before(integration, manifest, scope)
        found: list[Any] = []
        pages = imported.amount_pages_to_fetch or None
        try:
            async for item in items(client, manifest.form[0], scope, manifest, pages=pages, most=LARGE):
                found.append(item)  # noqa: PERF401  what came before the exception counts
        except MorePages:
            if pages is None:
                raise
            return SourceRecords(found, whole=False)
        return SourceRecords(found, whole=True)

    return await read_connected(integration, integration.scope(()), read)


async def _before(integration: Integration, manifest: Manifest, scope: Scope) -> Scope:
    """Send the requests before the last one, and return a scope with their answers."""
    responses: list[Any] = []
    stored: dict[str, Any] = {}
    for index, request in enumerate(manifest.execute):
        answer = await integration.client.send(render(request, scope, manifest), follow=True)
        if (reason := failure(request, answer)) is not None:
            what = f"execute.{index}: {reason}{integration.client.excerpt(answer)}"
            raise TransportError(what, left=True)
        responses.append(answer.json())
        for key, path in request.store_data.items():
            stored[key] = answer.at(path)
            if stored[key] is None:
                raise TransportError(f"execute.{index}: the answer has nothing at {path}", left=True)
        secret = frozenset({"responses", *stored})
        scope = scope.over(Layer("the requests before", {"responses": responses, **stored}, secret))
    return scope


def csv_file(checkout: Checkout, imported: Import) -> Path:
    """Return the CSV's path. Raises NothingImported if it is in git, whose history keeps people's data for ever."""
    assert imported.file is not None
    path = checkout.root / Path(imported.file).expanduser()
    inside = _inside(checkout, path)
    if inside is not None and checkout.repository is not None and _tracked(checkout.repository, inside):
        raise NothingImported(
            f"{imported.file} is in git, where everybody's data would stay in the history: `git rm --cached "
            f"{imported.file}`, add it to .gitignore, and keep it on this machine only"
        )
    return path


def could_be_added(checkout: Checkout, path: Path) -> bool:
    """Whether the next `git add --all` would add a file."""
    inside = _inside(checkout, path)
    return inside is not None and checkout.repository is not None and not checkout.repository.path_is_ignored(inside)


def _inside(checkout: Checkout, path: Path) -> str | None:
    """Return a path from the checkout's root; None for one elsewhere."""
    try:
        return path.resolve().relative_to(checkout.root.resolve()).as_posix()
    except ValueError:
        return None


def _tracked(repository: pygit2.Repository, path: str) -> bool:
    """Whether a path is in git's index or in the commit at HEAD, where that can be read."""
    repository.index.read()
    if path in repository.index:
        return True
    with suppress(*UNREADABLE):
        return path in repository.head.peel(pygit2.Commit).tree
    return False


def read_csv(path: Path, imported: Import) -> SourceRecords:
    """Read every line of a CSV. Raises NothingImported with the line if it is invalid."""
    try:
        with path.open("rb") as opened:
            raw = opened.read(LARGE + 1)
    except OSError as error:
        raise NothingImported(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > LARGE:
        raise NothingImported(f"{path}: a CSV may have {LARGE // LIMIT} MiB at most")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise NothingImported(f"{path}:{line}: not UTF-8: save it in that encoding") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, imported), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows += [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise NothingImported(f"{path}:{reader.line_num}: not CSV: {error}; nothing was changed") from None
    if not rows:
        raise NothingImported(f"{path} is empty: its first line has to name the columns")
    columns = tuple(name.strip() for name in rows[0][1])
    _check_columns(path, columns, imported)
    for line, row in rows[1:]:
        if len(row) != len(columns):
            what = f"{len(row)} columns, and the first line has {len(columns)}"
            raise NothingImported(f"{path}:{line}: {what}: check its quotes and separators; nothing was changed")
    return SourceRecords([dict(zip(columns, row, strict=True)) for _, row in rows[1:]], whole=True, columns=columns)


def _separator(text: str, imported: Import) -> str:
    """Return what separates the columns: what makes the most of those that are needed out of the first line."""
    first, needed = text.lstrip().partition("\n")[0], {*_used(imported)}

    def found(separator: str) -> int:
        names = next(csv.reader([first], delimiter=separator), ())
        return len(needed.intersection(name.strip() for name in names))

    return max(SEPARATORS, key=found)


def _check_columns(path: Path, columns: tuple[str, ...], imported: Import) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise NothingImported(f"{path}:1: two columns are called {name!r}: rename one")
    for name in _used(imported):
        if name not in columns:
            has = ", ".join(columns)
            raise NothingImported(f"{path}:1: there is no column {name!r}; it has {has}{hint(name, columns)}")


def _used(imported: Import) -> Iterable[str]:
    for source in imported.fills.values():
        yield source.hire if isinstance(source, ByAddress) else source
    yield from imported.only


_NO_DAY = "0000-00-00"
"""What BambooHR gives for a day that is not known."""

_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2})[T ]\d{2}:\d{2}.*", re.ASCII | re.DOTALL)


class Person(Frozen):
    """One person: the keys of a hire that the source fills, such as `first_name` or `extra.LOGIN`.

    `by_address` are the keys whose value is another person's address.
    """

    item: int
    email: str
    fields: Mapping[str, Any]
    by_address: frozenset[str] = frozenset()
    stem: str = ""

    def left_out(self, why: str, hire: str | None = None, file: str | None = None) -> LeftOut:
        """Return them as one who cannot be imported."""
        return LeftOut(self.item, why, self.fields, hire, file)


class LeftOut(Frozen):
    """A person who cannot be imported, and why; `hire` and `file` if they have a file."""

    item: int
    reason: str
    fields: Mapping[str, Any] = {}
    hire: str | None = None
    file: str | None = None

    @property
    def called(self) -> str:
        """Name them by what is known of them."""
        name = " ".join(str(self.fields[key]) for key in ("first_name", "last_name") if key in self.fields)
        return name or str(self.fields.get("email") or f"item {self.item}")


class People(Frozen):
    """All people of a source. `addresses` are those of all, taken or left out, in lower case."""

    taken: list[Person]
    left_out: list[LeftOut]
    addresses: frozenset[str]


def people_of(reading: SourceRecords, imported: Import) -> People:
    """Return the people that `only` selects."""
    found: list[Person] = []
    left: list[LeftOut] = []
    for number, item in enumerate(reading.items, 1):
        if all(same(reading.at(item, path), wanted) for path, wanted in imported.only.items()):
            person = _person(number, item, reading, imported)
            (found if isinstance(person, Person) else left).append(person)  # type: ignore[arg-type]
    of_address: defaultdict[str, list[Person]] = defaultdict(list)
    for one in found:
        of_address[one.email.lower()].append(one)
    taken: list[Person] = []
    for several in of_address.values():
        if all(one.fields == several[0].fields for one in several):
            taken.append(several[0])
            continue
        others = ", ".join(f"item {one.item}" for one in several)
        left += [one.left_out(f"several people have the address: {others}") for one in several]
    seen = {one.email.lower() for one in found}
    seen |= {str(each.fields["email"]).lower() for each in left if "email" in each.fields}
    return People(taken, sorted(left, key=lambda each: each.item), frozenset(seen))


def without_secrets(people: People, redactor: Redactor) -> People:
    """Leave out people whose data contains a secret of the program: a file in git must not contain it."""
    taken, left = [], list(people.left_out)
    for one in people.taken:
        key = next((key for key, value in one.fields.items() if redactor.redact(str(value)) != str(value)), None)
        if key is None:
            taken.append(one)
        else:
            left.append(one.left_out(f"{key}: it holds a secret of the initial data"))
    return People(taken, sorted(left, key=lambda each: each.item), people.addresses)


def _person(number: int, item: Any, reading: SourceRecords, imported: Import) -> Person | LeftOut:
    fields: dict[str, Any] = {}
    wrong: list[str] = []
    for key, source in imported.fills.items():
        value = reading.at(item, source.hire if isinstance(source, ByAddress) else source)
        try:
            value = _value(key, value)
        except ValueError as error:
            wrong.append(f"{key}: {error}")
            continue
        if value is not None:
            fields[key] = value
    if wrong:
        return LeftOut(number, "; ".join(wrong), fields)
    email = fields.get("email")
    if email is None:
        return LeftOut(number, "no address", fields)
    if EMAIL.fullmatch(email) is None:
        return LeftOut(number, "email: not an address", fields)
    given = frozenset(key for key, source in imported.fills.items() if isinstance(source, ByAddress))
    try:
        stem = _stem(imported, email, fields)
    except MissingVariable as error:
        return LeftOut(number, f"id: {error}", fields)
    return Person(number, email, fields, given & fields.keys(), stem)


def _value(key: str, value: Any) -> Any:
    """Return a value as a hire's file has it; None for none. Raises ValueError."""
    if isinstance(value, str):
        value = value.strip()
    if value in ("", None) or value in ([], {}):
        return None
    if key in DAYS:
        return _day(value)
    if isinstance(value, dict):
        raise ValueError("a map, and no value; write the path of what is in it")
    if isinstance(value, list):
        if key.startswith(EXTRA) and not any(isinstance(it, dict | list) or it is None for it in value):
            return value
        raise ValueError("a list, and no value")
    return value if key.startswith(EXTRA) else as_text(value)


def _day(value: Any) -> date | None:
    """Read a day; of a time, the day that is written, in whatever zone."""
    if not isinstance(value, str):
        raise ValueError("not a date: write it YYYY-MM-DD, such as 2026-12-01")
    if value.startswith(_NO_DAY):
        return None
    moment = _MOMENT.fullmatch(value)
    return day(moment[1] if moment else value)


def _stem(imported: Import, email: str, fields: Mapping[str, Any]) -> str:
    """Return the stem of a new file; may be empty. Raises MissingVariable."""
    if imported.id is None:
        name = email.partition("@")[0]
    else:
        extra = {key.removeprefix(EXTRA): value for key, value in fields.items() if key.startswith(EXTRA)}
        values = {**extra, **{key: value for key, value in fields.items() if key not in extra}}
        name = render_text(imported.id, Scope((Layer("the person", values),)).now()).text
    return stem_of(name)
