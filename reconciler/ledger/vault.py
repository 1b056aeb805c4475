"""What a run has to remember until its grant is settled: responses, what `store_data` saved, generated values.

It is kept sealed in the ledger from one request to the next, so that a run that was cut off continues with the values
that the account was made with, and it is erased when the grant settles (docs/design/rules.md, "The ledger and the
retry").
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from reconciler.ledger.entries import Change, Kept
from reconciler.ledger.lease import Lease
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import SecretsError
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key
from reconciler.model.scope import Layer
from reconciler.model.secret import Secret
from reconciler.secrets.sealed import Sealer

if TYPE_CHECKING:
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["Memory", "Vault", "WritableVault", "generated"]

RUNS = "run/"
GENERATED_BYTES = 18
"""24 characters of URL-safe base64; at least 16 are promised (docs/design/rules.md, "Generated values")."""


def generated(names: Iterable[str]) -> dict[str, str]:
    """A fresh secret for each name. No sign at either end, so that it survives being copied by hand."""
    return {name: "x" + secrets.token_urlsafe(GENERATED_BYTES) + "7" for name in names}


@dataclass(slots=True)
class Memory:
    """The memory of one run. `files` names what `save_as_file` kept, by what the manifest calls it."""

    responses: list[Any] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)
    generated: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def layers(self) -> tuple[Layer, ...]:
        """The memory as variables, but for what was stored; generated values are secret."""
        held = {name: Secret(value) for name, value in self.generated.items()}
        return Layer("generated", held, frozenset(held)), Layer("responses", {"responses": self.responses})

    def answered(self, place: int, response: Any) -> None:
        """Remember the response of a request; one whose answer never came leaves a gap."""
        self.responses.extend([None] * (place + 1 - len(self.responses)))
        self.responses[place] = response

    def as_json(self) -> dict[str, Any]:
        """The memory as JSON can hold it."""
        return {
            "responses": self.responses,
            "stored": self.stored,
            "generated": self.generated,
            "attached": self.files,
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Memory:
        """The memory that `as_json` gave."""
        return cls(kept["responses"], kept["stored"], kept["generated"], kept.get("attached", {}))


class Vault:
    """The sealed part of the ledger, to be read.

    A key that does not open leaves nothing that can be read from it, or sealed for it: then there is a fault in the
    sealer's place.
    """

    def __init__(self, ledger: LedgerReader, sealer: Sealer | SecretsError) -> None:
        self._ledger = ledger
        self.sealer = sealer

    def read(self, name: str) -> Any:
        """What is kept under this name, decoded; None where nothing is.

        Raises SecretsError where it cannot be opened: it was tampered with, or sealed with a key that is gone.
        """
        blob = self._ledger.sealed(name)
        return None if blob is None else json.loads(self._opened().open(blob, f"sealed/value/{name}"))

    def sealed(self, name: str, value: Any) -> bytes:
        """A value sealed for this name, to be written along with what it belongs to. Raises SecretsError."""
        return self._opened().seal(json.dumps(value).encode(), f"sealed/value/{name}")

    def without_stored(self, keys: Collection[Key]) -> Kept:
        """What is kept of what `store_data` saved, once these access entries are no more.

        What does not open is left as it is: it is nobody's any more, and nobody can read it.
        """
        if isinstance(self.sealer, SecretsError):
            return {}
        kept: dict[str, Change] = {}
        for hire in {key.hire for key in keys}:
            theirs = {key.access for key in keys if key.hire == hire}
            with suppress(SecretsError):
                if theirs & (self.read(stored_name(hire)) or {}).keys():
                    kept[stored_name(hire)] = self.changed(stored_name(hire), partial(_without, theirs))
        return kept

    def changed(self, name: str, change: Callable[[Any], Any]) -> Change:
        """A change of what is kept under a name, decoded on both sides; nothing, or what is empty, is erased."""

        def apply(before: bytes | None) -> bytes | None:
            value = change(None if before is None else json.loads(self._opened().open(before, f"sealed/value/{name}")))
            return self.sealed(name, value) if value else None

        return apply

    def memory(self, key: Key) -> Memory:
        """What the unsettled run of a grant remembers.

        Raises SecretsError where it is gone or cannot be opened.
        """
        kept = self.read(run_name(key))
        if kept is None:
            raise SecretsError("what the earlier attempt had received is gone: `reconcile accept` or `reconcile run`")
        return Memory.of_json(kept)

    def remember(self, key: Key, memory: Memory) -> dict[str, bytes]:
        """The run's memory, sealed, by the name that it is kept under."""
        return {run_name(key): self.sealed(run_name(key), memory.as_json())}

    def attached(self) -> set[str]:
        """The files that the memories of runs name."""
        runs = (name for name in self._ledger.sealed_names() if name.startswith(RUNS))
        return {file for name in runs for file in Memory.of_json(self.read(name)).files.values()}

    def seal(self, content: bytes, place: str) -> bytes:
        """Bytes sealed for a place outside the ledger. Raises SecretsError."""
        return self._opened().seal(content, place)

    def open(self, sealed: bytes, place: str) -> bytes:
        """What `seal` was given. Raises SecretsError."""
        return self._opened().open(sealed, place)

    def _opened(self) -> Sealer:
        if isinstance(self.sealer, SecretsError):
            raise SecretsError(str(self.sealer))
        return self.sealer


class WritableVault(Vault):
    """The sealed part of the ledger, to be read and written to."""

    def __init__(self, ledger: LedgerWriter, sealer: Sealer | SecretsError) -> None:
        super().__init__(ledger, sealer)
        self._writer = ledger

    @property
    def lease(self) -> Lease | None:
        """What may be written for."""
        return self._writer.lease

    def write(self, name: str, value: Any, point: Failpoint = Failpoint.SEALED) -> None:
        """Keep a value under this name."""
        self._writer.put_sealed(name, self.sealed(name, value), point)

    def alter(self, name: str, change: Callable[[Any], Any], point: Failpoint = Failpoint.SEALED) -> None:
        """Change what is kept under this name: nobody else does meanwhile."""
        self._writer.put_sealed(name, self.changed(name, change), point)

    def erase(self, name: str) -> None:
        """Erase what is kept under this name."""
        self._writer.erase(name)


def _without(accesses: Collection[str], of_hire: Mapping[str, Any] | None) -> dict[str, Any]:
    return {access: values for access, values in (of_hire or {}).items() if access not in accesses}


def run_name(key: Key) -> str:
    """The name that a run's memory is kept under."""
    return f"{RUNS}{key}"


def notice_name(key: Key) -> str:
    """The name that notifications are kept under until they are sent."""
    return f"notice/{key}"


def stored_name(hire: str) -> str:
    """The name that what `store_data` saved for a hire is kept under, by access entry."""
    return f"stored/{hire}"


def stored_for(of_hire: Mapping[str, Mapping[str, Any]], own: str, lenders: Iterable[str]) -> dict[str, Any]:
    """What one of a hire's entries sees of what `store_data` saved for the hire: its own, then that of its lenders."""
    found: dict[str, Any] = {}
    for entry in (own, *lenders):
        found = {**of_hire.get(entry, {}), **found}
    return found
