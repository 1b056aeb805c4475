"""`reconcile history checkpoint` and `history export`: prove to outsiders what the history says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli.commands.initial_data import keys_of, on_disk
from reconciler.cli.context import Here, run_in_context, suggest_from_ledger
from reconciler.cli.options import (
    FilePath,
    HistoryFilter,
    SharedOptions,
    of_hires,
    of_integrations,
    option,
    shared,
    since,
    until,
)
from reconciler.cli.output.logs import begin_redacting, note, set_up
from reconciler.cli.output.text import count, emit, emit_json
from reconciler.model.errors import RepositoryError, SecretsError, TimestampError, UsageError
from reconciler.model.value import Frozen, replace

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.model.settings import Settings


@click.command(short_help="Print a signed checkpoint of the history")
@option("--new-key", is_flag=True, help="Make the key that signs checkpoints, encrypted, and print its public half.")
@option("--replace", is_flag=True, help="With --new-key: replace the key there is; earlier checkpoints need its own.")
@option("--recipient", "recipients", multiple=True, metavar="KEY", help="With --new-key: encrypt to it; repeatable.")
@option("--public-key", is_flag=True, help="Print what others verify checkpoints with.")
@shared(csv=False, tolerant=True)
def checkpoint(
    options: SharedOptions, *, new_key: bool, replace: bool, recipients: tuple[str, ...], public_key: bool
) -> int:
    """Print a signed note that says how many lines the history has, and the root of a tree over all of them.

    Whoever has an earlier note and the public key finds out if one of the lines that it covers is changed later. The
    new key is encrypted to --recipient, or to the keys of the files in config/initial_data.
    """
    from reconciler.review.proof import sign, signing_key

    if (replace or recipients) and not new_key:
        raise UsageError(f"{'--replace' if replace else '--recipient'} is for --new-key")
    if new_key:
        public, file = _new_key(options, recipients, replace=replace)
        emit(options, {"key": public, "file": file}, [public])
        note(f"next: commit {file}; give the line above to whoever verifies, where nobody could replace it")
        return 0
    here = Here.of(options, set_up(options))
    key = signing_key(here.force.own())
    if public_key:
        emit(options, {"key": key.public}, [key.public])
        return 0
    with here.state.reader() as ledger:
        lines, signed = sign(ledger.history.tree(), here.context.checkout, key)
    if options.output == "json":
        emit_json({"lines": lines, "note": signed})
    else:
        click.echo(signed, nl=False)
    return 0


@click.command(short_help="Write lines of the history with their proofs")
@click.argument("folder", type=FilePath(file_okay=False), metavar="DIR")
@of_hires
@of_integrations
@since
@until
@shared(csv=False, tolerant=True)
def export(options: SharedOptions, /, folder: Path, **given: Any) -> int:
    """Write lines of the history into DIR, with proofs that a signed checkpoint covers them, and what verifies them.

    `python -I DIR/verify.py DIR --key KEY` needs neither this program nor the state; lines that were not chosen are not
    shown. Lines of forgotten people are exported only without filters, by their digests.
    """
    from reconciler.review import proof

    wanted, here = HistoryFilter(**given), Here.of(options, set_up(options))
    begin, end = wanted.period(here.settings.timezone)
    key = proof.signing_key(here.force.own())
    with here.state.reader() as ledger:
        chosen = None
        if wanted.names or begin or end:
            found = ledger.history.lines(hires=wanted.hires, integrations=wanted.integrations, since=begin, until=end)
            chosen = {line.digest for line in found}
        written, lines = proof.export(ledger, here.context.checkout, key, folder, chosen)
        if not written and wanted.names:
            meant = suggest_from_ledger(ledger, *wanted.names)
            note(f"the history tells nothing of {', '.join(wanted.names)}{meant}", "warning")
    _timestamp(options, here, folder)
    done = {"folder": str(folder), "lines": written, "of": lines, "key": key.public}
    emit(options, done, [f"{folder}: {written} of {count(lines, 'line')}"])
    note(f"to verify it: python -I {folder}/verify.py {folder} --key {key.public}")
    return 0


def _timestamp(options: SharedOptions, here: Here, folder: Path) -> None:
    """Have an export's checkpoint timestamped, where the settings name an authority; say so where it cannot be had."""
    from reconciler.review.proof import token_of

    checkpoints = here.settings.checkpoints
    if checkpoints is None or (wanted := checkpoints.timestamp) is None:
        return
    signed = (folder / "checkpoint.note").read_text(encoding="utf-8")

    async def ask(context: Context) -> bytes:
        return await token_of(signed, wanted, replace(here.force, context=context))

    try:
        token = run_in_context(options, here.context.redactor, ask)
        (folder / "checkpoint.tsr").write_bytes(token)
    except (TimestampError, OSError) as error:
        note(f"the checkpoint has no timestamp: {error}", "warning")


class Compared(Frozen):
    """How the history compares with a checkpoint: what `contradicts` it, and when the checkpoint was timestamped.

    `unverified` says why a timestamp that is there was not looked at.
    """

    contradicts: str | None
    timestamp: datetime | None = None
    unverified: str | None = None


def compared(options: SharedOptions, file: str, key: str | None) -> Compared:
    """Compare the history with the checkpoint in a file, and verify the timestamp beside it."""
    from reconciler.review.proof import authorities, contradiction, verifying_key
    from reconciler.secrets.checkpoint import verified

    here = Here.of(options, begin_redacting(options))
    note, token = _newest(options, here.settings) if file == "newest" else _read(file)
    verifier = verifying_key(key, here.force.own)
    try:
        with here.state.reader() as ledger:
            contradicts = contradiction(ledger, here.context.checkout, note.decode(errors="replace"), verifier)
        if contradicts is not None or token is None:
            return Compared(contradicts)
        checkpoints = here.settings.checkpoints
        if checkpoints is None or (wanted := checkpoints.timestamp) is None:
            return Compared(None, unverified="the settings have no checkpoints.timestamp, which says whom to trust")
        return Compared(None, verified(token, note, authorities(here.force.tree, wanted.ca)).at)
    except SecretsError as error:
        return Compared(str(error))
    except TimestampError as error:
        return Compared(f"its timestamp is not verified: {error}")


def _read(file: str) -> tuple[bytes, bytes | None]:
    """Read a checkpoint, and the timestamp beside it."""
    from reconciler.repository.git.branches import NOTE, TOKEN

    token = Path(file).with_suffix(TOKEN)
    try:
        return Path(file).read_bytes(), token.read_bytes() if file.endswith(NOTE) and token.exists() else None
    except OSError as error:
        raise UsageError(f"--checkpoint {file}: {error.strerror}") from None


def _newest(options: SharedOptions, settings: Settings) -> tuple[bytes, bytes | None]:
    """Read the newest checkpoint that was published. Raises RepositoryError if there is none, or it cannot be had."""
    from reconciler.repository.git.branches import NOTE, TOKEN, newest
    from reconciler.repository.git.program import GitFailed

    if (wanted := settings.checkpoints) is None:
        raise UsageError("--checkpoint newest: the settings have no `checkpoints`, so none is published")
    if wanted.directory is not None:
        folder = options.repo / wanted.directory
        numbers = [int(each.stem) for each in folder.glob(f"*{NOTE}") if each.stem.isdecimal()]
        if numbers:
            return _read(str(folder / f"{max(numbers)}{NOTE}"))
    else:
        try:
            found = newest(options.repo, wanted.remote or settings.git.remote, wanted.branch)
        except (GitFailed, OSError) as error:
            raise RepositoryError(f"the newest checkpoint cannot be had: {error}") from None
        if found:
            return found[NOTE], found.get(TOKEN)
    raise RepositoryError("no checkpoint was published yet")


def _new_key(options: SharedOptions, recipients: tuple[str, ...], *, replace: bool) -> tuple[str, str]:
    """Make a key, write it into the program's initial data on disk, and return its public half and the file."""
    from reconciler.model.settings import OWN
    from reconciler.review.proof import KEY, origin_of
    from reconciler.secrets.checkpoint import SigningKey
    from reconciler.secrets.initial_data import encrypt_initial_data

    revision = on_disk(options)
    values, checkout = revision.own(), revision.context.checkout
    if values.get(KEY) and not replace:
        raise SecretsError(f"there is a {KEY} already; after --replace, earlier checkpoints need its public key")
    made = SigningKey.new(origin_of(checkout))
    keys = keys_of(revision, list(recipients))
    path = encrypt_initial_data(checkout.root, OWN, {**values, KEY: made.reveal()}, keys, revision.gnupg)
    return SigningKey(made).public, path.relative_to(checkout.root).as_posix()
