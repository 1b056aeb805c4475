"""Execute attempts: the only part of the program that changes anything at a service.

An attempt is in the ledger before its first request leaves, and each request before it leaves and when it is answered;
the attempt is settled after the last one (docs/design/rules.md, "The ledger and the retry"). After a crash at any
moment, the ledger shows how far the attempt got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from reconciler.engine.apply import attempts
from reconciler.engine.apply.commands import request_events
from reconciler.engine.apply.plan import Plan
from reconciler.engine.apply.running import AttemptRequest, RunningAttempt, refuse_overtaken
from reconciler.engine.context import Context
from reconciler.engine.decide.planned import stored_at
from reconciler.engine.observe.checker import Services
from reconciler.ledger.entries import Attempt, Event, ValueChanges
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.vault import Memory, Vault, generated, notice_name, run_name, stored_for, stored_name
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.clock import Stopped, stamp
from reconciler.model.errors import Blocked, MissingVariable, SecretsError, TransportError
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Phase, Record
from reconciler.model.manifest import PHONE, Manifest, Notification, is_address
from reconciler.model.request import Condition, Request, Revoke
from reconciler.model.run import Kind, OpenRun, Outcome, Step
from reconciler.model.scope import Layer, Scope
from reconciler.model.status import EventType, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Unknown, Verdict
from reconciler.requests.match import GONE, condition_holds, failure
from reconciler.requests.render import expected, render
from reconciler.requests.template import render_text
from reconciler.transports.messages import Response

log = structlog.get_logger()

NOTHING: ValueChanges = {}

MOST_OF_A_FILE = 25 * 1024 * 1024
"""Bytes of an answer that `save_as_file` keeps (docs/design/rules.md, "Limits of input")."""


class _Failed(Exception):
    """The attempt fails; the text says why."""


@dataclass(slots=True, kw_only=True)
class Executor:
    """Carries attempts out and settles them."""

    context: Context
    ledger: OpenLedger
    vault: Vault
    services: Services
    plan: Plan
    author: str | None

    async def attempt(self, job: AttemptRequest) -> Record:
        """Make one attempt and record its outcome; the record says whether it succeeded."""
        run, resume = self._new_run(job), job.resume
        try:
            if resume:
                run.memory = await self.ledger.run(partial(self.vault.memory, key=run.record.key))
                run.made = run.effect = True
            self.context.redactor.learn(run.memory.generated.values())
            await self._send_all(run, resume)
        except (_Failed, Blocked, TransportError, SecretsError, Stopped) as error:
            if not run.begun:
                await self.context.clock.sleep(0)  # raises Stopped: before anything was sent, the planned record stays
            return await self._fail(run, self.context.redactor.redact(str(error) or "stopped"))
        else:
            return await (self._taken_away(run) if job.kind.takes_away else self._succeed(run))
        finally:  # each login's answer is another secret: all of them would take ever longer to look for
            self.context.redactor.forget(str(run.record.key))

    def _new_run(self, job: AttemptRequest) -> RunningAttempt:
        """Number an attempt, and describe it for the ledger; nothing is written down yet."""
        integration, now = self.services.integrations[job.prepared.grant.integration], self.now()
        resume, total = job.resume, len(job.requests)
        again = job.continues
        number = (
            job.record.attempts + 1 if again and not job.planned.decision.afresh and job.kind is not Kind.RUN else 1
        )
        before, by_hand = job.record.run, job.planned.named or (again and job.record.run.by_hand)
        run = OpenRun(kind=job.kind, digest=integration.digest(job.prepared), by_hand=by_hand)
        if resume:
            run = replace(run, id=before.id, steps=before.steps)
        snapshot = job.values(integration.names.asked_with)
        record = attempts.begun(job.acted_on(now), run, number, snapshot=snapshot, wants=job.wants)
        opened = Attempt.of(record, number, total, now)
        begins = f", from request {resume + 1} of {total}" if resume < total else ", with nothing left to send"
        detail = f"attempt {number}{begins if resume else ''}"
        # A later attempt that continues needs the generated values: store them before any request uses them.
        fresh = generated(job.prepared.manifest.generated if job.kind.makes else ())
        memory = Memory(generated=fresh, seen=job.planned.seen)
        kept = {} if resume else self.vault.remember(record.key, memory)
        return RunningAttempt(
            job=job,
            integration=integration,
            record=record,
            attempt=opened,
            memory=memory,
            kept=kept,
            detail=detail,
            noted=job.prepared.stored.own,
            gone=job.gone,
            place=resume,
        )

    async def _begin(self, run: RunningAttempt) -> None:
        """Record the attempt's start, if no request left that recorded it."""
        if not run.begun:
            begun = await self.ledger.together(_start(run, self.now(), self.author))
            run.began(begun)

    async def _send_all(self, run: RunningAttempt, resume: int) -> None:
        requests, texts = run.job.requests, run.integration.texts[run.job.kind]
        if resume >= len(requests) and run.job.kind.makes:
            notices = await self._notices(run)
            await self.ledger.run(lambda ledger: ledger.save((), (), Failpoint.SEALED, kept=notices))
        for place, request in enumerate(requests[resume:], resume):
            run.place = place
            step = Step(place, texts[place], request.mutates, Outcome.SENT)
            try:
                await self._send(run, step, request)
            except (_Failed, Blocked, TransportError) as error:
                if isinstance(error, MissingVariable) and error.name in run.gone and place < run.job.may_be_gone:
                    continue  # it would take away what is not there
                why = f"{error}{run.job.unanswered}" if isinstance(error, MissingVariable) else str(error)
                raise _Failed(f"request {place + 1} of {len(requests)} ({request.method}): {why}") from error

    async def _send(self, run: RunningAttempt, step: Step, request: Request) -> None:
        """Send one request, again while it polls, and record its outcome."""
        answer = await self._until_it_holds(run, step, request)
        memory = run.memory
        if request.save_as_file:
            keep = partial(self.vault.keep, content=answer.content)
            memory.files[request.save_as_file] = await self.ledger.run(keep)
        memory.answered(step.index, answer.json())
        run.said = run.answered(answer)
        missing = _store(memory, request, answer)
        if missing is not None and _is_gone(run, step, answer):
            run.gone.update(request.store_data)
            missing = None
        kept = self.vault.remember(run.attempt.key, memory)
        if step.index == len(run.job.requests) - 1 and missing is None and run.job.kind.makes:
            kept = {**kept, **await self._notices(run)}
        await self._answered(run, step, Outcome.DONE, status=answer.status, kept=kept)
        if missing is not None:
            raise _Failed(f"store_data: the response has nothing at {missing}: {run.answered(answer)}")

    async def _until_it_holds(self, run: RunningAttempt, step: Step, request: Request) -> Response:
        """Send a request until `continue_if` holds, as often as `polling` allows; then it has to be as `expected`."""
        tries, wanted = 1, None
        if isinstance(request, Revoke) and request.expected is not None:
            wanted = expected(request.expected, await self._scope(run))
        answer = await self._exchange(run, step, request)
        while (wants := request.continue_if) is not None and not (
            _is_gone(run, step, answer) or await self._holds(run, step, wants, answer)
        ):
            if request.polling is None or tries >= request.polling.amount:
                where = f"continue_if does not hold: {wants.response_notation} is another"
                raise _Failed(f"{where}: {run.answered(answer)}")
            try:
                await self.context.clock.sleep(request.polling.interval)
            except Stopped as error:
                raise _Failed("stopped while polling") from error
            tries += 1
            answer = await self._exchange(run, step, request, answered_before=True)
        await self._refuse(run, step, answer, failure(request, answer, wanted), Outcome.UNMET)
        return answer

    async def _holds(self, run: RunningAttempt, step: Step, condition: Condition, answer: Response) -> bool:
        """Whether a condition holds; record it where it does not."""
        try:
            if condition_holds(condition, answer, await self._scope(run)):
                return True
        except Blocked as error:
            await self._answered(run, step, Outcome.UNMET, f"continue_if: {error}", status=answer.status)
            raise
        await self._answered(run, step, Outcome.UNMET, "continue_if does not hold", status=answer.status)
        return False

    def _stored(self, run: RunningAttempt) -> ValueChanges:
        """Make the change after which the ledger has what is stored of the account."""
        if run.stored == run.noted:
            return {}
        run.noted = dict(run.stored)
        return self.vault.with_stored(run.attempt.key, run.noted)

    async def _exchange(
        self, run: RunningAttempt, step: Step, request: Request, *, answered_before: bool = False
    ) -> Response:
        """Send one request, recorded before it leaves and when it is answered.

        One that was `answered_before` with success, and is sent again while it polls, may have taken effect whatever
        becomes of this sending.
        """
        refused = Outcome.UNMET if answered_before else Outcome.REFUSED
        connection = run.integration.connection
        if connection is not None:
            await connection.fresh()
        answer = await self._deliver(run, step, request, refused)
        if answer.status == 401 and connection is not None:
            # Recorded at once: if no other token comes, or the program ends here, the request has had no effect.
            await self._answered(run, step, refused, "the service refused the token", status=answer.status)
            await connection.renewed()
            answer = await self._deliver(run, step, request, refused)
        await self._refuse(run, step, answer, failure(request, answer), refused)
        return answer

    async def _refuse(
        self, run: RunningAttempt, step: Step, answer: Response, reason: str | None, refused: Outcome
    ) -> None:
        """Record an answer that is no success for this reason, and raise _Failed."""
        if reason is not None and not _is_gone(run, step, answer):
            reason += run.integration.client.excerpt(answer)
            # A success that is not the one that was wanted has taken effect all the same.
            outcome = Outcome.UNMET if 200 <= answer.status < 300 else refused
            await self._answered(run, step, outcome, reason, status=answer.status)
            raise _Failed(reason)

    async def _deliver(self, run: RunningAttempt, step: Step, request: Request, refused: Outcome) -> Response:
        integration, scope = run.integration, await self._scope(run)
        self.context.redactor.renew(str(run.record.key), integration.confided(scope))
        read = partial(self.vault.files, named=run.memory.files)
        files = await self.ledger.run(read) if request.files else {}
        wire = render(request, scope, integration.manifest, files=files)
        if request.save_as_file:
            wire = replace(wire, most=MOST_OF_A_FILE)
        shown = self.context.redactor.redact(wire.shown_url)

        async def leaving() -> None:
            if not run.begun:
                await self.pause()  # shutdown may have been requested while it waited for its place
                await refuse_overtaken(self.context, self.ledger, run.job, self.services.desired)
            start = None if run.begun else _start(run, self.now(), self.author)
            run.leaves(step)
            kept, now = self._stored(run), self.now()

            def write(ledger: LedgerWriter) -> Attempt:
                attempt = run.attempt if start is None else start(ledger)
                ledger.attempts.sending(attempt, step, request.method, shown, now, kept=kept)
                return attempt

            run.began(await self.ledger.together(write))

        try:
            return await integration.client.send(wire, leaving=leaving)
        except TransportError as error:
            await self._answered(run, step, Outcome.LOST if error.left else refused, str(error))
            raise

    async def _answered(
        self,
        run: RunningAttempt,
        step: Step,
        outcome: Outcome,
        error: str | None = None,
        *,
        status: int | None = None,
        kept: ValueChanges = NOTHING,
    ) -> None:
        """Record what became of a request."""
        run.ended(outcome)
        kept, now = {**kept, **self._stored(run)}, self.now()
        error = None if error is None else self.context.redactor.redact(error)
        await self.ledger.together(
            lambda to: to.attempts.answered(
                run.attempt, step.index, outcome, now, status_code=status, error=error, kept=kept
            )
        )

    async def _scope(self, run: RunningAttempt) -> Scope:
        job, connection = run.job, run.integration.connection
        layers = list(run.memory.layers(job.withdraws))
        if connection is not None and (token := connection.layer()) is not None:
            layers.append(token)
        if "access_overview" in run.integration.names.all:
            hire = job.record.key.hire
            records = await self.ledger.run(lambda ledger: list(ledger.grants.records([hire])))
            layers.append(Layer("the last checks", {"access_overview": _overview(records, self.plan.manifests)}))
        seen = {**run.memory.seen, **job.planned.seen}
        stored = (Layer("store_data", run.memory.stored), Layer("store_data of the check", seen))
        before = job.prepared.stored
        if job.prepared.dependencies:  # a needed entry may have stored something after this was planned
            of_hire = await self.ledger.run(partial(self.vault.read, name=stored_name(run.attempt.key.hire)))
            before = stored_for(of_hire or {}, run.attempt.key.access, job.prepared.dependencies)
        earlier = stored_at(job.prepared.manifest, job.kind, run.place, before).layers()
        scope = job.prepared.scope.over(*layers)
        return replace(scope, deferred=frozenset(), saved=(*stored, *earlier))

    async def _notices(self, run: RunningAttempt) -> dict[str, bytes]:
        """Render and seal the notifications; they may hold a generated password.

        One that cannot be rendered does not fail an attempt that succeeded: it is kept with what is missing.
        """
        scope = await self._scope(run)
        found = [_notice(item, scope) for item in run.job.prepared.manifest.post_execute_notification]
        # Another process may send it, and has to redact these where a mail server repeats them.
        found = [{**notice, "secrets": list(run.memory.generated.values())} for notice in found]
        name = notice_name(run.attempt.key)
        return {name: self.vault.sealed(name, found)} if found else {}

    async def _fail(self, run: RunningAttempt, error: str) -> Record:
        await self._begin(run)
        now = self.now()
        new, lines = attempts.failed(run.record, error, now=now, retry_at=now + self.plan.policy.settings.retry_delay)
        if run.job.planned.lock is not None:
            new = attempts.lock_failed(new, run.job.planned.lock)
        authored = self.authored(lines)
        await self.ledger.together(lambda to: to.attempts.settle(run.attempt, new, authored, now=now, error=error))
        when = stamp(new.retry_at)
        # An attempt that will be retried is a warning, the last one an error.
        write = log.warning if new.phase is Phase.RETRYING else log.error
        write("attempt.failed", **_named(run), attempt=new.attempts, problem=error, retry_at=when)
        # As it is written, with the steps of its run.
        return await self.ledger.run(lambda ledger: ledger.grants.record(new.key)) or new

    async def _succeed(self, run: RunningAttempt) -> Record:
        await self._begin(run)
        job = run.job
        new, lines = attempts.succeeded(
            run.record,
            webhook=job.prepared.manifest.exists is None,
            heals=job.planned.decision.heals,
            now=self.now(),
            continued=job.resume > 0,
            answered=run.said,
        )
        run.made = True
        return await self._settled(run, new, lines, {run_name(new.key): None, **self._stored(run)})

    async def _taken_away(self, run: RunningAttempt) -> Record:
        """Record a revocation or a lock whose requests all succeeded: it has, once a check finds no account in use."""
        await self._begin(run)
        left: Verdict
        try:
            left = await self.services.checker.check_taken_away(run.integration, run.job.prepared)
        except Stopped:
            left = Unknown("stopped before it was checked")
        item, deletes, now = run.job.planned, not run.integration.manifest.lock, self.now()
        then = now + self.plan.policy.settings.retry_delay
        found = attempts.taken_away(run.record, item, left, deletes=deletes, now=now, retry_at=then)
        if isinstance(found, str):
            return await self._fail(run, f"{run.said}; {found}")
        new, lines = found
        read = partial(self.vault.handed_on, keys={new.key})
        gone = await self.ledger.run(read) if new.phase is Phase.REVOKED else {}
        return await self._settled(run, new, lines, {} if new.unchecked else {run_name(new.key): None, **gone})

    async def _settled(self, run: RunningAttempt, new: Record, lines: list[Event], kept: ValueChanges) -> Record:
        authored, now = self.authored(lines), self.now()
        await self.ledger.together(
            lambda to: to.attempts.settle(run.attempt, new, authored, now=now, error=None, kept=kept)
        )
        if names := list(run.memory.files.values()):
            await self.ledger.run(partial(self.vault.erase, names=names))
        log.info("attempt.succeeded", **_named(run), attempt=new.attempts)
        return new

    async def pause(self) -> None:
        """Yield to other tasks before an attempt. Raises Stopped once shutdown is requested."""
        await self.context.clock.sleep(0)

    def now(self) -> datetime:
        """Return the time by the clock that attempts use."""
        return self.context.clock.now()

    def authored(self, lines: Iterable[Event]) -> list[Event]:
        """Return events of the pass, with who committed its revision."""
        return [replace(line, author=self.author) for line in lines]


def _start(run: RunningAttempt, now: datetime, author: str | None) -> Callable[[LedgerWriter], Attempt]:
    """Return how an attempt's start is written."""
    commands = run.job.commands
    sends = replace(run.record, snapshot=run.record.run.values or run.record.snapshot)
    started = Event.of(sends, EventType.ATTEMPT_STARTED, run.described, now, author=author)
    opened = replace(run.attempt, started_at=now, alive_at=now)
    lines = [*request_events(commands, now, [run.record]), started]
    return lambda ledger: ledger.attempts.begin(run.record, opened, lines, kept=run.kept, answered=commands)


def _is_gone(run: RunningAttempt, step: Step, answer: Response) -> bool:
    """Whether what a request was to take away, or to look up for that, is gone."""
    return step.index < run.job.may_be_gone and answer.status in GONE


def _store(memory: Memory, request: Request, answer: Response) -> str | None:
    """Remember what `store_data` names. Returns a path that is missing in the answer, or None."""
    for name, path in request.store_data.items():
        value = answer.at(path)
        if value is None:
            return path
        memory.stored[name] = value
    return None


def _overview(found: Iterable[Record], manifests: Mapping[str, Manifest]) -> str:
    """Make `access_overview` of the original format: the last check results of a hire's accounts."""
    shown = {Status.PRESENT: "has access", Status.UNKNOWN: "could not be checked"}
    return ", ".join(
        f"{record.key.access} ({shown.get(record.status, 'no access')})"
        for record in found
        if (manifest := manifests.get(record.integration)) is not None
        and manifest.exists is not None
        and record.status is not Status.REVOKED
    )


def _named(run: RunningAttempt) -> dict[str, str]:
    """Return the log fields that name an attempt."""
    record = run.record
    named = {"hire": record.key.hire, "access": record.key.access, "integration": record.integration}
    return {**named, "kind": run.job.kind}


def _notice(item: Notification, scope: Scope) -> dict[str, Any]:
    try:
        templates = {"to": item.receiver, "subject": item.subject, "message": item.message}
        message = {part: render_text(text, scope).text for part, text in templates.items()}
        if item.type == "text" and is_address(message["to"]):
            message["to"] = render_text(PHONE, scope).text
    except Blocked as error:
        return {"type": item.type, "to": item.receiver, "error": str(error)}
    return {"type": item.type, **message, "sending": False}
