"""Connecting a service: the authorization that `reconcile oauth connect` begins and a callback completes.

The two may be different processes: the command, and the daemon that serves `listen`. Each pending authorization and its
outcome are sealed in the state. The command writes them without the state's lock, which a daemon may have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.daemon.fleet.single_pass import leased
from reconciler.engine.context import Revision, SystemClock
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.state import OpenState, sharing
from reconciler.engine.trust import state_of, trust_of
from reconciler.intake.reading import as_integrations
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.postgres.membership import member_name
from reconciler.ledger.sealing import WritableTokens, open_vault
from reconciler.model.errors import ReconcilerError, SecretsError, UsageError
from reconciler.model.text import hint
from reconciler.oauth.authorization import CONNECTED, OPEN, TAKEN, Authorization, Authorizer, NotConnected, pending
from reconciler.oauth.token_request import TokenClient
from reconciler.repository.desired import Desired

PREFIX = "connect/"


class _PendingAuthorizations:
    """Authorizations that were begun, in the vault under `connect/<digest of the OAuth state>`."""

    def __init__(self, state: OpenState) -> None:
        self._ledger = state.ledger
        self._vault = state.vault

    async def read(self, digest: str) -> dict[str, Any] | None:
        """Read one; None if it is not there."""
        found: dict[str, Any] | None = await self._ledger.run(partial(self._vault.read, name=PREFIX + digest))
        return found

    async def write(self, digest: str, value: dict[str, Any]) -> None:
        """Save one."""
        name = PREFIX + digest
        sealed = self._vault.sealed(name, value)
        await self._ledger.run(lambda ledger: ledger.sealed.put(name, sealed))

    async def take(self, digest: str) -> bool:
        """Mark one that is open as taken; whether this call did, of several at once."""
        found: list[bool] = []

        def change(there: dict[str, Any] | None) -> dict[str, Any] | None:
            found[:] = [there is not None and there["outcome"] == OPEN]
            return {**(there or {}), "verifier": None, "outcome": TAKEN} if found[0] else there

        name = PREFIX + digest
        await self._ledger.run(lambda ledger: ledger.sealed.put(name, self._vault.changed(name, change)))
        return found[0]

    async def erase(self, digest: str) -> None:
        """Delete one."""
        await self._ledger.run(lambda ledger: ledger.sealed.put(PREFIX + digest, None))

    async def digests(self) -> list[str]:
        """List the digests of all that are saved."""
        names = await self._ledger.run(lambda ledger: ledger.sealed.names(PREFIX))
        return [name.removeprefix(PREFIX) for name in names]


@contextmanager
def shared_state(revision: Revision) -> Iterator[OpenState]:
    """Open the state for writing without its lock. Raises LedgerError and SecretsError."""
    ledger = state_of(revision).writer(revision.context.reached)
    try:
        vault = open_vault(ledger, revision.gnupg, trust_of(revision))
        if vault.fault is not None:
            raise SecretsError(vault.fault)
        yield OpenState(OpenLedger(ledger), vault)
    finally:
        ledger.close()


@asynccontextmanager
async def renewing_state(revision: Revision, clock: SystemClock, service: str) -> AsyncIterator[OpenState]:
    """Open the state without its lock, to renew a service's tokens; of a fleet, with the service leased.

    Raises LedgerError and SecretsError.
    """
    if revision.location.file is not None:
        with shared_state(revision) as state:
            yield state
        return
    with sharing(revision, member_name("reconcile import"), acts=False) as state:
        if (fault := state.vault.fault) is not None:
            raise SecretsError(fault)
        async with leased(state, clock, [service]) as mine:
            yield mine


async def begin(revision: Revision, state: OpenState, name: str) -> Authorization:
    """Begin the authorization of a service; `name` is the service or one of its integrations.

    Raises UsageError if nothing of that name can be connected, and Blocked if `authenticate_url` cannot be rendered.
    """
    return await (await _authorizer(revision, state, name)).begin()


async def outcome(state: OpenState, authorization: Authorization) -> str | None:
    """Return None while an authorization is pending, an empty text once it is connected, else why it failed."""
    found = await _PendingAuthorizations(state).read(authorization.digest)
    told = found["outcome"] if found is not None else "it was forgotten"
    return None if told in (OPEN, TAKEN) else "" if told == CONNECTED else str(told)


async def is_awaited(state: OpenState, service: str, query: Mapping[str, str], now: datetime) -> bool:
    """Whether an authorization is pending that this call could complete; anybody can call the callback."""
    try:
        await pending(_PendingAuthorizations(state), service, query, now)
    except ReconcilerError:
        return False
    return True


async def callback(revision: Revision, state: OpenState, *, service: str, query: Mapping[str, str]) -> tuple[int, str]:
    """Answer a call of `/oauth/callback/<service>` with an HTTP status and a text for the person at the browser."""
    context = revision.context
    try:
        digest, begun = await pending(_PendingAuthorizations(state), service, query, context.clock.now())
        authorizer = await _authorizer(revision, state, str(begun["integration"]))
        await authorizer.complete(digest, begun, query)
    except UsageError:
        return 404, f"There is no service {service} here that could be connected."
    except NotConnected as error:
        return 400, f"{service} is not connected: {error}"
    except ReconcilerError as error:
        return 503, f"{service} is not connected: {context.redactor.redact(str(error))}"
    return 200, f"{service} is connected. You can close this page."


async def _authorizer(revision: Revision, state: OpenState, name: str) -> Authorizer:
    integration = await _named(revision, state, name)
    if integration.connection is not None and integration.connection.fetches:
        raise UsageError(f"{name} needs no connection: with grant: client_credentials its token is fetched when needed")
    asks = TokenClient(
        service=integration.service,
        manifest=integration.manifest,
        client=integration.client,
        scope=integration.scope(()),
        clock=revision.context.clock,
        redactor=revision.context.redactor,
    )
    return Authorizer(
        integration.name,
        asks,
        tokens=WritableTokens(state.vault, integration.service, state.ledger),
        connects=_PendingAuthorizations(state),
    )


async def _named(revision: Revision, state: OpenState, name: str) -> Integration:
    """Find the integration of that name, or the first of the service of that name that can be connected.

    An import is connected like an integration.
    """
    files = revision.files
    if name in files.imports and name not in files.manifests and files.imports[name].model.execute:
        files = as_integrations(files, name)
    every = await integrations_of(revision, Desired(files, revision.today), state.read_only)
    found = [item for item in every.values() if name in (item.name, item.service)]
    if not found:
        meant = hint(name, [word for each in every.values() for word in (each.name, each.service)])
        raise UsageError(
            f"{name}: there is no manifests/{name}.yaml that can be read, and no service of that name{meant}"
        )
    service = found[0].service
    able = [item for item in found if item.manifest.oauth is not None and item.service == service]
    if not able:
        raise UsageError(f"{name}: its manifest has no `oauth`: there is nothing to connect")
    integration = next((item for item in able if item.name == name), able[0])
    if integration.fault is not None:
        raise NotConnected(integration.fault)
    return integration
