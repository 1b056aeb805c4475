"""Read what the guard counts: grants that were changed since the last full resync, and those that it holds."""

from __future__ import annotations

from reconciler.ledger.reading import Backend, Reading
from reconciler.ledger.rows import record_of
from reconciler.model.grant import Key, Phase, Record

__all__ = ["RESYNC", "GuardCounts", "newest_attempt"]

RESYNC = "resync_attempt"
"""The name of the note that has the newest attempt at the start of the last full resync."""


class GuardCounts:
    """The part of a ledger's reader that serves the guard."""

    backend: Backend

    def resync(self) -> int:
        """Return the newest attempt at the start of the last full resync, or 0."""
        with self.backend.reading() as reading:
            return int(bytes(reading.value("SELECT value FROM meta WHERE name = :name", name=RESYNC) or b"0"))

    def newest_attempt(self) -> int:
        """Return the number of the newest attempt, or 0."""
        with self.backend.reading() as reading:
            return newest_attempt(reading)

    def confirmed(self, attempt: int) -> dict[str, int]:
        """Count each integration's grants that were confirmed and not revoked at that attempt, or have been since."""
        query = (
            "SELECT integration, count(*) AS count FROM grants WHERE confirmed_at IS NOT NULL AND (phase <> :revoked"
            " OR EXISTS (SELECT 1 FROM attempts WHERE attempts.hire = grants.hire AND attempts.access = grants.access"
            " AND attempts.kind IN ('revoke', 'withdraw') AND attempts.id > :attempt)) GROUP BY integration"
        )
        with self.backend.reading() as reading:
            rows = reading.rows(query, revoked=Phase.REVOKED, attempt=attempt)
            return {row["integration"]: row["count"] for row in rows}

    def guarded(self) -> list[Record]:
        """Read the records that the guard holds, without the steps of their runs."""
        with self.backend.reading() as reading:
            return [record_of(row, ()) for row in reading.rows("SELECT * FROM grants WHERE guarded IS TRUE")]

    def held_for(self, reason: str) -> set[str]:
        """Return the integrations of which the guard holds a grant for a reason that begins like this."""
        query = "SELECT DISTINCT integration FROM grants WHERE guarded IS TRUE AND substr(reason, 1, :length) = :reason"
        with self.backend.reading() as reading:
            return {row["integration"] for row in reading.rows(query, length=len(reason), reason=reason)}

    def changes_since(self, attempt: int) -> dict[str, set[Key]]:
        """List the grants of each integration that were healed or revoked after that attempt."""
        return self._by_integration(
            "SELECT integration, hire, access FROM attempts"
            " WHERE kind IN ('heal', 'mend', 'revoke', 'withdraw') AND id > :attempt",
            attempt=attempt,
        )

    def made_since(self, attempt: int) -> dict[str, set[Key]]:
        """List the grants of each integration that were made or updated after that attempt, without retries."""
        return self._by_integration(
            "SELECT integration, hire, access FROM attempts"
            " WHERE kind IN ('execute', 'reinvite', 'update') AND number = 1 AND id > :attempt",
            attempt=attempt,
        )

    def _by_integration(self, query: str, **values: object) -> dict[str, set[Key]]:
        found: dict[str, set[Key]] = {}
        with self.backend.reading() as reading:
            for row in reading.rows(query, **values):
                found.setdefault(row["integration"], set()).add(Key(row["hire"], row["access"]))
        return found


def newest_attempt(reading: Reading) -> int:
    """The number of the attempt that was written down last; 0 where there was none."""
    return int(reading.value("SELECT max(id) FROM attempts") or 0)
