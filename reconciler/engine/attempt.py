"""Executing: the only part of the program that changes anything at a service.

An attempt is in the ledger before its first request leaves, each request before it leaves and when it is answered, and
the attempt is settled after its last (DESIGN section 3). Whatever moment the program dies at, what is written tells the
next one how far it came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from reconciler.engine import record as records
from reconciler.engine.integrations import Integration, Prepared
from reconciler.engine.memory import Memory, Vault, generated, notice_name, run_name, stored_name
from reconciler.ledger.store import Attempt, Happening, Ledger
from reconciler.model.clock import Clock, Stopped
from reconciler.model.errors import Blocked, RequestFailed, SecretsError
from reconciler.model.grant import Decision, Outcome, Phase, Record, Step
from reconciler.model.manifest import Request, Revoke
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.secret import Redactor
from reconciler.model.status import Event
from reconciler.requests.client import Answer
from reconciler.requests.match import condition_holds, contains, failure
from reconciler.requests.render import expected, outline, render
from reconciler.requests.template import render_text

__all__ = ["Actor", "Job"]

UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt to make: `kind` is execute, heal, run or revoke; `resume` the request at which it continues."""

    kind: str
    integration: Integration
    prepared: Prepared
    record: Record
    decision: Decision
    seen: Mapping[str, Any]
    """What the check's `store_data` saved."""

    @property
    def revoking(self) -> bool:
        """Whether it takes access away."""
        return self.kind == "revoke"

    @property
    def requests(self) -> list[Request]:
        """The requests, in order."""
        manifest = self.integration.manifest
        return list(manifest.revoke) if self.revoking else list(manifest.execute)

    @property
    def texts(self) -> tuple[str, ...]:
        """A digest of each request as the manifest writes it."""
        return self.integration.revoke_texts if self.revoking else self.integration.texts


class _Failed(Exception):
    """The attempt fails; the text says why."""


class Actor:
    """Carries attempts out and settles them."""

    def __init__(
        self,
        ledger: Ledger,
        vault: Vault,
        clock: Clock,
        redactor: Redactor,
        retry_delay: timedelta,
        author: str | None,
        overview: Callable[[str], str],
    ) -> None:
        self._ledger = ledger
        self._vault = vault
        self._clock = clock
        self._redactor = redactor
        self._retry_delay = retry_delay
        self._author = author
        self._overview = overview

    async def attempt(self, job: Job) -> Record:
        """Make one attempt and write down how it ended; the record says whether it succeeded."""
        now = self._clock.now()
        resume = job.decision.resume
        settled = job.record.phase not in (Phase.RETRYING, Phase.FAILED) or job.record.revoking != job.revoking
        number = 1 if job.decision.afresh or settled or job.kind == "run" else job.record.attempts + 1
        record = records.begun(
            job.record,
            number=number,
            digest=job.prepared.digest,
            snapshot=job.prepared.snapshot,
            resumed=resume > 0,
            revoking=job.revoking,
        )
        total = len(job.requests)
        opened = Attempt(
            0, record.key, record.integration, record.run or 0, job.kind, number, total, now, now, None, None, record.revision
        )
        detail = f"attempt {number}" + (f", from request {resume + 1} of {total}" if resume else "")
        started = self._line(record, Event.ATTEMPT_STARTED, detail)
        # Whoever continues must know the generated values before anything can have been made with them.
        memory = Memory(generated=generated(job.integration.manifest.generated))
        kept = {} if resume else self._vault.remember(record.key, memory)
        attempt = self._ledger.begin(record, opened, [started], kept=kept)
        record = replace(record, run=attempt.run)
        try:
            if resume:
                memory = self._vault.memory(record.key)
            self._redactor.learn(memory.generated.values())
            await self._send_all(job, attempt, memory, resume)
        except (_Failed, Blocked, RequestFailed, SecretsError, Stopped) as error:
            return self._fail(attempt, record, self._redactor.redact(str(error) or "stopped"))
        return self._succeed(job, attempt, record)

    async def _send_all(self, job: Job, attempt: Attempt, memory: Memory, resume: int) -> None:
        files: dict[str, bytes] = {}
        requests = job.requests
        if resume >= len(requests):
            self._keep_notices(job, memory)
            return
        for place, request in enumerate(requests):
            if place < resume:
                continue
            step = Step(place, job.texts[place], request.mutates, Outcome.SENT)
            try:
                await self._send(job, attempt, memory, step, request, files)
            except (_Failed, Blocked, RequestFailed) as error:
                raise _Failed(f"request {place + 1} of {len(requests)} ({request.method}): {error}") from error

    async def _send(
        self, job: Job, attempt: Attempt, memory: Memory, step: Step, request: Request, files: dict[str, bytes]
    ) -> None:
        """Send one request, again while it polls, and write down what became of it."""
        tries = request.polling.amount if request.polling else 1
        for turn in range(tries):
            answer = await self._exchange(job, attempt, memory, step, request, files)
            if request.continue_if is None or condition_holds(request.continue_if, answer, self._scope(job, memory)):
                break
            now = self._clock.now()
            if turn + 1 == tries:
                self._ledger.answered(attempt, step.index, Outcome.UNMET, now, status_code=answer.status, error="continue_if")
                raise _Failed(f"continue_if does not hold: {request.continue_if.response_notation} is another")
            assert request.polling is not None
            self._ledger.answered(attempt, step.index, Outcome.UNMET, now, status_code=answer.status)
            try:
                await self._clock.sleep(request.polling.interval)
            except Stopped as error:
                raise _Failed("stopped while polling") from error
        if request.save_as_file:
            files[request.save_as_file] = answer.content
        memory.answered(step.index, answer.json())
        missing = self._store(job, memory, request, answer)
        kept = self._vault.remember(attempt.key, memory)
        if step.index == len(job.requests) - 1 and missing is None and not job.revoking:
            kept |= self._notices(job, memory)
        self._ledger.answered(
            attempt, step.index, Outcome.DONE, self._clock.now(), status_code=answer.status, kept=kept
        )
        if missing is not None:
            raise _Failed(f"store_data: the response has nothing at {missing}")

    def _store(self, job: Job, memory: Memory, request: Request, answer: Answer) -> str | None:
        """Save what `store_data` names; gives the path that is not there, or None."""
        body = answer.json()
        for name, path in request.store_data.items():
            value = walk(body, path)
            if value is None:
                return path
            memory.stored[name] = value
        if request.store_data:
            name = stored_name(job.record.key.hire)
            self._vault.write(name, {**(self._vault.read(name) or {}), **memory.stored})
        return None

    async def _exchange(
        self, job: Job, attempt: Attempt, memory: Memory, step: Step, request: Request, files: Mapping[str, bytes]
    ) -> Answer:
        """One request and its answer, in the ledger before it leaves and when it is answered."""
        connection = job.integration.connection
        if connection is not None:
            await connection.fresh()
        answer = await self._deliver(job, attempt, memory, step, request, files)
        if answer.status == UNAUTHORIZED and connection is not None:
            await connection.renewed()
            answer = await self._deliver(job, attempt, memory, step, request, files)
        now = self._clock.now()
        if (reason := failure(request, answer)) is not None:
            self._ledger.answered(
                attempt, step.index, Outcome.REFUSED, now, status_code=answer.status, error=self._redactor.redact(reason)
            )
            raise _Failed(reason)
        if isinstance(request, Revoke) and request.expected is not None:
            wanted = expected(request.expected, self._scope(job, memory))
            if not contains(answer.text, wanted):
                reason = "the response does not contain what is expected"
                self._ledger.answered(attempt, step.index, Outcome.UNMET, now, status_code=answer.status, error=reason)
                raise _Failed(reason)
        return answer

    async def _deliver(
        self, job: Job, attempt: Attempt, memory: Memory, step: Step, request: Request, files: Mapping[str, bytes]
    ) -> Answer:
        scope = self._scope(job, memory)
        wire = render(request, scope, job.integration.manifest, files=files)
        shown = outline(request, scope)["url"]

        async def leaving() -> None:
            now = self._clock.now()
            self._ledger.sending(attempt, step, request.method, self._redactor.redact(shown), now)

        try:
            return await job.integration.client.send(wire, leaving=leaving)
        except RequestFailed as error:
            outcome = Outcome.LOST if error.left else Outcome.REFUSED
            text = self._redactor.redact(str(error))
            self._ledger.answered(attempt, step.index, outcome, self._clock.now(), error=text)
            raise

    def _scope(self, job: Job, memory: Memory) -> Scope:
        layers = list(memory.layers())
        if job.seen:
            layers.append(Layer("store_data of the check", job.seen))
        if job.integration.connection is not None and (token := job.integration.connection.layer()) is not None:
            layers.append(token)
        if "access_overview" in job.integration.used:
            layers.append(Layer("the last checks", {"access_overview": self._overview(job.record.key.hire)}))
        return replace(job.prepared.scope.over(*layers), deferred=frozenset())

    def _notices(self, job: Job, memory: Memory) -> dict[str, bytes]:
        """The notifications as they will go out, sealed: they may hold a generated password."""
        found = []
        scope = self._scope(job, memory)
        for item in job.integration.manifest.post_execute_notification:
            found.append(
                {
                    "type": item.type,
                    "to": render_text(item.to, scope).text,
                    "subject": render_text(item.subject, scope).text,
                    "message": render_text(item.message, scope).text,
                    "sending": False,
                }
            )
        name = notice_name(job.record.key)
        return {name: self._vault.sealed(name, found)} if found else {}

    def _keep_notices(self, job: Job, memory: Memory) -> None:
        if not job.revoking:
            for name, value in self._notices(job, memory).items():
                self._ledger.put_sealed(name, value)

    def _fail(self, attempt: Attempt, record: Record, error: str) -> Record:
        now = self._clock.now()
        new, lines = records.failed(record, error, now=now, at=now, retry_delay=self._retry_delay)
        self._ledger.settle(attempt, new, self._authored(lines), now=now, error=error)
        return self._as_written(new)

    def _succeed(self, job: Job, attempt: Attempt, record: Record) -> Record:
        now = self._clock.now()
        if job.revoking:
            new, lines = records.revoked(record, now)
        else:
            webhook = job.integration.manifest.exists is None
            new, lines = records.succeeded(record, webhook=webhook, heals=job.kind == "heal", now=now)
        self._ledger.settle(attempt, new, self._authored(lines), now=now, error=None, erase=[run_name(record.key)])
        return new

    def _as_written(self, record: Record) -> Record:
        """The record as the ledger has it now, with the steps of its run."""
        return self._ledger.record(record.key) or record

    async def pause(self) -> None:
        """Let others have their turn before an attempt; raises Stopped where nothing new may start."""
        await self._clock.sleep(0)

    def now(self) -> datetime:
        """The moment, as the attempts see it."""
        return self._clock.now()

    def _line(self, record: Record, event: Event, detail: str) -> Happening:
        return Happening(self._clock.now(), record.key, record.integration, event, detail, record.revision, self._author)

    def _authored(self, lines: list[Happening]) -> list[Happening]:
        return [replace(line, author=self._author) for line in lines]
