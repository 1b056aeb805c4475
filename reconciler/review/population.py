"""Who has what at the services: listings, compared with git and the ledger, and the lines of an access review.

A review has a line for every grant of an integration, and for every account of it that git does not know.

Grants are those that git wants, and those in the ledger that git no longer wants, because somebody may still have them.
An orphan's account has no line besides that of its grant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from reconciler.engine.context import Revision
from reconciler.engine.decide.existing import as_shown
from reconciler.engine.observe.listings import Listings
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.run.planning import Planning
from reconciler.engine.state import reading
from reconciler.ledger.reader import LedgerReader
from reconciler.model.attribution import Attribution
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import still_wanted
from reconciler.model.errors import LedgerError, UsageError
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.manifest import Manifest
from reconciler.model.report import Report, Row
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.status import Status
from reconciler.model.text import hint
from reconciler.model.value import replace
from reconciler.repository.attribution.given import who_gave
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.requests.record import last_used
from reconciler.review.owners import owners_of
from reconciler.review.unmanaged import AccountKind, ComparedListing, PeopleIndex, UnknownAccount, compare

T = TypeVar("T", Grant, Record)

NOBODY = "nobody"
"""The folder of lines about nobody who has a manager."""

_THERE = (Status.PRESENT, Status.DIFFERS)


async def compared(
    revision: Revision, names: Collection[str] = (), *, beside: Desired | None = None, remembered: bool = True
) -> list[ComparedListing]:
    """Compare the listings of these integrations, or of all, with git and the ledger; change nothing.

    With `beside`, compare with its hires, which are not committed yet. Without `remembered`, the ledger's records do
    not count.
    """
    context, files = revision.context, revision.files
    for name in names:
        known_integration(files, name)
    trusted = Desired(files, revision.today)
    desired = beside or trusted
    people = PeopleIndex(desired)
    listings = Listings(context.clock.now(), whole=True)
    found = []
    with reading(revision) as opened:
        there = await integrations_of(revision, trusted, opened)
        asked = sorted(name for name in {*there, *files.broken["manifests"]} if not names or name in names)
        built = [there[name] for name in asked if name in there]
        ledger = opened.ledger if remembered else None
        everybody = sorted(
            {*desired.hires, *(() if ledger is None else await ledger.run(lambda reader: reader.grants.hires()))}
        )
        owners = await owners_of(built, desired, ledger, everybody, context.yielder, now=listings.began_at)
        seen_of = await opened.ledger.run(lambda reader: {name: reader.accounts.first_seen(name) for name in there})
        for name in asked:
            if name not in there:
                found.append(ComparedListing(name, fault=str(files.broken["manifests"][name][0])))
                continue
            found.append(
                await compare(there[name], desired, owners.pop(name), listings, seen=seen_of[name], people=people)
            )
    return found


def known_integration(files: Files, name: str) -> None:
    """Raise UsageError for an integration that does not exist."""
    known = [*files.manifests, *files.broken["manifests"]]
    if name not in known:
        raise UsageError(f"{name}: there is no manifests/{name}.yaml{hint(name, known)}")


def _answered(compared: ComparedListing, checks: Report | None) -> ComparedListing:
    """Return what a service answered: its listing, or if there is none, how many checks of a plan found the account."""
    if compared.complete or compared.fault is not None or checks is None:
        return compared
    rows = [row for row in checks.rows if row.integration == compared.integration]
    failed = [row for row in rows if row.status is Status.UNKNOWN]
    why = f"{len(failed)} of {len(rows)} checks failed: {failed[0].reason}" if failed else None
    return replace(compared, matched=sum(row.status in _THERE for row in rows), fault=why)


async def population(
    revision: Revision, names: Sequence[str], *, every: bool, split: bool
) -> tuple[list[ComparedListing], Mapping[tuple[str, str | None], dict[str, Any]]]:
    """Ask the services of these integrations, which may be `every` one, and make the data of each one's review.

    With `split`, each manager's people have their own.
    """
    context, at = revision.context, revision.context.clock.now()
    listings = await compared(revision, names)
    checks = await _checked(revision, {each.integration for each in listings if not each.complete})
    answered = [_answered(each, checks) for each in listings]
    desired = Desired(revision.files, revision.today)
    with reading(revision) as state:
        if every:
            answered += await state.ledger.run(partial(_without_manifest, names=names))
        known = await state.ledger.run(lambda ledger: ledger.given.of())
        given = known | await who_gave(context.checkout, desired, state.ledger, desired.hires)
        found = await state.ledger.run(lambda ledger: _populations(answered, desired, ledger, given, at))
    parts = {name: _by_manager(data, desired) if split else {None: data} for name, data in found.items()}
    return answered, {(name, manager): part for name, of in parts.items() for manager, part in of.items()}


async def _checked(revision: Revision, names: Collection[str]) -> Report | None:
    """Check every grant of the integrations that have no listing."""
    manifests = revision.files.manifests
    asked = {
        name
        for name in names
        if (loaded := manifests.get(name)) is not None
        and loaded.model.exists is not None
        and loaded.model.listing is None
    }
    if not asked:
        return None
    with reading(revision) as state:
        selection = Selection(integrations=frozenset(asked))
        planning = await Planning(revision, state, PassRequest(selection, removals=False)).begin()
        plan = await planning.whole()
        return plan.report(revision.context.redactor)


def _populations(
    asked: Iterable[ComparedListing],
    desired: Desired,
    ledger: LedgerReader,
    given: Mapping[Key, Attribution],
    at: datetime,
) -> dict[str, dict[str, Any]]:
    """Make the data of each integration's review, without its digest.

    Raises LedgerError if the history is broken.
    """
    history = _history(ledger)
    records = {record.key: record for record in ledger.grants.records()}
    in_git = (grant for hire in desired.hires for grant in desired.grants(hire))
    grants = {grant.key: grant for grant in in_git if not _is_over(grant, records.get(grant.key), at)}
    keys = _by_integration(grants, records)
    found = {}
    for compared in asked:
        loaded = desired.files.manifests.get(compared.integration)
        manifest = None if loaded is None else loaded.model
        mine = partial(_of, integration=compared.integration)
        rows = [
            _row(key, mine(grants.get(key)), mine(records.get(key)), manifest).given_by(given.get(key))
            for key in keys[compared.integration]
        ]
        lines = [
            _line(row.hire, row.access, row.values or {}, row.since, row.given)
            | ({} if row.requested is None else {"request": str(row.requested)})
            | _used(compared, compared.used.get(Key(row.hire, row.access), (None, None))[1])
            for row in rows
        ]
        lines += [
            _line(account.account.name, None, _identity(account), account.first_seen, None)
            | _used(compared, last_used(account.account.used, at))
            for account in compared.accounts
            if account.kind is AccountKind.UNMANAGED
        ]
        lines.sort(key=lambda line: (line["who"].casefold(), line["who"], line["access"] or ""))
        found[compared.integration] = {
            "revision": desired.revision,
            "read_at": stamp(at),
            "listed": compared.listed if compared.complete or compared.fault is not None else None,
            "matched": compared.matched,
            "ignored": compared.of(AccountKind.IGNORED),
            "complete": compared.complete,
            "history": history,
            "lines": lines,
        }
    return found


def _by_manager(population: Mapping[str, Any], desired: Desired) -> dict[str | None, dict[str, Any]]:
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
    if (named := loaded.model.references.get("manager")) is not None:
        return named if named in desired.hires else None
    return desired.owner(loaded.model.manager_email) if loaded.model.manager_email else None


def _without_manifest(ledger: LedgerReader, names: Collection[str]) -> list[ComparedListing]:
    """List integrations of other names that somebody may still have: without a manifest, nothing can be asked."""
    left = {record.integration for record in ledger.grants.records() if record.may_remain}
    return [ComparedListing(name) for name in sorted(left.difference(names))]


def _history(ledger: LedgerReader) -> str | None:
    """Return the digest of the history, or None if it is empty."""
    chain = ledger.history.verify()
    if chain.broken is not None:
        raise LedgerError(f"the history is no evidence, it is broken at {chain.broken}: `reconcile history --verify`")
    return chain.digest or None


def _is_over(grant: Grant, record: Record | None, at: datetime) -> bool:
    """Whether a grant's time is over; where it does not count from when it was acted on, by git alone.

    Otherwise its line would be missed when the review is checked.
    """
    if grant.lasts is not None:
        return not still_wanted(grant, record, at)
    return grant.over_at is not None and grant.over_at <= at


def _by_integration(grants: Mapping[Key, Grant], records: Mapping[Key, Record]) -> dict[str, list[Key]]:
    """Group by integration the grants that git wants, and others in the ledger that somebody may still have.

    An entry may have the name of what is left at another integration: each of the two is listed.
    """
    found: dict[str, list[Key]] = defaultdict(list)
    for key, grant in grants.items():
        found[grant.integration].append(key)
    for key, record in records.items():
        if record.may_remain and _of(grants.get(key), record.integration) is None:
            found[record.integration].append(key)
    return found


def _of(known: T | None, integration: str) -> T | None:
    """Return a grant or a record if it is of this integration."""
    return known if known is not None and known.integration == integration else None


def _row(key: Key, grant: Grant | None, record: Record | None, manifest: Manifest | None) -> Row:
    """Make the row of a grant, with the values that its account has where git wants others."""
    if record is None:
        assert grant is not None, key
        record = Record(key, grant.email, grant.integration, grant.service, grant.source)
    form = [] if manifest is None else [field.id for field in manifest.form]
    row = Row.of(record, grant=grant, form=form)
    wanted = row.values or {}
    known = {**record.values, **({} if manifest is None else manifest.held(record.differs or record.accepted))}
    has = {name: known[name] for name in form if known.get(name) is not None}
    other = {name: value for name, value in has.items() if as_shown(value) != as_shown(wanted.get(name))}
    return replace(row, values={**wanted, **other}) if record.may_remain else row


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
