"""Initial data: a service's secrets and settings, one encrypted file for each in `config/initial_data`.

A file is a map of ids to single values, encrypted as a whole with GnuPG or value by value with SOPS. Decrypted files
are cached by blob, so that a pass decrypts only what has changed; failures are not cached, because their cause (a key,
the agent) is seldom the file. The caller knows the manifest, and adds the values of all fields without `secret: false`
to the redactor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from enum import Enum
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from reconciler.model.base import as_text
from reconciler.model.errors import Blocked, Problem, SecretsError, Severity, not_written, shortened
from reconciler.model.secret import Redactor
from reconciler.model.text import printable
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read
from reconciler.repository.git.trees import File, Tree
from reconciler.repository.replacing import settle, written_beside
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sops import SopsFile

FOLDER = "config/initial_data"
_ID = re.compile(r"[A-Za-z0-9_]+")
_ARMOR = b"-----BEGIN PGP MESSAGE-----"
_CLEAR = (
    "not encrypted, and so known to everyone who can read the repository: rotate every secret in it, delete the file, "
    "and write it with"
)
THREADS = 4
"""The agent opens one message after the other: more than this wait for it."""


class _Form(Enum):
    PGP = "pgp"
    SOPS = "sops"
    CLEAR = "clear"


_SUFFIXES = {
    **{f".sops.{kind}": _Form.SOPS for kind in ("yaml", "yml", "json")},
    **{f".{kind}.{wrap}": _Form.PGP for kind in ("yaml", "yml", "json") for wrap in ("gpg", "asc")},
    **{f".{kind}": _Form.CLEAR for kind in ("yaml", "yml", "json")},
}
"""How the files of a service `NAME` may be called: NAME and one of these, of which the first that fits counts."""

HOOK_SECRET = "HOOK_SECRET"  # noqa: S105  its name
"""The one value that may be a list: who calls the program is given a new one without a gap."""


class InitialData:
    """The initial data of a repository's revisions. Thread-safe for reading."""

    def __init__(self, gnupg: Gnupg, check: Callable[[str, str], object] | None = None) -> None:
        """`check` gets an address and a file, and raises Blocked if the file's key service must not be asked.

        Without it none is.
        """
        self._gnupg = gnupg
        self._check = check
        self._values: dict[tuple[str, str], Mapping[str, str]] = {}
        self._recipients: dict[tuple[str, str], list[str]] = {}

    def read(self, tree: Tree, service: str) -> dict[str, str] | None:
        """Return a service's values as text, by id; None if it has no file. Ids without a value are left out.

        Raises SecretsError, which names the file, where there are two files, where one is in the clear, and where it
        cannot be decrypted or is no map of ids to single values.
        """
        return self._open(tree, _file_of(service, _by_service(tree)))

    def read_all(self, tree: Tree, services: Iterable[str]) -> dict[str, dict[str, str] | SecretsError | None]:
        """Read many services, four at a time, with the error in place of a service's values."""
        files = _by_service(tree)

        def one(service: str) -> dict[str, str] | SecretsError | None:
            try:
                return self._open(tree, _file_of(service, files))
            except SecretsError as error:
                return error.with_traceback(None)  # its frames hold what was decrypted

        wanted = list(dict.fromkeys(services))
        with ThreadPoolExecutor(THREADS, thread_name_prefix="initial-data") as pool:
            return dict(zip(wanted, pool.map(one, wanted), strict=True))

    def problems(self, tree: Tree) -> list[Problem]:
        """Report problems of the folder that need no key: files in the clear, two for one service."""
        wrong = (
            (files[0], _objection(service, files) or self._disguised(service, tree, files[0]))
            for service, files in _by_service(tree).items()
        )
        found = [Problem(file.path, None, message) for file, message in wrong if message is not None]
        names = (file.path.removeprefix(f"{FOLDER}/") for file in tree.files(FOLDER))
        found += (_unread(name) for name in names if _is_misnamed(name))
        return [*found, *self._unasked(tree)]

    def key_services(self, tree: Tree) -> dict[str, list[str]]:
        """Return the key services that SOPS files name, by file; unknown ones are left out."""
        return {file.path: urls for file, urls, _ in self._named(tree) if urls}

    def bare(self, tree: Tree) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each service with a SOPS file in which values stand unencrypted: its file, and their ids."""
        for service, file, known in self._sops_files(tree):
            if ids := known.bare():
                yield service, file.path, ids

    def _unasked(self, tree: Tree) -> Iterator[Problem]:
        """Report the files whose key service may not be asked; a warning if another of their keys may do."""
        for file, urls, why in self._named(tree):
            refused = [message for url in urls if (message := self._refusal(url, file.path)) is not None]
            for message in [why] if why else refused:
                others = bool(self._encrypted_to(tree, file))
                yield Problem(file.path, None, message, Severity.WARNING if others else Severity.ERROR)

    def _named(self, tree: Tree) -> Iterator[tuple[File, list[str], str | None]]:
        """Return each readable SOPS file with its key services, or why they are unknown."""
        for _, file, known in self._sops_files(tree):
            try:
                yield file, known.hosts(), None
            except SecretsError as error:
                yield file, [], str(error)

    def _sops_files(self, tree: Tree) -> Iterator[tuple[str, File, SopsFile]]:
        """Return each readable SOPS file, with its service."""
        for service, files in _by_service(tree).items():
            if _form(files[0].path) is _Form.SOPS and _objection(service, files) is None:
                with suppress(SecretsError):
                    yield service, files[0], self._sops(tree, files[0])

    def _refusal(self, url: str, path: str) -> str | None:
        """Return why a file's key service must not be asked; None if it may."""
        if self._check is None:
            return "its key service is not to be asked"
        try:
            self._check(url, path)
        except Blocked as error:
            return f"its key service: {str(error).removeprefix(f'{path}: ')}"
        return None

    def _allow(self, path: str, url: str) -> None:
        refusal = self._refusal(url, path)
        if refusal is not None:
            raise SecretsError(f"sops was not called: {refusal}")

    def recipients(self, tree: Tree) -> list[str]:
        """Return the keys that the folder's files are encrypted to, sorted: PGP and age.

        Raises SecretsError if there are files and none shows its keys; a damaged one does not hide the others.
        """
        found: set[str] = set()
        failure: SecretsError | None = None
        for file in chain.from_iterable(_by_service(tree).values()):
            try:
                found.update(self._encrypted_to(tree, file))
            except SecretsError as error:
                failure = failure or error
        if failure is not None and not found:
            raise failure
        return sorted(found)

    def rekeyed(self, tree: Tree, service: str, recipients: list[str]) -> tuple[str, bytes]:
        """Encrypt a service's file to exactly these keys; returns it by its path. Its format is kept.

        Raises SecretsError where there is no file, or more than one, and where one of the keys cannot be used.
        """
        file = _file_of(service, _by_service(tree))
        if file is None:
            raise SecretsError(f"{service} has no initial data yet: `reconcile initial-data set {service}` makes it")
        try:
            if _form(file.path) is _Form.SOPS:
                return file.path, self._sops(tree, file).rekeyed(recipients)
            if any(map(age.is_recipient, recipients)):
                raise SecretsError("age keys open SOPS files only; this one is GnuPG's")
            clear = self._gnupg.decrypt(_raw(tree, file), file.path)
            return file.path, self._gnupg.encrypt(clear, recipients, armor=file.path.endswith(".asc"))
        except SecretsError as error:
            raise SecretsError(f"{file.path}: {error}") from None

    def with_value(self, tree: Tree, service: str, name: str, value: str) -> tuple[str, bytes]:
        """Set one value of a service's file; returns it by its path. Its format and its keys are kept.

        Raises SecretsError where it cannot be decrypted, or encrypted again.
        """
        values = {**(self.read(tree, service) or {}), name: value}
        (file,) = _by_service(tree)[service]
        if _form(file.path) is _Form.SOPS:
            return file.path, self._sops(tree, file).with_value(name, value)
        text = json.dumps(values) if ".json" in file.path else _text(values)
        keys = self._encrypted_to(tree, file)
        return file.path, self._gnupg.encrypt(text.encode(), keys, armor=file.path.endswith(".asc"))

    def _open(self, tree: Tree, file: File | None) -> dict[str, str] | None:
        if file is None:
            return None
        known = self._values.get((file.blob, file.path))
        if known is None:
            try:
                known = _values(self._content(tree, file))
            except SecretsError as error:
                raise SecretsError(shortened(f"{file.path}: {error}")) from None
            self._values[file.blob, file.path] = known
        return dict(known)

    def _content(self, tree: Tree, file: File) -> Any:
        if _form(file.path) is _Form.SOPS:
            return self._sops(tree, file).decrypt(partial(self._allow, file.path))
        clear = self._gnupg.decrypt(_raw(tree, file), file.path)
        try:
            return read(clear, file.path.rpartition(".")[0]).data
        except BrokenFile as error:
            where = "" if error.problem.line is None else f", line {error.problem.line}"
            # Some messages repeat a word of the file; all but its ids may be secrets.
            words = [word for word in clear.decode(errors="replace").split() if not is_id(word.removesuffix(":"))]
            raise SecretsError(f"decrypted{where}: {Redactor(words).redact(error.problem.message)}") from None

    def _encrypted_to(self, tree: Tree, file: File) -> list[str]:
        key, form = (file.blob, file.path), _form(file.path)
        if form is not _Form.CLEAR and key not in self._recipients:
            sops = form is _Form.SOPS
            named = self._sops(tree, file).recipients if sops else self._gnupg.recipients(_raw(tree, file))
            self._recipients[key] = named
        return self._recipients.get(key, [])

    def _sops(self, tree: Tree, file: File) -> SopsFile:
        return SopsFile(_raw(tree, file), self._gnupg, json=file.path.endswith(".json"))

    def _disguised(self, service: str, tree: Tree, file: File) -> str | None:
        """Return why nothing in a file is encrypted although its name says so; None if something may be."""
        try:
            if _form(file.path) is _Form.SOPS:
                self._sops(tree, file)
                return None
            raw = _raw(tree, file)
            if _ARMOR not in raw and isinstance(read(raw, file.path.rpartition(".")[0]).data, Mapping):
                return f"{_CLEAR} `reconcile initial-data set {service}`"
        except SecretsError as error:
            return str(error)
        except BrokenFile:  # what is encrypted is no YAML
            return None
        return None


def service_of(name: str) -> str | None:
    """Return the service that a file of this name in the folder is for; None if it is no initial data."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    # `.sops.yaml` and the like are settings of tools; a file in a folder below, or with signs that no service has in
    # its name, is nobody's.
    ours = suffix is not None and not name.startswith(".") and "/" not in name and name.isprintable()
    return name.removesuffix(suffix) if suffix is not None and ours else None


def _is_misnamed(name: str) -> bool:
    return service_of(name) is None and not any(part.startswith((".", "README")) for part in name.split("/"))


def _unread(name: str) -> Problem:
    meant = f"{name.rpartition('/')[2].partition('.')[0]}.yaml.gpg"
    text = f"not read: initial data is NAME and one of {', '.join(_SUFFIXES)}; did you mean {meant}?"
    return Problem(f"{FOLDER}/{printable(name)}", None, text, Severity.WARNING)


def one_or_two(name: object, value: Any) -> Any:
    """Return a value as it is kept: of HOOK_SECRET, a list as a line each, and anything else unchanged."""
    listed = name == HOOK_SECRET and isinstance(value, list) and all(isinstance(each, str) for each in value)
    return "\n".join(value) if listed else value


def is_id(name: object) -> bool:
    """Whether a key is an id that may be shown; any other may be a secret put in the wrong place."""
    return isinstance(name, str) and _ID.fullmatch(name) is not None


def _form(path: str) -> _Form:
    return next(form for suffix, form in _SUFFIXES.items() if path.endswith(suffix))


def _by_service(tree: Tree) -> dict[str, list[File]]:
    """Return each service's files, unencrypted ones first."""
    found: dict[str, list[File]] = {}
    for file in tree.files(FOLDER):
        service = service_of(file.path.removeprefix(f"{FOLDER}/"))
        if service is not None:
            found.setdefault(service, []).append(file)
    for files in found.values():
        files.sort(key=lambda file: _form(file.path) is not _Form.CLEAR)
    return found


def _file_of(service: str, files: Mapping[str, list[File]]) -> File | None:
    """Return a service's file; None if it has none. Raises SecretsError for two, and for one in the clear."""
    several = files.get(service, [])
    if several and (objection := _objection(service, several)) is not None:
        raise SecretsError(f"{several[0].path}: {objection}")
    return next(iter(several), None)


def _objection(service: str, files: list[File]) -> str | None:
    """Return what is wrong with a service's files, for the first of them, before any is opened."""
    if _form(files[0].path) is _Form.CLEAR:
        again = f"`reconcile initial-data set {service}`"
        return f"{_CLEAR} {again} (if sops encrypted it, rename it to {service}.sops.yaml)"
    if len(files) > 1:
        return f"{files[1].path} is initial data of the same service: keep one of them"
    return None


def _raw(tree: Tree, file: File) -> bytes:
    try:
        return tree.read(file)
    except BrokenFile as error:
        raise SecretsError(error.problem.message) from None


def _values(content: Any) -> dict[str, str]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise SecretsError("what it decrypts to is not a map of ids to values, such as `TOKEN: abc`")
    values: dict[str, str] = {}
    for name, value in content.items():
        text = as_text(one_or_two(name, value))
        if isinstance(text, str):
            values[str(as_text(name))] = text
        elif value is not None:
            shown = as_text(name) if is_id(as_text(name)) else "a key that is no id"
            raise SecretsError(f"{shown} is not one value: initial data is a map of ids to texts or numbers")
    return values


# --- write ------------------------------------------------------------------------------------------------------------

_SERVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def encrypt_initial_data(
    root: Path, service: str, values: Mapping[str, str], recipients: list[str], gnupg: Gnupg
) -> Path:
    """Write `config/initial_data/SERVICE.yaml.gpg`, encrypted to the recipients, and return its path.

    Mode 0600; a reader meanwhile sees the old file or the new one, and no clear text is ever on the disk.
    Raises SecretsError where there is nobody to encrypt to, where one of the keys cannot be used, where the service's
    data is kept in a file of another form, and where the folder cannot be written.
    """
    if not _SERVICE.fullmatch(service):
        raise SecretsError(f"{service!r} cannot be the name of a file: use letters, digits, _, - and dots")
    keys = [name for name in recipients if not age.is_recipient(name)]
    if not keys:
        raise SecretsError(
            "there is no GnuPG key to encrypt to: name one (its id, fingerprint or address)"
            + ("; a file for age keys is made with `sops encrypt --age`" if recipients else "")
        )
    path = root / FOLDER / f"{service}.yaml.gpg"
    names = (file.name for file in path.parent.glob("*"))
    others = sorted(name for name in names if service_of(name) == service and name != path.name)
    if others:
        raise SecretsError(f"{FOLDER}/{others[0]} holds the initial data of {service}: edit that, or delete it first")
    if any("\ud800" <= char <= "\udfff" for pair in values.items() for text in pair for char in text):
        raise SecretsError("a value is not text in UTF-8: paste it again, or give it on standard input")
    put_initial_data(path, gnupg.encrypt(_text(values).encode(), keys, armor=False))
    return path


def _text(values: Mapping[str, str]) -> str:
    return yaml.safe_dump(dict(values), default_style='"', allow_unicode=True, sort_keys=False, width=float("inf"))


def put_initial_data(path: Path, message: bytes) -> None:
    """Replace an encrypted file atomically. Raises SecretsError if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = written_beside(path, message, mode=0o600)
        try:
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        settle(path.parent)
    except OSError as error:
        raise SecretsError(not_written(f"{FOLDER}/{path.name}", error)) from None
