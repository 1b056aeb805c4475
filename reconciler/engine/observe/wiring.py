"""Connect a revision's integrations with initial data, clients, allowed hosts and connections.

A manifest that a branch changes gets a client without allowed hosts, no initial data and no connection, so that even a
fault in planning could not send anything for it (docs/design/rules.md, "Pull requests").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.engine.context import Revision
from reconciler.engine.observe.integrations import AUTHORITY, Integration
from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sealing import ReadState, Stored, Tokens
from reconciler.model.errors import Blocked, SecretsError
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.model.secret import Redactor, Secret
from reconciler.model.template import names
from reconciler.model.value import replace
from reconciler.model.verdict import Cause
from reconciler.oauth.connection import OAuthConnection
from reconciler.oauth.token_request import TokenClient
from reconciler.repository.desired import Desired, Service
from reconciler.repository.documents.yaml import Loaded
from reconciler.requests.hosts import AllowedHosts, named_hosts, written_hosts
from reconciler.requests.render import SIGNED_WITH

_HOST = re.compile(r"(?:https?://)?[A-Za-z0-9.-]+(?::\d+)?/?")

NOBODY = AllowedHosts(frozenset())


def as_branch_may(
    integrations: Mapping[str, Integration],
    in_force: Mapping[str, Loaded[Manifest]],
    branch: Mapping[str, Loaded[Manifest]],
    trusted: Revision,
) -> dict[str, Integration]:
    """Return the integrations as a branch may use them: those that it does not change, the others blocked."""
    result = dict(integrations)
    for name, loaded in branch.items():
        ours = in_force.get(name)
        if ours is None or ours.model != loaded.model:
            result[name] = _changed(name, loaded, ours, trusted)
    return result


def _changed(name: str, loaded: Loaded[Manifest], ours: Loaded[Manifest] | None, trusted: Revision) -> Integration:
    known = named_hosts(ours.model) if ours is not None else frozenset()
    new = sorted(named_hosts(loaded.model) - known)
    hosts = f"; new host {', '.join(new)}" if new else ""
    return Integration(
        name=name,
        service=loaded.model.service or name,
        file=loaded.path,
        manifest=loaded.model,
        client=trusted.context.client("a manifest changed on a branch", NOBODY, trusted.settings.limits),
        hosts=NOBODY,
        initial=None,
        fault=Blocked(f"{loaded.path} is changed on this branch: nothing is sent{hosts}"),
        settings=Layer("settings", {"redirect_url": ""}),
    )


def initial_layer(service: Service, values: Mapping[str, str], redactor: Redactor) -> Layer:
    """Make a layer of a service's initial data; the redactor learns its secret values.

    A field with `secret: false` is shown, unless a request puts it into a header, and so is one that only says where
    requests go (docs/design/rules.md, "Secrets").
    """
    shown: set[str] = set()
    for _, manifest in service.manifests.values():
        shown |= {item.id for item in manifest.initial_data_form if not item.secret}
    for _, manifest in service.manifests.values():
        shown -= _in_headers(manifest)
    for _, manifest in service.manifests.values():
        for _, call in manifest.calls():
            match = AUTHORITY.match(call.url or "")
            places = names(match[0]) if match else frozenset()
            shown |= {name for name in places if _HOST.fullmatch(values.get(name, ""))}
    secret = frozenset(values) - shown
    redactor.learn(values[name] for name in secret)
    held = {name: Secret(value) if name in secret else value for name, value in values.items()}
    return Layer(f"config/initial_data/{service.name}", held, secret)


def divided(layer: Layer, manifest: Manifest, service: Service) -> tuple[Layer, Layer | None]:
    """Divide initial data into what the service's manifests ask for, and the rest, None for nothing.

    What a manifest has in its form, and does not ask for itself, the form gives.
    """
    own, form = {field.id for field in manifest.asks_for}, {field.id for field in manifest.form}
    asked = own | ({field.id for _, each in service.manifests.values() for field in each.asks_for} - form)
    rest = {name: value for name, value in layer.values.items() if name not in asked}
    first = {name: value for name, value in layer.values.items() if name in asked}
    return replace(layer, values=first), replace(layer, values=rest) if rest else None


def _in_headers(manifest: Manifest) -> frozenset[str]:
    """Return the names that requests put into a header, where services expect credentials."""
    parts: list[Any] = [manifest.headers]
    for _, call in manifest.calls():
        parts.append(call.headers)
        if call.extra_headers == "pritunl":
            parts += [f"{{{{{name}}}}}" for name in SIGNED_WITH]
    return names(parts)


def _fault(service: Service, manifest: Manifest, found: Mapping[str, str] | SecretsError | None) -> Blocked | None:
    """Return why the initial data does not serve this manifest, or None."""
    asked = [item.id for item in manifest.asks_for]
    if isinstance(found, SecretsError):
        why = f"initial data {', '.join(asked)}: {found}" if asked else str(found)
        return Blocked(why, Cause.INITIAL_DATA)
    absent = [name for name in asked if not found or not found.get(name)]
    if not absent:
        return None
    where = f"config/initial_data/{service.name}"
    what = f"initial data {', '.join(absent)} is missing"
    there = "has no value for it" if found is not None else "is not there"
    why = f"{what}: {where} {there}; `reconcile initial-data set {service.name}` asks for it"
    return Blocked(why, Cause.INITIAL_DATA)


async def integrations_of(revision: Revision, desired: Desired, state: ReadState) -> dict[str, Integration]:
    """Make every integration that is desired, by name, with its client and its OAuth connection.

    What they send with, and where to, is the revision's: its initial data, and the hosts that its settings allow.
    """
    context, settings = revision.context, revision.settings
    integrations = dict[str, Integration]()
    manifests = {name: [each for _, each in service.manifests.values()] for name, service in desired.services.items()}
    connects = {
        name: Tokens(state.vault, name, state.ledger)
        for name, theirs in manifests.items()
        if any(each.oauth is not None for each in theirs)
    }

    def stored(ledger: LedgerReader) -> dict[str, Stored | None]:
        return {name: tokens.read(ledger) for name, tokens in connects.items()}

    there = await state.ledger.run(stored) if connects else {}
    wanted = [name for name, theirs in manifests.items() if any(each.asks_for for each in theirs)]
    data = revision.initial_data.read_all(revision.tree, wanted)
    for service in desired.services.values():
        found, theirs = data.get(service.name), manifests[service.name]
        written = frozenset(host for each in theirs for host in written_hosts(each))
        hosts = AllowedHosts(frozenset(settings.allowed_hosts) or written, frozenset(context.programs))
        layer = initial_layer(service, found, context.redactor) if isinstance(found, dict) else None
        shared = context.client(service.name, hosts, settings.limits)
        of_settings = Layer("settings", {"redirect_url": f"{settings.public}/oauth/callback/{service.name}"})
        base = Scope((of_settings, *([layer] if layer is not None else [])))
        # Manifests of one service share its connection; the first with `oauth` defines it for the others.
        speaks = next((each for each in theirs if each.oauth is not None), None)
        for name, (file, manifest) in service.manifests.items():
            spoken = manifest if manifest.oauth is not None else speaks
            initial, unasked = (None, None) if layer is None else divided(layer, manifest, service)
            integrations[name] = Integration(
                name=name,
                service=service.name,
                file=file,
                manifest=manifest,
                client=shared.of(name),
                hosts=hosts,
                initial=initial,
                unasked=unasked,
                fault=_fault(service, manifest, found),
                settings=of_settings,
                sealer=state.vault.sealer,
                connection=OAuthConnection(
                    TokenClient(
                        service=service.name,
                        manifest=spoken,
                        client=shared,
                        scope=base,
                        clock=context.clock,
                        redactor=context.redactor,
                    ),
                    tokens=connects[service.name],
                    store=state.store_of(service.name),
                    stored=there[service.name],
                    turn=context.turn(service.name),
                )
                if spoken
                else None,
            )
    return integrations
