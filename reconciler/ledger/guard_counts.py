"""Read what the guard counts: grants that were changed since the last full resync, and those that it holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from reconciler.ledger.reading import LedgerPart, Reading, in_batches
from reconciler.model.grant import APART, Key, Phase
from reconciler.model.run import Kind
from reconciler.model.status import ReasonCode, Status

RESYNC = "resync_attempt"
"""The name of the note that has the newest attempt at the start of the last full resync."""

RESYNC_BEFORE = "resync_before_attempt"
"""The same of the one before, which has ended."""

UNASKED = (Status.INVALID, Status.SCHEDULED, Status.BLOCKED, Status.SUSPENDED)
"""The statuses of grants for which no check is made."""

_TAKEN = (
    "SELECT DISTINCT integration, hire, access FROM attempts WHERE by_hand IS FALSE"
    " AND ((kind IN ('heal', 'mend') AND id > :began)"
    " OR (kind IN ('revoke', 'withdraw') AND id > :ended AND NOT EXISTS (SELECT 1 FROM grants"
    " WHERE grants.hire = attempts.hire AND grants.access = attempts.access"
    " AND grants.over IN ('reached', 'left') AND grants.first_ends_at = grants.ends_at)))"
)
_MADE = (
    "SELECT DISTINCT integration, hire, access FROM attempts"
    " WHERE kind IN ('execute', 'reinvite', 'update') AND number = 1 AND by_hand IS FALSE AND id > :began"
)


class Since(NamedTuple):
    """From which attempts on the guard counts.

    What was healed and made counts since the last full resync `began`. What was taken away counts until one has
    `ended` that began after it.
    """

    began: int
    ended: int


class Held(NamedTuple):
    """A grant that the guard holds: whether an account would be revoked or healed, or made or updated."""

    integration: str
    takes: bool


class GuardCounts(LedgerPart):
    """What the guard counts."""

    def counted_since(self) -> Since:
        """Return the newest attempts at the starts of the last full resync and of the one before it, or 0."""
        return Since(*(int(self._note(name) or b"0") for name in (RESYNC, RESYNC_BEFORE)))

    def newest_attempt(self) -> int:
        """Return the number of the newest attempt, or 0."""
        with self._backend.reading() as reading:
            return newest_attempt(reading)

    def confirmed(self, since: Since) -> dict[str, int]:
        """Count each integration's grants that were confirmed and not revoked then, or have been since.

        One whose entry has an account again counts with that: a revision that turns many to others adds none.
        """
        query = (
            "SELECT integration, count(*) FROM grants WHERE confirmed_at IS NOT NULL AND (phase <> :revoked"
            " OR EXISTS (SELECT 1 FROM attempts WHERE attempts.hire = grants.hire AND attempts.access = grants.access"
            " AND attempts.kind IN ('revoke', 'withdraw') AND attempts.by_hand IS FALSE AND attempts.id > :ended))"
            " AND NOT (access LIKE :apart AND EXISTS (SELECT 1 FROM grants AS own WHERE own.hire = grants.hire"
            " AND own.integration = grants.integration AND own.confirmed_at IS NOT NULL"
            " AND grants.access LIKE own.access || :former)) GROUP BY integration"
        )
        former = f"{APART}%"
        return dict(self._cells(query, revoked=Phase.REVOKED, ended=since.ended, apart=f"%{former}", former=former))

    def held(self) -> dict[str, int]:
        """Count the grants of each integration that the guard holds."""
        return dict(self._cells("SELECT integration, count(*) FROM grants WHERE guarded IS TRUE GROUP BY integration"))

    def uncounted(self) -> dict[str, set[Key]]:
        """List these grants, by integration."""
        query = "SELECT integration, hire, access FROM grants WHERE guarded IS TRUE AND code = :code"
        return self._by_integration(query, code=ReasonCode.COUNTING)

    def taken_from(self, hires: Collection[str]) -> set[Key]:
        """List the grants of some hires that attempts took away, whoever asked for them."""
        query = "SELECT hire, access FROM attempts WHERE kind IN :kinds AND hire IN :hires"
        kinds = [kind for kind in Kind if kind.takes_away]
        return {Key(*cells) for names in in_batches(hires) for cells in self._cells(query, kinds=kinds, hires=names)}

    def held_alike(self, since: Since) -> list[tuple[Held, int, int, int]]:
        """Count the grants that the guard holds, those alike together.

        The second number is of those that were healed or revoked since then, the third of those that were made or
        updated.
        """
        query = (
            "SELECT integration, takes, count(*), count(taken.hire), count(made.hire) FROM grants"
            f" LEFT JOIN ({_TAKEN}) AS taken USING (integration, hire, access)"
            f" LEFT JOIN ({_MADE}) AS made USING (integration, hire, access)"
            " WHERE guarded IS TRUE GROUP BY 1, 2"
        )
        rows = self._cells(query, began=since.began, ended=since.ended)
        return [(Held(name, bool(takes)), *counts) for name, takes, *counts in rows]

    def held_of(self, hires: Collection[str]) -> Iterator[tuple[Held, Key]]:
        """Read the grants of some hires that the guard holds."""
        query = "SELECT integration, takes, hire, access FROM grants WHERE hire IN :hires AND guarded IS TRUE"
        for names in in_batches(hires):
            yield from ((Held(name, bool(takes)), Key(*key)) for name, takes, *key in self._cells(query, hires=names))

    def answered_since(self, keys: Collection[Key], since: datetime) -> set[Key]:
        """Return which of these grants were checked since a moment, with an answer, or are held, or have no check."""
        query = (
            "SELECT hire, access FROM grants WHERE hire IN :hires AND status <> :unknown"
            " AND (checked_at >= :since OR guarded IS TRUE OR (checked_at IS NULL AND attempts > 0))"
        )
        given = {"since": since, "unknown": Status.UNKNOWN}
        batches = in_batches({key.hire for key in keys})
        found = {Key(*cells) for names in batches for cells in self._cells(query, hires=names, **given)}
        return found & {*keys}

    def lacks_check(self, integration: str, since: datetime) -> bool:
        """Whether an account of an integration was not checked since a moment, although it is checked."""
        query = (
            "SELECT 1 FROM grants WHERE integration = :integration AND phase <> :revoked AND checked_at < :since"
            " AND NOT (status IN :unasked) LIMIT 1"
        )
        given = {"revoked": Phase.REVOKED, "unasked": UNASKED}
        return self._value(query, integration=integration, since=since, **given) is not None

    def changes_since(self, since: Since) -> dict[str, set[Key]]:
        """List the grants of each integration that were healed or revoked since then."""
        return self._by_integration(_TAKEN, began=since.began, ended=since.ended)

    def made_since(self, since: Since) -> dict[str, set[Key]]:
        """List the grants of each integration that were made or updated since then, without retries."""
        return self._by_integration(_MADE, began=since.began)

    def _by_integration(self, query: str, **values: object) -> dict[str, set[Key]]:
        found: dict[str, set[Key]] = {}
        for integration, hire, access in self._cells(query, **values):
            found.setdefault(integration, set()).add(Key(hire, access))
        return found


def newest_attempt(reading: Reading) -> int:
    """The number of the attempt that was written down last; 0 where there was none."""
    return int(reading.value("SELECT max(id) FROM attempts") or 0)
