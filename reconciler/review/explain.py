"""One grant in detail, from the files and the ledger alone: its status, where each value comes from, what happens next.

No request is sent, so the status is that of the last pass, unless the files alone decide it: an invalid entry, a
suspension, a day in the future, a missing value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from reconciler.engine.decide.existing import reason_not_to_accept
from reconciler.engine.decide.wanted import decide_unasked
from reconciler.model.base import jsonable
from reconciler.model.clock import stamp
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import MissingVariable
from reconciler.model.grant import Grant, Over, Record, all_needed
from reconciler.model.manifest import Manifest
from reconciler.model.scope import DEFERRED, HIRE_NAMES, Layer, Scope
from reconciler.model.secret import MASK
from reconciler.model.settings import Settings
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import Frozen
from reconciler.requests.render import AT_RUN_TIME

UNKNOWN_YET = "not looked at yet: the next pass does"
_RUN_TIME_ONLY = frozenset({"NEXT_PAGE_TOKEN"})
"""Names that only a listing itself gives."""


class Value(Frozen):
    """A variable that the manifest uses. `value` is None if it has none, `***` if it is secret."""

    name: str
    value: Any
    origin: str
    secret: bool = False


class Explanation(Frozen):
    """Everything about a grant. `status` is None if no pass has covered it yet."""

    status: Status | None
    reason: str
    values: tuple[Value, ...]
    following: tuple[str, ...] = ()


def explain(
    grant: Grant | None,
    record: Record | None,
    policy: Policy,
    initial: tuple[Layer | None, Layer | None],
    *,
    revocable: bool,
) -> Explanation:
    """Explain what git wants (`grant`), what the ledger has (`record`), or both; at least one is given.

    `initial` is the service's initial data, as far as it could be read: what comes before all that git gives, and what
    comes after it. `revocable` says whether the manifest can revoke.
    """
    values = tuple(_values(grant, policy.settings, *initial)) if grant is not None else _remembered(record)
    absent = next((value for value in values if value.value is None), None)
    blocked = None if absent is None else f"variable {{{{{absent.name}}}}} {absent.origin}"
    locked = record is not None and record.locked is not None  # which outranks what the files say
    decision = decide_unasked(grant, record, policy, blocked=blocked) if grant is not None and not locked else None
    if decision is not None:
        status, reason, code = decision.status, decision.reason, decision.code
    elif record is None:
        return Explanation(None, UNKNOWN_YET, values, ("the next pass checks it, and executes it where it is missing",))
    else:
        status, reason, code = record.status, record.reason, record.code
        noted = record.orphaned_at is not None or status in (Status.REVOKED, Status.RETRYING, Status.FAILED)
        if grant is None and not (noted or locked):
            status, reason = Status.ORPHANED, "git no longer wants it; the next pass takes note of it"
    if status is Status.ORPHANED and (not revocable or code is ReasonCode.UNABLE):
        why = "what would take it away cannot be sent" if revocable else "the manifest has no revoke"
        return Explanation(status, reason, values, (f"nothing on its own: {why}", _BY_HAND))
    if record is None:
        assert grant is not None  # by which it was decided
        record = Record(grant.key, grant.email, grant.integration, grant.service, grant.source)
    again = f"checked again within {_span(policy.settings.interval)}"
    following = _following(status, code, grant, record, policy=policy, again=again)
    return Explanation(status, reason, values, tuple(following))


def lent_to(grant: Grant, grants: Iterable[Grant]) -> Layer:
    """Make a layer for what entries of the same service store that a grant needs, directly or indirectly."""
    of_hire = {each.key.access: each for each in grants}
    needed = all_needed(grant.key.access, {access: each.needs for access, each in of_hire.items()})
    others = (each for name in needed if (each := of_hire.get(name)) is not None and each.service == grant.service)
    names = {name for other in others if other.manifest is not None for name in other.manifest.stored}
    return Layer("what it needs", dict.fromkeys(names, DEFERRED))


def sealed_layer(service: str, names: tuple[str, ...]) -> Layer:
    """Make a layer for initial data that cannot be decrypted here: its values are shown as encrypted."""
    place = f"config/initial_data/{service}"
    return Layer(place, dict.fromkeys(names, _SEALED))


_SEALED = object()


def _values(grant: Grant, settings: Settings, first: Layer | None, last: Layer | None) -> Iterator[Value]:
    """List every variable that the grant's requests use: those without a value first, then layer by layer."""
    manifest = grant.manifest
    if manifest is None:
        return
    used = manifest.used | {info.id for info in manifest.extra_user_info}
    own = Layer("settings", {"redirect_url": f"{settings.public}/oauth/callback/{grant.service}"})
    before, after = ((each,) if each is not None else () for each in (first, last))
    layers = (own, *before, *grant.layers, *after)
    scope = Scope(layers, (AT_RUN_TIME | manifest.stored | frozenset(manifest.generated)) - {"redirect_url"})
    origins = [layer.origin for layer in reversed((own, *before, *grant.layers))]
    found = [_value(name, scope, grant, manifest) for name in used - _RUN_TIME_ONLY]

    def place(value: Value) -> tuple[int, str]:
        known = origins.index(value.origin) if value.origin in origins else len(origins)
        return (-1 if value.value is None else known), value.name

    yield from sorted(found, key=place)


def _value(name: str, scope: Scope, grant: Grant, manifest: Manifest) -> Value:
    try:
        found = scope.look_up(name)
    except MissingVariable as error:
        return Value(name, None, _why_not(name, grant, manifest, error))
    if found.value is DEFERRED:
        return Value(name, "made for each run" if name in manifest.generated else "known when it runs", "the run")
    if found.value is _SEALED:
        return Value(name, f"encrypted in {found.origin}", found.origin, secret=True)
    return Value(name, MASK if found.secret else jsonable(found.value), found.origin, found.secret)


def _why_not(name: str, grant: Grant, manifest: Manifest, error: MissingVariable) -> str:
    """Say why a variable has no value, in the words after its name."""
    if name in {field.id for field in manifest.asks_for}:
        return f"is missing: `reconcile initial-data set {grant.service}` asks for it"
    if name in {field.id for field in manifest.form}:
        return f"is a form field, and the entry has no values.{name}"
    because = grant.absent.get(name)
    return error.why + (f": {because}" if because else "")


def _remembered(record: Record | None) -> tuple[Value, ...]:
    """List the values that the account was made with, for a grant that git no longer has."""
    if record is None:
        return ()
    values = {name: value for name, value in record.values.items() if value is not None}
    order = sorted(values, key=lambda name: (name in HIRE_NAMES, name))
    return tuple(Value(name, values[name], "the ledger") for name in order)


_FOLLOWS = {
    Status.PRESENT: ("nothing; {again}",),
    Status.DONE: ("nothing: it ran",),
    Status.UNCONFIRMED: (
        "{again}; executed again only when the hire's or the form's values change",
        "`reconcile run {key}` sends it again, `reconcile accept {key}` vouches for it",
    ),
    Status.FAILED: ("nothing on its own: mend the cause, then `reconcile retry {key}`",),
    Status.UNKNOWN: ("{again}; nothing is executed until the check is answered",),
    Status.BLOCKED: ("goes on by itself, with the next pass once that is mended",),
    Status.INVALID: ("goes on once {source} is mended and committed",),
    Status.REVOKED: ("nothing",),
}
"""What happens next, for statuses that decide it alone."""

_BY_HAND = "remove the account at the service: it is revoked once a pass no longer finds it"
"""What happens next to an orphan that no request can revoke."""


def _following(
    status: Status, code: ReasonCode | None, grant: Grant | None, record: Record, *, policy: Policy, again: str
) -> Iterator[str]:
    """Say what happens next, and what a person can do, one sentence each."""
    key, source = " ".join(record.key), (record if grant is None else grant).source
    if record.fresh and status in (Status.RETRYING, Status.FAILED):
        yield "asked for: it starts afresh at the next pass"
        return
    for sentence in _FOLLOWS.get(status, ()):
        yield sentence.format(key=key, again=again, source=source)
    match status:
        case Status.FAILED if reason_not_to_accept(record) is None:
            yield f"`reconcile accept {key}` where it was mended by hand, `reconcile run {key}` to send it all again"
        case Status.MISSING if record.action is Action.EXECUTE:
            yield "the next pass executes it"
        case Status.MISSING:
            yield f"nothing on its own; `reconcile run {key}` makes the account again"
        case Status.DIFFERS:
            yield from _of_difference(record, key, again)
        case Status.RETRYING:
            at = None if policy.due(record) else record.retry_at
            then = None if at is None else f"runs again at {stamp(at)}, in {_span(at - policy.now)}"
            yield then or "due: the next pass runs it again"
            yield f"`reconcile retry {key}` starts it afresh at the next pass, with two attempts"
        case Status.SCHEDULED:
            begins = None if grant is None else grant.begins
            ahead = begins is not None and begins > policy.today
            yield f"begins on {begins}" if ahead else "goes on as soon as what it needs is there"
        case Status.ORPHANED:
            yield _of_orphan(record, policy, again)
            yield f"`reconcile revoke {key}` takes it away"
        case Status.SUSPENDED:
            yield _of_suspension(record, code)
        case Status.REVOKED if record.over is Over.REACHED:
            yield "its time is over: to give it again, take the entry out, commit that, and add it again"
        case _:
            pass


def _of_difference(record: Record, key: str, again: str) -> Iterator[str]:
    """Say what happens next to an account that exists and is not as git wants it."""
    if record.action is Action.UPDATE:
        yield "the next pass updates it"
    elif record.unseen:
        yield f"{again}; updated again once values change, or with `reconcile retry {key}`"
    else:
        yield f"nothing on its own: change it there, or `reconcile run {key}`"
        if reason_not_to_accept(record) is None:
            yield f"`reconcile accept {key}` takes it as it is"


def _of_orphan(record: Record, policy: Policy, again: str) -> str:
    """Say whether an orphan is revoked on its own, and when."""
    if policy.settings.prunes(record.integration):
        return again
    ends = record.ends_at if policy.expires and not record.keep else None
    if ends is None:
        return "nothing on its own: the settings say prune: report"
    return f"revoked when its time is over, at {stamp(ends)}" if ends > policy.now else again


def _of_suspension(record: Record, code: ReasonCode | None) -> str:
    """Say until when nothing happens."""
    if record.locked is not None:
        return f"nothing is provisioned until the lock ends; `reconcile unlock {record.key.hire}` ends it"
    if code is ReasonCode.COUNTING:
        return "goes on once the guard has counted it all, or is held"
    guarded = code is ReasonCode.TRIPPED
    return "`reconcile --yes-really` lets it through, once" if guarded else "goes on when the suspension ends"


def _span(span: timedelta) -> str:
    minutes = -(-int(span.total_seconds()) // 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes > 60 else f"{minutes} min"
