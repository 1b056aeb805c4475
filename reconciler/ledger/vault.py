"""Sealed values in the ledger, above all a run's memory: responses, values of `store_data`, generated values.

The memory is saved with each request, so that an interrupted run continues with the values that the account was made
with, and is erased when the grant settles (docs/design/rules.md, "The ledger and the retry").

Answers that `save_as_file` saves until then are sealed rows of their own, which the memory names. One without a name in
any memory is left from a crash, or from a run that a person ended; it is erased when the state is locked the next time.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct, convert, field
from msgspec.structs import astuple

from reconciler.ledger.entries import Change, Event, ValueChanges
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import SecretsError
from reconciler.model.grant import Key, Record, all_needed
from reconciler.model.scope import Layer
from reconciler.model.secret import Secret
from reconciler.model.text import same_text
from reconciler.model.value import Frozen, Unshown
from reconciler.secrets.sealed import Sealer

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

RUNS = "run/"
FILES = "files/"
"""How the name of a sealed row begins that is a file, which is bound to this name."""
YOUNG = 3600
"""Seconds for which a file may belong to another member's attempt that has not named it yet."""
GENERATED_BYTES = 18
"""24 characters of URL-safe base64; at least 16 are promised (docs/design/rules.md, "Generated values")."""


def generated(names: Iterable[str]) -> dict[str, str]:
    """Generate a secret for each name. It begins and ends with a letter or digit, so that it is easy to copy."""
    return {name: "x" + secrets.token_urlsafe(GENERATED_BYTES) + "7" for name in names}


class Memory(Struct):
    """The memory of one run. `files` maps names in the manifest to files that `save_as_file` saved.

    `seen` is what the check before it saved, which may find the account no more when the run continues.
    """

    responses: list[Any] = []
    stored: dict[str, Any] = {}
    generated: dict[str, str] = {}
    files: dict[str, str] = field(default_factory=dict, name="attached")
    seen: Mapping[str, Any] = {}

    def layers(self, before: int) -> tuple[Layer, ...]:
        """Make variables of the memory, without stored values; generated values are secret.

        `before` requests are a list of their own, whose responses the requests after them do not count
        (docs/design/rules.md, "Variables").
        """
        held = {name: Secret(value) for name, value in self.generated.items()}
        responses = self.responses[before:] if len(self.responses) >= before else self.responses
        return Layer("generated", held, frozenset(held)), Layer("responses", {"responses": responses})

    def answered(self, place: int, response: Any) -> None:
        """Save the response of a request; a request without an answer leaves a gap."""
        self.responses.extend([None] * (place + 1 - len(self.responses)))
        self.responses[place] = response


class Stored(Frozen):
    """What `store_data` saved in earlier attempts: an entry's `own`, and what the entries that it needs lend it."""

    own: Unshown[Mapping[str, Any]] = {}
    lent: Unshown[Mapping[str, Any]] = {}

    @property
    def names(self) -> frozenset[str]:
        """Return the names of all values."""
        return frozenset({*self.own, *self.lent})

    def without(self, names: Collection[str], *, own: bool) -> Stored:
        """Return it without these names; if not `own`, also without the entry's own values."""
        kept = ({key: value for key, value in each.items() if key not in names} for each in (self.own, self.lent))
        mine, lent = kept
        return Stored(mine if own else {}, lent)

    def layers(self) -> tuple[Layer, ...]:
        """Return the values as the last layers of a scope."""
        found = ("of an earlier run", self.own), ("of a needed entry", self.lent)
        return tuple(Layer(f"store_data {whose}", values, frozenset(values)) for whose, values in found if values)


class Vault:
    """Opens and seals the values of a state, in the ledger that it is given.

    Its key is None if there is none yet, and the error if it cannot be decrypted: nothing can be read or sealed then.
    """

    def __init__(self, key: Sealer | SecretsError | None) -> None:
        self._key = key

    @property
    def sealer(self) -> Sealer | None:
        """The sealer; None if there is none, or its key cannot be decrypted."""
        return None if isinstance(self._key, SecretsError) else self._key

    @property
    def fault(self) -> str | None:
        """Why the key cannot be decrypted; None if it can, or if there is none."""
        return str(self._key) if isinstance(self._key, SecretsError) else None

    def mac(self, text: bytes) -> str | None:
        """Return the code of a text that only who has the key can make; None without it."""
        return None if self.sealer is None else self.sealer.mac(text)

    def follow(self, other: Vault) -> None:
        """Use the key that another one has opened since, also in passes that are under way."""
        if self.sealer is not None and other.sealer is not None:
            self.sealer.become(other.sealer)

    def read(self, ledger: LedgerReader, name: str) -> Any:
        """Read and decode a value; None if there is none.

        Raises SecretsError if it cannot be opened: it was tampered with, or sealed with a lost key.
        """
        blob = ledger.sealed.get(name)
        return None if blob is None else self.decoded(name, blob)

    def decoded(self, name: str, blob: bytes) -> Any:
        """Decode the sealed value of a name. Raises SecretsError."""
        return json.loads(self._opened().open(blob, value_place(name)))

    def stored(self, ledger: LedgerReader, hires: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """Read the stored values of hires that have some.

        A value that cannot be opened counts as missing: grants that need it are blocked.
        """
        found: dict[str, Mapping[str, Any]] = {}
        of_hire = {stored_name(hire): hire for hire in hires}
        for name, blob in ledger.sealed.several(of_hire):
            with suppress(SecretsError):
                found[of_hire[name]] = self.decoded(name, blob)
        return found

    def sealed(self, name: str, value: Any) -> bytes:
        """Seal a value for this name, to be written together with its row. Raises SecretsError."""
        return self._opened().seal(json.dumps(value).encode(), value_place(name))

    def without_stored(self, ledger: LedgerReader, keys: Collection[Key]) -> ValueChanges:
        """Make the changes that erase the stored values of these access entries.

        Values that cannot be opened stay: nobody can read them.
        """
        if self.sealer is None:
            return {}
        kept: dict[str, Change] = {}
        for hire in {key.hire for key in keys}:
            theirs = {key.access for key in keys if key.hire == hire}
            with suppress(SecretsError):
                if theirs & (self.read(ledger, stored_name(hire)) or {}).keys():
                    kept[stored_name(hire)] = self.changed(stored_name(hire), partial(_without, theirs))
        return kept

    def handed_on(self, ledger: LedgerReader, keys: Collection[Key]) -> ValueChanges:
        """Make the changes that erase the stored values of entries whose account is gone.

        Entries that need them, and may have an account, keep them: theirs is asked for and taken away with the same.
        """
        changes = dict(self.without_stored(ledger, keys))
        for hire in {key.hire for key in keys if stored_name(key.hire) in changes}:
            gone = {key.access for key in keys if key.hire == hire}
            if heirs := _heirs(list(ledger.grants.records([hire])), gone):
                changes[stored_name(hire)] = self.changed(stored_name(hire), partial(_handed_on, gone, heirs))
        return changes

    def with_stored(self, key: Key, values: Mapping[str, Any]) -> ValueChanges:
        """Make the change after which these are the stored values of an access entry."""
        name, stored = stored_name(key.hire), {key.access: values} if values else {}
        return {name: self.changed(name, partial(_stored_with, {key.access}, stored))}

    def move(self, ledger: LedgerWriter, moves: Mapping[Key, Key], events: Iterable[Event]) -> None:
        """Move rows, their history and their sealed values, all or none. Each move has its event.

        Rows go on needing what moves: a pass need not cover them for that.
        """
        sealed: dict[str, Any] = {}
        stored: dict[str, dict[str, Any]] = {}
        left: dict[str, None] = {}
        for old, new in moves.items():
            for name in (run_name, notice_name):
                if (known := self.read(ledger, name(old))) is not None:
                    sealed[name(new)] = known
                    left[name(old)] = None
            of_hire = self.read(ledger, stored_name(old.hire)) or {}
            if old.access in of_hire:
                stored.setdefault(new.hire, {})[new.access] = of_hire[old.access]
        kept: dict[str, Any] = {place: self.sealed(place, value) for place, value in sealed.items()}
        for hire, values in stored.items():  # in the transaction: another service's pass may move its own at this time
            moving = {old.access for old in moves if old.hire == hire}
            kept[stored_name(hire)] = self.changed(stored_name(hire), partial(_stored_with, moving, values))
        kept = {**self.without_stored(ledger, moves.keys()), **left, **kept}
        ledger.rename(moves, events, kept, needs=_needs(ledger, moves))

    def changed(self, name: str, change: Callable[[Any], Any]) -> Change:
        """Make a change of a sealed value from one of decoded values; an empty result erases it."""

        def apply(before: bytes | None) -> bytes | None:
            value = change(None if before is None else self.decoded(name, before))
            return self.sealed(name, value) if value else None

        return apply

    def memory(self, ledger: LedgerReader, key: Key) -> Memory:
        """Read the memory of a grant's open run.

        Raises SecretsError if it is gone or cannot be opened.
        """
        kept = self.read(ledger, run_name(key))
        if kept is None:
            raise SecretsError("what the earlier attempt had received is gone: `reconcile accept` or `reconcile run`")
        return convert(kept, Memory)

    def remember(self, key: Key, memory: Memory) -> dict[str, bytes]:
        """Seal a run's memory, by its name."""
        # What a directory answers has a type of its own, which `json` writes and `msgspec` does not.
        kept = dict(zip(Memory.__struct_encode_fields__, astuple(memory), strict=True))
        return {run_name(key): self.sealed(run_name(key), kept)}

    def keep(self, ledger: LedgerWriter, content: bytes) -> str:
        """Save a file, and return its name, which begins with the second in which it was made. Raises SecretsError."""
        name = f"{int(time.time()):010d}{secrets.token_hex(11)}"
        ledger.sealed.put(FILES + name, self._opened().seal(content, FILES + name))
        return name

    def files(self, ledger: LedgerReader, named: Mapping[str, str]) -> dict[str, bytes]:
        """Read files, by their names in the manifest. Raises SecretsError if one is gone or altered."""
        found = {}
        for called, name in named.items():
            sealed = ledger.sealed.get(FILES + name)
            if sealed is None:
                raise SecretsError("a file of the earlier attempt is gone: `reconcile accept` or `reconcile run`")
            found[called] = self._opened().open(sealed, FILES + name)
        return found

    def erase(self, ledger: LedgerWriter, names: Iterable[str]) -> None:
        """Erase files."""
        for name in names:
            ledger.sealed.put(FILES + name, None)

    def sweep(self, ledger: LedgerWriter, young: float = 0) -> None:
        """Erase the files that no memory names and that are not `young`, in seconds. Raises SecretsError.

        Runs of other members may settle meanwhile.
        """
        begins = f"{int(time.time() - young):010d}"
        kept = [place.removeprefix(FILES) for place in ledger.sealed.names(FILES)]
        if not (old := [name for name in kept if name[:10] <= begins]):
            return
        runs = (self.read(ledger, name) for name in ledger.sealed.names(RUNS))
        named = {file for run in runs if run is not None for file in convert(run, Memory).files.values()}
        self.erase(ledger, [name for name in old if name not in named])

    def _opened(self) -> Sealer:
        if self.sealer is None:
            raise SecretsError(self.fault or "the state has no key yet: no value is sealed in it")
        return self.sealer


def _without(accesses: Container[str], of_hire: Mapping[str, Any] | None) -> dict[str, Any]:
    return {access: values for access, values in (of_hire or {}).items() if access not in accesses}


def _stored_with(gone: Container[str], values: Mapping[str, Any], of_hire: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what is stored for a hire, without what was stored of some entries and with what is of others now."""
    return {**_without(gone, of_hire), **values}


def _needs(ledger: LedgerReader, moves: Mapping[Key, Key]) -> dict[Key, list[str]]:
    """Return what rows of the same services need, where that has another name, by the rows' new keys."""
    names: dict[tuple[str, str], dict[str, str]] = {}
    for old, new in moves.items():
        names.setdefault((old.hire, new.hire), {})[old.access] = new.access
    rows = list(ledger.grants.records({hire for pair in names for hire in pair}))
    services = {row.service for row in rows if row.key in moves}
    found: dict[Key, list[str]] = {}
    for row in rows:
        key = moves.get(row.key, row.key)
        theirs = names.get((row.key.hire, key.hire), {})
        if row.service in services and not theirs.keys().isdisjoint(row.needs):
            found[key] = [theirs.get(need, need) for need in row.needs]
    return found


def _heirs(records: Collection[Record], gone: Collection[str]) -> dict[str, list[str]]:
    """Return the entries that may have an account, each with those `gone` of its service that it needs, nearest first.

    `records` are all of a hire.
    """
    known, found = {record.key.access: record for record in records}, dict[str, list[str]]()
    needs = {access: record.needs for access, record in known.items()}
    for record in records:
        needed = [entry for entry in all_needed(record.key.access, needs) if entry in gone and entry in known]
        lenders = [entry for entry in needed if lends(known[entry], record)]
        if lenders and record.may_remain and record.key.access not in gone:
            found[record.key.access] = lenders
    return found


def _handed_on(
    gone: Collection[str], heirs: Mapping[str, Iterable[str]], of_hire: Mapping[str, Any] | None
) -> dict[str, Any]:
    kept = _without(gone, of_hire)
    for access, lenders in heirs.items():
        stored = stored_for(of_hire or {}, access, lenders)
        if stored.names:
            kept[access] = {**stored.lent, **stored.own}
    return kept


def lends(lender: Record, record: Record) -> bool:
    """Whether what is stored for an entry that a row needs may be of the row's account: not if it has another address.

    What needs an entry may be left at a former address, and the entry itself be made anew at the present one.
    """
    elsewhere = "email" in lender.values and not same_text(lender.email, record.email)
    return lender.service == record.service and not elsewhere


def value_place(name: str) -> str:
    """Return the place that a sealed value is bound to."""
    return f"sealed/value/{name}"


def run_name(key: Key) -> str:
    """Name a run's memory."""
    return f"{RUNS}{key}"


def notice_name(key: Key) -> str:
    """Name the notifications of a grant that are not sent yet."""
    return f"notice/{key}"


def stored_name(hire: str) -> str:
    """Name the stored values of a hire, which are by access entry."""
    return f"stored/{hire}"


def stored_for(of_hire: Mapping[str, Mapping[str, Any]], own: str, lenders: Iterable[str]) -> Stored:
    """Collect the stored values that an entry sees: its own, then those of the entries that it needs."""
    lent: dict[str, Any] = {}
    for entry in lenders:
        lent = {**of_hire.get(entry, {}), **lent}
    return Stored(of_hire.get(own, {}), lent)
