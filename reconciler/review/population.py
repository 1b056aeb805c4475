"""The lines of an access review: every grant of an integration, and every account of it that git does not know.

Grants are those that git wants, and those in the ledger that git no longer wants, because somebody may still have them.
An orphan's account has no line besides that of its grant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconciler.ledger.reader import LedgerReader
from reconciler.model.attribution import Attribution
from reconciler.model.clock import stamp
from reconciler.model.errors import LedgerError
from reconciler.model.grant import Grant, Key, Phase, Record
from reconciler.model.hire import HireRef
from reconciler.model.report import Report, Row
from reconciler.model.status import Status
from reconciler.repository.desired import Desired
from reconciler.requests.last_used import last_used
from reconciler.review.unmanaged import AccountKind, ComparedListing, UnknownAccount

__all__ = ["ServiceAnswer", "by_manager", "populations", "without_manifest"]

NOBODY = "nobody"
"""The folder of lines about nobody who has a manager."""

_THERE = (Status.PRESENT, Status.DIFFERS)


@dataclass(slots=True)
class ServiceAnswer:
    """What a service answered about an integration's accounts; `fault` says why the answer is incomplete."""

    compared: ComparedListing
    checked: int = 0
    """For an integration without a listing, how many grants' checks found the account."""
    fault: str | None = None

    @classmethod
    def of(cls, compared: ComparedListing, checks: Report | None) -> ServiceAnswer:
        """Take a compared listing, or the checks of a plan if there is no listing."""
        if compared.complete or compared.fault is not None or checks is None:
            return cls(compared, fault=compared.fault)
        rows = [row for row in checks.rows if row.integration == compared.integration]
        failed = [row for row in rows if row.status is Status.UNKNOWN]
        why = f"{len(failed)} of {len(rows)} checks failed: {failed[0].reason}" if failed else None
        return cls(compared, sum(row.status in _THERE for row in rows), why)

    @property
    def listed(self) -> int | None:
        """The number of accounts in the listing; None if there is no listing."""
        without = not self.compared.complete and self.fault is None
        return None if without else self.compared.listed


def populations(
    asked: Iterable[ServiceAnswer],
    desired: Desired,
    ledger: LedgerReader,
    given: Mapping[Key, Attribution],
    at: datetime,
) -> dict[str, dict[str, Any]]:
    """Make the data of each integration's review, without its digest.

    Raises LedgerError if the history is broken.
    """
    history = _history(ledger)
    grants = {grant.key: grant for hire in desired.hires for grant in desired.grants(hire)}
    records = {record.key: record for record in ledger.grants.records()}
    keys = _by_integration(grants, records)
    found = {}
    for each in asked:
        compared = each.compared
        loaded = desired.files.manifests.get(compared.integration)
        form = [field.id for field in loaded.model.form] if loaded is not None else []
        rows = [_row(key, grants, records, form).given_by(given.get(key)) for key in keys[compared.integration]]
        lines = [
            _line(row.hire, row.access, row.values or {}, row.since, row.given)
            | _asked(row)
            | _used(compared, compared.used.get(Key(row.hire, row.access), (None, None))[1])
            for row in rows
        ]
        lines += _of_accounts(compared, at)
        lines.sort(key=lambda line: (line["who"].casefold(), line["who"], line["access"] or ""))
        found[compared.integration] = {
            "revision": desired.revision,
            "read_at": stamp(at),
            "listed": each.listed,
            "matched": compared.matched if compared.complete else each.checked,
            "ignored": compared.of(AccountKind.IGNORED),
            "complete": compared.complete,
            "history": history,
            "lines": lines,
        }
    return found


def by_manager(population: Mapping[str, Any], desired: Desired) -> dict[str, dict[str, Any]]:
    """Split an integration's review by whose people its lines are about, each with what is true of the whole.

    What is of nobody who has a manager with a file is `NOBODY`'s, and so is a review without lines.
    """
    managers: dict[str, list[Any]] = defaultdict(list)
    for line in population["lines"]:
        managers[_manager(line, desired) or NOBODY].append(line)
    return {manager: {**population, "lines": lines} for manager, lines in sorted((managers or {NOBODY: []}).items())}


def _manager(line: Mapping[str, Any], desired: Desired) -> str | None:
    """Return the hire's id of the manager of whom a line is about, as far as files have both."""
    loaded = desired.hires.get(line["who"]) if line["access"] is not None else None
    if loaded is None:
        return None
    said = loaded.model.manager
    if isinstance(said, HireRef):
        return said.hire if said.hire in desired.hires else None
    return desired.owner(loaded.model.manager_email) if loaded.model.manager_email else None


def without_manifest(ledger: LedgerReader, names: Collection[str]) -> list[ServiceAnswer]:
    """List integrations of other names that somebody may still have: without a manifest, nothing can be asked."""
    left = {record.integration for record in ledger.grants.records() if _may_be_there(record)}
    return [ServiceAnswer(ComparedListing(name)) for name in sorted(left.difference(names))]


def _may_be_there(record: Record) -> bool:
    return record.phase is not Phase.REVOKED and record.leaves_something


def _history(ledger: LedgerReader) -> str | None:
    """Return the digest of the history, or None if it is empty."""
    chain = ledger.history.verify()
    if chain.broken is not None:
        raise LedgerError(f"the history is no evidence, it is broken at {chain.broken}: `reconcile history --verify`")
    return chain.digest or None


def _by_integration(grants: Mapping[Key, Grant], records: Mapping[Key, Record]) -> dict[str, list[Key]]:
    """Group by integration the grants that git wants, and others in the ledger that somebody may still have."""
    found: dict[str, list[Key]] = defaultdict(list)
    for key, grant in grants.items():
        found[grant.integration].append(key)
    for key, record in records.items():
        if key not in grants and _may_be_there(record):
            found[record.integration].append(key)
    return found


def _row(key: Key, grants: Mapping[Key, Grant], records: Mapping[Key, Record], form: Iterable[str]) -> Row:
    grant, record = grants.get(key), records.get(key)
    if record is None:
        new = grants[key]
        record = Record(key, new.email, new.integration, new.service, new.source)
    return Row.of(record, grant=grant, form=form)


def _of_accounts(compared: ComparedListing, now: datetime) -> Iterator[dict[str, Any]]:
    for found in compared.accounts:
        if found.kind is AccountKind.UNMANAGED:
            line = _line(found.account.name, None, _identity(found), found.first_seen, None)
            yield line | _used(compared, last_used(found.account.used, now))


def _used(compared: ComparedListing, at: datetime | None) -> dict[str, Any]:
    """Return when an account was last used, of a service that says it of some; null where it is not known."""
    return {"last_used": stamp(at)} if compared.tells_use else {}


def _identity(found: UnknownAccount) -> dict[str, Any]:
    """Collect the values that the listing was read with, and what identifies the account besides its name."""
    fields: dict[str, Any] = dict(found.values)
    said = {found.account.name.lower()}
    for key, text in (("email", found.email), ("match", found.account.who)):
        if text and text.lower() not in said:
            said.add(text.lower())
            fields[key] = text
    return fields


def _asked(row: Row) -> dict[str, Any]:
    """Say who asked for it and why; nothing where nobody did, as in the files of earlier releases."""
    return {} if row.requested is None else {"request": str(row.requested)}


def _line(
    who: str, access: str | None, values: Mapping[str, Any], since: datetime | None, given: Attribution | None
) -> dict[str, Any]:
    return {
        "who": who,
        "access": access,
        "values": dict(values),
        "since": stamp(since),
        "granted_in": None if given is None else given.granted_in,
        "author": None if given is None else given.author,
        "approved_by": [] if given is None else list(given.approved_by),
        "decision": None,
        "reason": None,
    }
