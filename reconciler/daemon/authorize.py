"""Connecting a service: the authorization that `reconcile oauth connect` begins and a callback completes.

The two may be different processes, the command and the daemon that has `listen`: what was begun is sealed in the state,
and so is what became of it. The state is written to beside whoever holds it, which nothing here gets in the way of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.integrations import Integration
from reconciler.engine.state import OpenState, refuse_fresh_start
from reconciler.engine.wiring import integrations_of
from reconciler.intake.reading import as_integrations
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import Tokens, WritableSealing
from reconciler.ledger.vault import WritableVault
from reconciler.model.deciding import Policy
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.settings import Settings
from reconciler.oauth.authorization import CONNECTED, OPEN, TAKEN, Authorization, Authorizer, NotConnected, digest_of
from reconciler.repository.desired import Desired
from reconciler.repository.documents.problems import near
from reconciler.repository.git.checkout import Tree

__all__ = ["awaited", "begin", "beside", "callback", "outcome"]

CONNECTS = "connect/"


class Connects:
    """Authorizations that were begun, in the vault under `connect/<digest of the state>`."""

    def __init__(self, ledger: LedgerReader, vault: WritableVault) -> None:
        self._ledger = ledger
        self._vault = vault

    def read(self, digest: str) -> dict[str, Any] | None:
        """One of them; None where there is no such."""
        found: dict[str, Any] | None = self._vault.read(CONNECTS + digest)
        return found

    def write(self, digest: str, value: dict[str, Any]) -> None:
        """Keep one."""
        self._vault.write(CONNECTS + digest, value)

    def erase(self, digest: str) -> None:
        """Forget one."""
        self._vault.erase(CONNECTS + digest)

    def digests(self) -> list[str]:
        """All that are kept."""
        names = self._ledger.sealed_names()
        return [name.removeprefix(CONNECTS) for name in names if name.startswith(CONNECTS)]


@contextmanager
def beside(context: Context, settings: Settings, tree: Tree) -> Iterator[OpenState]:
    """The state, to be written to beside whoever holds it. Raises LedgerError and SecretsError."""
    location = context.state(settings, tree)
    refuse_fresh_start(context.checkout, location)
    ledger = location.writer(context.reached)
    try:
        recipients = context.initial_data(settings).recipients(tree)
        sealing = WritableSealing.writing(ledger, context.gnupg(settings), recipients)
        yield OpenState(ledger, sealing, location.file)
    finally:
        ledger.close()


def begin(context: Context, settings: Settings, tree: Tree, held: OpenState, name: str) -> Authorization:
    """Begin the authorization of a service, named by an integration of it or by itself.

    Raises UsageError where nothing of that name can be connected, and Blocked where `authenticate_url` cannot be made.
    """
    return _authorizer(context, settings, tree, held, name).begin()


def outcome(held: OpenState, authorization: Authorization) -> str | None:
    """What became of an authorization: None while nothing has, empty for a connection, else why there is none."""
    found = Connects(held.ledger, held.sealing.vault).read(authorization.digest)
    told = found["outcome"] if found is not None else "it was forgotten"
    return None if told in (OPEN, TAKEN) else "" if told == CONNECTED else str(told)


def awaited(held: OpenState, service: str, query: Mapping[str, str]) -> bool:
    """Whether somebody waits for such a call of the callback; anybody can make one."""
    try:
        _begun(Connects(held.ledger, held.sealing.vault), service, query.get("state", ""))
    except ReconcilerError:
        return False
    return True


async def callback(
    context: Context, settings: Settings, tree: Tree, held: OpenState, *, service: str, query: Mapping[str, str]
) -> tuple[int, str]:
    """Answer a call of `/oauth/callback/<service>`: the HTTP status, and the text for the person who came back."""
    connects = Connects(held.ledger, held.sealing.vault)
    try:
        name = _begun(connects, service, query.get("state", ""))
        await _authorizer(context, settings, tree, held, name).complete(query)
    except UsageError:
        return 404, f"There is no service {service} here that could be connected."
    except NotConnected as error:
        return 400, f"{service} is not connected: {error}"
    except ReconcilerError as error:
        return 503, f"{service} is not connected: {context.redactor.redact(str(error))}"
    return 200, f"{service} is connected. You can close this page."


def _begun(connects: Connects, service: str, state: str) -> str:
    """The integration whose authorization a callback speaks of.

    Anybody can call the callback: it is seen that somebody waits for it before any file is read or decrypted. Raises
    NotConnected.
    """
    for digest in [digest_of(state)] if state else connects.digests():
        begun = connects.read(digest)
        if begun is not None and begun["service"] == service and (state or begun["outcome"] == OPEN):
            return str(begun["integration"])
    raise NotConnected("nobody waits for this: begin with `reconcile oauth connect`")


def _authorizer(context: Context, settings: Settings, tree: Tree, held: OpenState, name: str) -> Authorizer:
    vault = held.sealing.vault
    integration = _named(context, settings, tree, held, name)
    if integration.connection is not None and integration.connection.fetches:
        raise UsageError(f"{name} needs no connection: with grant: client_credentials its token is fetched when needed")
    scope = integration.scope((), {})
    return Authorizer(
        integration.service,
        integration.name,
        integration.manifest,
        client=integration.client,
        scope=scope,
        tokens=Tokens(vault, integration.service),
        connects=Connects(held.ledger, vault),
        clock=context.clock,
        redactor=context.redactor,
    )


def _named(context: Context, settings: Settings, tree: Tree, held: OpenState, name: str) -> Integration:
    """The integration that a name means, or the first of the service that it means, of those that can be connected.

    An import is connected like an integration.
    """
    files = context.reader.load(tree)
    if name in files.imports and name not in files.manifests and files.imports[name].model.execute:
        files = as_integrations(files, name)
    desired = Desired(files, Policy.of(settings, context.clock.now()).today)
    every = list(integrations_of(context, desired, tree, settings, held.sealing))
    found = [item for item in every if name in (item.name, item.service)]
    if not found:
        meant = near(name, [word for each in every for word in (each.name, each.service)])
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
