"""When each hook last came, noted for `status` and the pages, and whether one that used to come does not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from reconciler.model.clock import Clock, stamp
from reconciler.model.errors import LedgerError
from reconciler.model.value import value_class

if TYPE_CHECKING:  # `status` reads the notes, and writes nothing
    from reconciler.daemon.health import ProblemLog
    from reconciler.ledger.reader import LedgerReader
    from reconciler.ledger.writer import LedgerWriter

__all__ = ["HookLog", "Hooked", "hooks_of"]

PREFIX = "hook:"
"""What the names of the notes begin with."""

SELDOM = timedelta(seconds=10)
"""How often a hook's note is written at most."""

LATE = timedelta(minutes=1)
"""How long before or after a commit its push may be told of."""


@value_class
class Hooked:
    """When a hook last came, and since when something was found that it should have told of."""

    hook: str
    at: datetime
    missed_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {"hook": self.hook, "at": stamp(self.at), "missed_at": stamp(self.missed_at)}

    @classmethod
    def of_note(cls, hook: str, note: bytes) -> Self:
        """Read a note."""
        moments = (None if each is None else datetime.fromisoformat(each) for each in json.loads(note))
        at, missed_at = moments
        assert at is not None
        return cls(hook, at, missed_at)


def hooks_of(ledger: LedgerReader) -> list[Hooked]:
    """Return when each hook last came, by name."""
    return [Hooked.of_note(hook, note) for hook, note in ledger.notes(PREFIX).items()]


class HookLog:
    """Notes when hooks come. Use it in the daemon's loop."""

    def __init__(self, ledger: LedgerWriter, clock: Clock, problems: ProblemLog) -> None:
        self._ledger = ledger
        self._clock = clock
        self._problems = problems
        self.last = {each.hook: each for each in hooks_of(ledger)}

    def came(self, hook: str) -> None:
        """Note that a hook came."""
        now, before = self._clock.now(), self.last.get(hook)
        if before is None or before.missed_at is not None or abs(now - before.at) >= SELDOM:
            self._note(Hooked(hook, now))
            self._problems.update(f"hook {hook}", None)

    def found_without(self, hook: str) -> None:
        """Note that something was found that a hook should have told of, if it has come before, but not just now."""
        now, before = self._clock.now(), self.last.get(hook)
        if before is not None and before.missed_at is None and now - before.at >= LATE:
            self._note(Hooked(hook, before.at, now))
            text = f"the last one came at {stamp(before.at)}, and a commit without one: see to the webhook's deliveries"
            self._problems.update(f"hook {hook}", text)

    def _note(self, hooked: Hooked) -> None:
        self.last[hooked.hook] = hooked
        moments = [each and each.isoformat() for each in (hooked.at, hooked.missed_at)]
        try:
            self._ledger.put_note(f"{PREFIX}{hooked.hook}", json.dumps(moments).encode())
        except LedgerError as error:
            self._problems.update("hooks", str(error))
