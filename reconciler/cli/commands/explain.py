"""`reconcile explain`: show one grant in detail, on one screen."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import Here, no_such_grant
from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.logs import begin_redacting
from reconciler.cli.output.text import as_json, clipped, code, columns, emit
from reconciler.model.clock import stamp
from reconciler.model.errors import SecretsError
from reconciler.model.grant import Key
from reconciler.model.status import Status
from reconciler.model.text import described, printable
from reconciler.model.value import fields, replace
from reconciler.repository.people import is_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reconciler.ledger.entries import Attempt
    from reconciler.model.attribution import Attribution, Requested
    from reconciler.model.decision_inputs import Policy
    from reconciler.model.grant import Grant, Record
    from reconciler.model.scope import Layer
    from reconciler.model.secret import Redactor
    from reconciler.repository.desired import Desired
    from reconciler.review.explain import Explanation

MAX_VALUES, MAX_ATTEMPTS, MAX_REQUESTS = 12, 2, 6
"""The most lines of each, to fit one screen; --output json has all."""

CELL_WIDTH = 60
SENT = ("place", "method", "url", "sent_at", "answered_at", "status_code", "outcome", "error")
"""What is shown of a request."""

TRIED = ("kind", "number", "started_at", "ended_at", "error", "revision")
"""What is shown of an attempt."""


@click.command()
@click.argument("hire", shell_complete=complete.hires)
@click.argument("access", shell_complete=complete.accesses)
@shared(csv=False, tolerant=True)
def explain(options: SharedOptions, hire: str, access: str) -> int:
    """Show one grant: its status, where each value comes from, the last attempts, and what happens next.

    Reads the commit at HEAD and the ledger; sends nothing. Says so if initial data cannot be decrypted here.
    """
    redactor = begin_redacting(options)
    details = redactor.redact_all(_details(options, Key(hire, access), redactor))
    first, *rest = _lines(details)
    markdown = [f"**{code(first)}**", "", *(f"    {line}".rstrip() for line in rest)]
    emit(options, details, [first, *rest], markdown=markdown)
    return 0


def _details(options: SharedOptions, key: Key, redactor: Redactor) -> dict[str, Any]:
    """Collect everything about the grant, as JSON has it. Raises ReconcilerError if there is none."""
    import asyncio

    from reconciler.engine.run.grants import wanted_by
    from reconciler.engine.state import as_settled
    from reconciler.ledger.ledger import Ledger
    from reconciler.model.decision_inputs import Policy
    from reconciler.repository.attribution.given import who_gave
    from reconciler.repository.desired import Desired
    from reconciler.review.explain import lent_to

    here = Here.of(options, redactor)
    policy = Policy(here.settings, datetime.now(UTC))
    desired = Desired(here.files, policy.today, policy.now)
    any_day = {grant.key: grant for grant in Desired(here.files, date.min).grants(key.hire)}
    with here.state.reader() as ledger:
        found = {record.key: record for record in ledger.grants.records([key.hire])}
        records = as_settled(found, left := ledger.attempts.interrupted(), policy)
        tried = ledger.attempts.of(key)
        gave = asyncio.run(who_gave(here.context.checkout, desired, Ledger(ledger), [key.hire]))
        given = (ledger.given.of([key.hire]) | gave).get(key)
    record, in_git = records.get(key), any_day.get(key)
    wanted = wanted_by(desired.grants(key.hire), records, policy.now)
    grant = next((each for each in wanted if each.key == key), None)
    if grant is not None:  # what is over has stored something, too
        grant = replace(grant, layers=(*grant.layers, lent_to(grant, any_day.values())))
    if (subject := record if grant is None else grant) is None:
        raise no_such_grant(key, desired, {each.access for each in records})
    explanation = _explanation(here, desired, grant, record, policy)
    signed_by = here.signer(given.granted_in) if given else None
    acted_on = None if record is None else record.ends_at  # until a pass has, git says when it ends
    return {
        "hire": key.hire,
        "email": subject.email,
        "access": key.access,
        **fields(subject, "integration", "service", "source"),
        "sequence": subject.origin,
        **fields(explanation, "status"),
        **fields(record, "action"),
        **fields(explanation, "reason"),
        "attempts": record.attempts if record else 0,
        **fields(record, "retry_at", "checked_at"),
        "since": stamp(record.confirmed_at or record.executed_at) if record else None,
        **fields(record, "last_error", "revision"),
        "until": stamp(acted_on or (None if in_git is None else in_git.known_end)),
        "request": None if in_git is None else _asked(in_git.requested, given, signed_by),
        "head": here.force.tree.revision,
        "differs": {name: list(pair) for name, pair in record.differs.items()} if record else {},
        **fields(given, "granted_in", "author", "committer"),
        "signer": signed_by,
        "approved_by": list(given.approved_by) if given else [],
        "approvals": [approval.as_json() for approval in given.approvals] if given else [],
        **fields(given, "merged_by"),
        "values": [fields(value, "name", "value", "origin", "secret") for value in explanation.values],
        "last_attempts": [
            {
                **fields(_ended(attempt, record) if attempt in left else attempt, *TRIED),
                "requests_in_all": attempt.total,
                "requests": [fields(each, *SENT) for each in sent],
            }
            for attempt, sent in tried
        ],
        "next": list(explanation.following),
    }


def _ended(attempt: Attempt, record: Record | None) -> Attempt:
    """Return an attempt that a crash interrupted as the next pass settles it; the record is settled."""
    return replace(attempt, ended_at=attempt.alive_at, error=record.last_error if record else None)


def _explanation(
    here: Here, desired: Desired, grant: Grant | None, record: Record | None, policy: Policy
) -> Explanation:
    """Explain a grant; one whose file cannot be read is invalid."""
    from reconciler.model.decision_inputs import is_over
    from reconciler.review.explain import explain as explained

    integration = next(each.integration for each in (grant, record) if each is not None)
    manifest = desired.files.manifests.get(integration)
    revocable = manifest is None or bool(manifest.model.revoke or manifest.model.withdraw)
    initial = (None, None) if grant is None else _initial(here, desired, grant)
    explanation = explained(grant, record, policy, initial, revocable=revocable)
    if grant is not None or record is None or record.locked is not None or is_over(record, policy.now):
        return explanation
    if (error := desired.holds(record)) is None:
        return explanation
    following = ("goes on once the file is mended and committed",)
    return replace(explanation, status=Status.INVALID, reason=error, following=following)


def _asked(requested: Requested | None, given: Attribution | None, signed_by: str | None) -> dict[str, Any] | None:
    """Show who asked for the grant: claimed, unless the author of the commit that gave it, or its signer, is it."""
    if requested is None:
        return None
    by = requested.requested_by
    vouching = (None if given is None else given.author, signed_by)
    known = by is not None and any(is_named(by, person) for person in vouching if person is not None)
    return {**requested.as_json(), "claimed": by is not None and not known}


def _initial(here: Here, desired: Desired, grant: Grant) -> tuple[Layer | None, Layer | None]:
    """Decrypt the service's initial data if possible, as `divided` gives it."""
    from reconciler.engine.observe.wiring import divided, initial_layer
    from reconciler.review.explain import sealed_layer

    service = desired.services.get(grant.service)
    if service is None:
        return None, None
    ids = tuple(field.id for _, manifest in service.manifests.values() for field in manifest.asks_for)
    if not ids:
        return None, None
    try:
        values = here.force.initial_data.read(here.force.tree, grant.service)
    except SecretsError:
        return sealed_layer(grant.service, ids), None
    given = {name: value for name, value in (values or {}).items() if value}
    if not given or grant.manifest is None:
        return None, None
    return divided(initial_layer(service, given, here.context.redactor), grant.manifest, service)


def _lines(details: Mapping[str, Any]) -> Iterator[str]:
    """Write the same for one screen."""
    from reconciler.engine.decide.existing import as_shown

    yield printable(f"{details['hire']}/{details['access']}: {details['status'] or 'new'}: {details['reason']}")
    parts = [details["email"], details["source"], f"sequence {details['sequence']}" if details["sequence"] else None]
    parts += [
        f"{word} {details[name]}"
        for word, name in (("checked", "checked_at"), ("since", "since"), ("ends", "until"))
        if details[name]
    ]
    if details["revision"]:
        moved = "" if details["revision"] == details["head"] else f", HEAD is {details['head'][:12]}"
        parts.append(f"last pass at {details['revision'][:12]}{moved}")
    yield printable("  " + "  ".join(part for part in parts if part))
    yield printable("  " + _given(details))
    if details["request"]:
        asked = details["request"]
        by, at = asked["requested_by"] or "somebody", asked["requested_at"] or "a time that it does not say"
        by += " (claimed)" if asked["claimed"] else ""
        yield clipped(f"  asked for by {by} at {at}: {asked['reason']}", 200)
    if details["differs"]:
        applied = "to be updated" if details["action"] == "update" else "not applied"
        rows = [[name, " → ".join(map(as_shown, pair)), applied] for name, pair in details["differs"].items()]
        yield from _table("differs", rows, MAX_VALUES)
    yield from _table("values", [_value(value) for value in details["values"]], MAX_VALUES)
    tried = details["last_attempts"]
    for attempt in tried[-MAX_ATTEMPTS:]:
        end = f"failed: {attempt['error']}" if attempt["error"] else "done" if attempt["ended_at"] else "running"
        yield ""
        yield clipped(f"attempt {attempt['number']} ({attempt['kind']}) at {attempt['started_at']}: {end}", 200)
        rows = [_request(each, attempt["requests_in_all"]) for each in attempt["requests"]]
        yield from _table(None, rows, MAX_REQUESTS)
    if len(tried) > MAX_ATTEMPTS:
        yield f"  and {len(tried) - MAX_ATTEMPTS} before"
    yield ""
    yield "next"
    for line in details["next"]:
        yield printable(f"  {line}")


def _given(details: Mapping[str, Any]) -> str:
    if not details["granted_in"]:
        return "who gave it is not known: no commit here did, or one that changes too many files to be looked through"
    approved = f", approved by {', '.join(details['approved_by'])}" if details["approved_by"] else ""
    merged = f", merged by {details['merged_by']}" if details["merged_by"] else ""
    signed = f", signed by {details['signer']}" if details["signer"] else ""
    return f"granted in {details['granted_in'][:12]} by {details['author']}{approved}{merged}{signed}"


def _value(value: Mapping[str, Any]) -> list[str]:
    """Write a value as JSON, so that a text differs from a number; in words if it is secret or not known yet."""
    if value["value"] is None:
        return [value["name"], "NO VALUE", value["origin"]]
    words = value["secret"] or value["origin"] == "the run"
    return [value["name"], value["value"] if words else as_json(value["value"]), value["origin"]]


def _request(request: Mapping[str, Any], total: int) -> list[str]:
    when = request["answered_at"] or request["sent_at"]
    code = "" if request["status_code"] is None else str(request["status_code"])
    place = f"{request['place'] + 1}/{total}"
    return [place, described(request["method"], request["url"]), code, request["outcome"], when, request["error"] or ""]


def _table(title: str | None, rows: list[list[str]], most: int) -> Iterator[str]:
    if title is not None and rows:
        yield ""
        yield title
    cells = [[clipped(cell, CELL_WIDTH) for cell in row] for row in rows[:most]]
    yield from (f"  {line}" for line in columns(cells))
    if len(rows) > most:
        yield f"  and {len(rows) - most} more: --output json has them all"
