"""`reconcile initial-data set`, `rekey` and `check`: write secrets and check them. No value is ever printed.

They work on the files on disk, because a user commits them afterwards. What a service needs, its manifests ask for, and
the program itself asks for its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, context_of
from reconciler.cli.options import SharedOptions, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import code, emit
from reconciler.model.errors import ReconcilerError, SecretsError, SettingsError, UsageError
from reconciler.model.text import hint, printable
from reconciler.model.value import Frozen, fields, replace

if TYPE_CHECKING:
    from reconciler.engine.context import Revision
    from reconciler.model.manifest import InitialDataField
    from reconciler.model.settings import Settings
    from reconciler.repository.files import Files
    from reconciler.secrets.gpg import Gnupg

MAX_BYTES = 1 << 20
"""The most bytes that are read from standard input; it is also the limit of a file."""


@click.group(name="initial-data")
def initial_data() -> None:
    """Store a service's secrets encrypted, and check that they are complete."""


def on_disk(options: SharedOptions) -> Revision:
    """Return the files on disk, with the settings that say where keys are and which key services may be asked.

    Where commits have to be signed, those in force count and not the files on disk.
    """
    from reconciler.engine.context import Revision

    context = context_of(options, set_up(options))
    revision = Revision.at(context, context.checkout.worktree())
    if context.checkout.head_id() is None:
        return revision
    try:
        force = Here(context).settings
    except SettingsError:  # those at HEAD, which the files on disk may correct; no commit was accepted yet
        return revision
    return replace(revision, settings=force) if force.git.verify_signatures else revision


@initial_data.command(name="set", short_help="Enter the secrets of a service, and encrypt them")
@click.argument("integration", shell_complete=complete.services)
@option("--recipient", "recipients", multiple=True, metavar="KEY", help="Encrypt to this GnuPG key; repeatable.")
@shared(csv=False)
def set_(options: SharedOptions, integration: str, recipients: tuple[str, ...]) -> int:
    """Ask for the initial data of INTEGRATION, or read it as YAML from standard input, and encrypt it.

    INTEGRATION is an integration, a service, or `reconciler` for the program's own secrets. A field that you leave
    empty keeps its value. The file is encrypted to --recipient, or to the keys of the files in the folder. A value of
    several lines, such as a key file, must come from standard input.
    """
    from reconciler.secrets.initial_data import encrypt_initial_data

    revision = on_disk(options)
    wanted, root, gnupg = _needed_data_of(revision.files, integration), revision.context.checkout.root, revision.gnupg
    if not wanted.fields:
        raise UsageError(f"{integration} asks for no initial data: its manifest has no initial_data_form to fill in")
    keys = keys_of(revision, list(recipients))
    present: Mapping[str, str] = {}
    unreadable = False
    try:
        present = revision.initial_data.read(revision.tree, wanted.service) or {}
    except SecretsError as error:
        note(f"the values that are there cannot be kept, so each has to be given: {error}")
        unreadable = True
    given = _ask(wanted, present) if sys.stdin.isatty() else _read(wanted)
    values = {**present, **{name: value for name, value in given.items() if value}}
    missing = [name for name in wanted.fields if name in wanted.required and not values.get(name)]
    if unreadable and missing:
        raise SecretsError(f"nothing was written: {', '.join(missing)} would be lost")
    if not any(given.values()):
        raise UsageError("no value was given: nothing was written")
    path = encrypt_initial_data(root, wanted.service, values, keys, gnupg)
    file = path.relative_to(root).as_posix()
    changed = [name for name, value in given.items() if value]
    done = {"service": wanted.service, "file": file, "recipients": keys, "set": changed, "missing": missing}
    emit(options, done, [file])
    note(f"encrypted to {', '.join(keys if recipients else (_known_as(key, gnupg) for key in keys))}")
    if missing:
        note(f"still missing: {', '.join(missing)}; run this again for them, the others are kept")
    if revision.context.checkout.is_git:
        note(f'next: git add {file} && git commit -m "Initial data of {wanted.service}"')
    return 0


@initial_data.command(short_help="Encrypt the secrets to other keys")
@click.argument("integration", shell_complete=complete.services)
@option(
    "--recipient", "recipients", multiple=True, required=True, metavar="KEY", help="Encrypt to this key; repeatable."
)
@shared(csv=False)
def rekey(options: SharedOptions, integration: str, recipients: tuple[str, ...]) -> int:
    """Encrypt the initial data of INTEGRATION to the keys of --recipient only. No value is shown.

    The key that seals what the state holds is replaced, too, once the next pass or the daemon finds it vouched for. The
    old keys still decrypt the old file in git's history: when somebody leaves, replace the secrets too.
    """
    from reconciler.secrets.initial_data import FOLDER, put_initial_data

    revision = on_disk(options)
    service = _needed_data_of(revision.files, integration).service
    keys = keys_of(revision, list(dict.fromkeys(recipients)))
    file, message = revision.initial_data.rekeyed(revision.tree, service, keys)
    put_initial_data(revision.context.checkout.root / file, message)
    replaced = list(_replace_sealing_key(revision, keys))
    emit(options, {"service": service, "file": file, "recipients": keys}, [file])
    note(f"encrypted to {', '.join(keys)}")
    for line in replaced:
        note(line)
    if revision.context.checkout.is_git:
        what = FOLDER if replaced else file
        note(f'next: git add {what} && git commit -m "Initial data of {service} for other keys"')
    return 0


def _replace_sealing_key(revision: Revision, keys: list[str]) -> Iterator[str]:
    """Make another key that seals what the state holds: who opened the old one could read all that comes.

    Returns what to say of it.
    """
    from reconciler.engine.trust import SEALING_KEY, trust_of, vault_read
    from reconciler.ledger.sealing import stage
    from reconciler.model.settings import OWN
    from reconciler.secrets.initial_data import FOLDER, put_initial_data

    tree, data, gnupg = revision.tree, revision.initial_data, revision.gnupg
    try:
        force = Here(revision.context).force
        if not force.location.exists():
            return
        with closing(force.location.writer()) as ledger:
            vault = vault_read(force, ledger)
            if vault.sealer is None:
                if vault.fault is not None:
                    yield f"the state's sealing key stays as it is: {vault.fault}"
                return
            known = {name for key in data.recipients(tree) for name in (key, *gnupg.ids(key))}
            fingerprint = stage(ledger, vault.sealer, keys, known=known, gnupg=gnupg).fingerprint
        if trust_of(force).fingerprint is None:
            yield "the state's sealing key is replaced by the next pass, or by the daemon when this is committed"
            return
        values = data.read(tree, OWN) or {}
        if values.get(SEALING_KEY) != fingerprint:
            file, message = data.with_value(tree, OWN, SEALING_KEY, fingerprint)
            put_initial_data(revision.context.checkout.root / file, message)
    except ReconcilerError as error:
        yield f"the state's sealing key stays as it is: {error}"
        return
    yield f"the state's sealing key is replaced when {FOLDER}/{OWN}.* is committed, which names {fingerprint} now"


@initial_data.command(short_help="Check that the secrets are complete")
@click.argument("integration", required=False, shell_complete=complete.services)
@shared(csv=False)
def check(options: SharedOptions, integration: str | None) -> int:
    """Check that the initial data of INTEGRATION, or of all, exists, can be decrypted and is complete.

    Exits with 1 if something is missing or cannot be decrypted.
    """
    from reconciler.repository.git.checkout import ignored_edits
    from reconciler.secrets.initial_data import FOLDER

    revision = on_disk(options)
    found = _found(revision, integration)
    wrong = [each for each in found if each.wrong]
    headline = f"{len(found) - len(wrong)} of {len(found)} complete"
    lines = [(each.service, line) for each in found for line in each.lines()]
    emit(
        options,
        [fields(each, "service", "file", "missing", "unknown", "error") for each in found],
        [headline, *(printable(f"{service}: {line}") for service, line in lines)],
        markdown=[f"**{headline}**", "", *(f"- {code(service)}: {code(line)}" for service, line in lines)],
    )
    edits = [path for path in ignored_edits(revision.context.checkout) if path.startswith(f"{FOLDER}/")]
    if edits:
        note(f"not committed, and so not used yet: {', '.join(edits)}")
    for key in revision.gnupg.expired:
        note(f"key {key} has expired: it still opens files; extend it before something is to be encrypted to it")
    for service in sorted({each.service for each in wrong if each.missing}):
        note(f"next: `reconcile initial-data set {service}`")
    return 1 if wrong else 0


class _Checked(Frozen):
    """The initial data of one service, compared with what is needed."""

    service: str
    file: str | None
    known: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    error: str | None = None

    @property
    def wrong(self) -> bool:
        return bool(self.missing) or self.error is not None

    def lines(self) -> list[str]:
        if self.error is not None:
            return [f"cannot be opened: {self.error}"]
        where = f"in {self.file}" if self.file else "there is no file"
        lines = [f"missing: {', '.join(self.missing)} ({where})"] if self.missing else []
        lines += [f"unknown: {name}, which nothing asks for{hint(name, self.known)}" for name in self.unknown]
        return lines or [f"complete{f', {where}' if self.file else ', nothing is asked for'}"]


def _found(revision: Revision, integration: str | None) -> list[_Checked]:
    from reconciler.secrets.initial_data import FOLDER, service_of

    files, tree = revision.files, revision.tree
    names = {file.path: service_of(file.path.removeprefix(f"{FOLDER}/")) for file in tree.files(FOLDER)}
    paths = {service: path for path, service in names.items() if service is not None}
    if integration is not None:
        wanted = [_needed_data_of(files, integration)]
    else:
        known = _all_needed_data(files)
        strays = [NeededData(name) for name in sorted(paths.keys() - known.keys())]
        wanted = [each for each in known.values() if each.required or each.service in paths] + strays
        if unread := sorted({*files.broken["manifests"], *files.broken["imports"]}):
            note(f"not looked at, for their file has an error: {', '.join(unread)}")
    opened = revision.initial_data.read_all(tree, [each.service for each in wanted])
    return [_compare(each, opened[each.service], paths.get(each.service)) for each in wanted]


def _compare(wanted: NeededData, values: dict[str, str] | SecretsError | None, path: str | None) -> _Checked:
    from reconciler.secrets.initial_data import is_id

    known = tuple(wanted.fields)
    if isinstance(values, SecretsError):
        return _Checked(wanted.service, path, known, error=str(values))
    there = values or {}
    missing = tuple(name for name in known if name in wanted.required and not there.get(name))
    unknown = tuple(sorted({name if is_id(name) else "(no id)" for name in there.keys() - set(known)}))
    return _Checked(wanted.service, path, known, missing, unknown)


def keys_of(revision: Revision, given: list[str]) -> list[str]:
    """Choose the keys to encrypt to. Raises before a secret is typed if there is none, or one cannot be used."""
    keys = given or revision.initial_data.recipients(revision.tree)
    if not keys:
        raise UsageError(
            "nothing in config/initial_data tells whom to encrypt to: give --recipient, with the id, fingerprint or "
            "address of a key that the daemon's machine can open (`gpg --list-keys`)"
        )
    for key in keys:
        if not key.startswith("age1") and (why := revision.gnupg.unusable(key)) is not None:
            raise SecretsError(why)
    return keys


def _known_as(key: str, gnupg: Gnupg) -> str:
    """Name a key that was not named by the user: a file has only the id of a part of it, which gpg does not list."""
    owner = None if key.startswith("age1") else gnupg.owner(key)
    return f"{printable(owner)} (key {key})" if owner else key


def _ask(wanted: NeededData, present: Mapping[str, str]) -> dict[str, str]:
    """Ask for the values at a terminal, on stderr; secrets without echo."""
    given = {}
    for name, field in wanted.fields.items():
        given[name] = click.prompt(
            _question(field, name in wanted.required, there=bool(present.get(name))),
            default="",
            show_default=False,
            hide_input=field.secret,
            err=True,
        ).strip()
    return given


def _question(field: InitialDataField, required: bool, *, there: bool) -> str:  # noqa: FBT001
    about = "; ".join(printable(text) for text in (field.name, field.description) if text and text != field.id)
    hint = "empty keeps the value" if there else "" if required else "empty for none"
    return f"{field.id}{f' ({about})' if about else ''}{f' [{hint}]' if hint else ''}"


def _read(wanted: NeededData) -> dict[str, str]:
    """Read a map of ids to values from standard input; errors repeat none of it."""
    from reconciler.model.base import as_text
    from reconciler.repository.documents.events import BrokenFile
    from reconciler.repository.documents.yaml import read
    from reconciler.secrets.initial_data import is_id, one_or_two

    raw = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise UsageError("standard input: over 1 MiB")
    try:
        data = read(raw, "standard input").data
    except BrokenFile as error:
        raise UsageError(f"standard input, line {error.problem.line or 1}: not YAML that can be read") from None
    if not isinstance(data, dict):
        raise UsageError(f"standard input has to be a map such as `{next(iter(wanted.fields))}: value`, in YAML")
    given = {}
    for name, value in data.items():
        if name not in wanted.fields:
            asks = f"it asks for {', '.join(wanted.fields)}"
            shown = name if is_id(name) else "one of its keys, which is no id and not repeated here"
            raise UsageError(f"{wanted.service} does not ask for {shown}: {asks}{hint(str(name), wanted.fields)}")
        text = as_text(one_or_two(name, value))
        if text is not None and not isinstance(text, str):
            raise UsageError(f"{name} has to be one text or number, not a list or a map")
        given[name] = text or ""
    return given


class NeededData(Frozen):
    """The initial data that a service needs; `required` are the ids without which it cannot run."""

    service: str
    fields: Mapping[str, InitialDataField] = {}
    required: frozenset[str] = frozenset()


def _needed_data_of(files: Files, name: str) -> NeededData:
    """Return what a service needs; `name` is the service, one of its integrations, or `reconciler`.

    Raises UsageError if there is no such name.
    """
    known = _all_needed_data(files)
    service = files.manifests[name].model.service if name in files.manifests else None
    if (service or name) not in known and (name in files.broken["manifests"] or name in files.broken["imports"]):
        raise UsageError(f"the file of {name} has an error, so that nobody knows what it asks for: mend it first")
    if (service or name) not in known:
        words = [*known, *files.manifests]
        raise UsageError(f"there is no integration, service or import {name}{hint(name, words)}")
    return known[service or name]


def _all_needed_data(files: Files) -> dict[str, NeededData]:
    """Return what every service and import needs, by name; the program itself comes last."""
    from reconciler.model.manifest import InitialDataField
    from reconciler.model.settings import OWN

    found: dict[str, NeededData] = {}
    asking = [(loaded.model.service or name, loaded.model.asks_for) for name, loaded in sorted(files.manifests.items())]
    asking += [(name, loaded.model.asks_for) for name, loaded in sorted(files.imports.items())]
    for service, asked in asking:
        before = found.get(service) or NeededData(service)
        both = {**before.fields, **{field.id: before.fields.get(field.id, field) for field in asked}}
        found[service] = NeededData(service, both, before.required | {field.id for field in asked})
    for name, loaded in files.manifests.items():
        service, events = loaded.model.service or name, loaded.model.events
        for secret in [] if events is None else events.secrets:  # nothing is blocked for it
            had = found[service].fields
            hook = had.get(secret) or InitialDataField(id=secret, description="signs the events of the service")
            found[service] = replace(found[service], fields={**had, secret: hook})
    found[OWN] = _own(files.settings)
    return found


def _own(settings: Settings) -> NeededData:
    from reconciler.model.manifest import InitialDataField
    from reconciler.model.settings import OWN

    known = {
        "SMTP_PASSWORD": "of smtp.username, at the mail server",
        "TWILIO_AUTH_TOKEN": "of twilio.account_sid",
        "STATE_PASSWORD": "of the user in `state`, at the PostgreSQL server",
        "PAGES_TOKEN": "opens the status pages off loopback; choose a long one",
        "HOOK_SECRET": "signs pushes at /hooks/git; choose a long one",
        "SEALING_KEY": "the fingerprint of the state's key",
        "CHECKPOINT_KEY": "signs checkpoints of the history",
    }
    hooks = sorted(frozenset().union(*(alert.asks_for for alert in settings.alerts)) - known.keys())
    known |= dict.fromkeys(hooks, "in the URL of an alert's webhook")
    asked = {
        name: InitialDataField(id=name, secret=name != "SEALING_KEY", description=what) for name, what in known.items()
    }
    required = set(hooks)
    required |= {"SMTP_PASSWORD"} if settings.smtp.username is not None else set()
    required |= {"TWILIO_AUTH_TOKEN"} if settings.twilio is not None else set()
    return NeededData(OWN, asked, frozenset(required))
