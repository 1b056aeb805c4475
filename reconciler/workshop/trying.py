"""Try a manifest against the real service, for one person and in the open. Nothing that changes anything is sent.

The manifest is the work tree's, so that it can be written here; where its requests may go, HEAD says, or the person who
tries it. What a pass would do is planned as a pass plans, without what the ledger remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import field, replace
from typing import Any

from reconciler.engine.context import Context
from reconciler.engine.observe.checker import Checker
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.planned import PlannedGrant
from reconciler.engine.state import reading
from reconciler.model.base import EMAIL
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import Blocked, TransportError, UsageError
from reconciler.model.grant import Kind
from reconciler.model.hire import Hire, HireRef
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.value import value_class
from reconciler.oauth.connection import OAuthConnection, Stored, TokenChange, Turn
from reconciler.repository.desired import Desired
from reconciler.repository.git.trees import Tree
from reconciler.requests.client import Client, Leaving
from reconciler.requests.hosts import named_hosts
from reconciler.requests.pages import MorePages, items
from reconciler.requests.record import all_there
from reconciler.requests.template import render_data
from reconciler.transports.answer import Response
from reconciler.transports.request import RenderedRequest
from reconciler.workshop.canned import Exchange
from reconciler.workshop.rules import RuleFound
from reconciler.workshop.stage import ManifestSource, desired_alone, entry_of, listings_for, manifest_in, plan_alone
from reconciler.workshop.testing import rules_of

__all__ = ["ListedPage", "Subject", "Tried", "subject_of", "try_manifest"]

SHOWN_ITEMS = 5


@value_class
class Subject:
    """Whom a manifest is tried for: a person, and the values of the form."""

    hire: str
    person: Hire
    values: Mapping[str, Any] = field(default_factory=dict)


@value_class
class ListedPage:
    """What the listing's first page has: its items, how many of them count, and the first of these as they are read."""

    items: int
    counted: int
    first: tuple[Mapping[str, Any], ...]
    more: bool
    fault: str = ""


@value_class
class Tried:
    """What came of a try. `would_send` has the requests of `execute`, `update` and `revoke`, secrets replaced."""

    integration: Integration = field(repr=False)
    planned: PlannedGrant | None = field(repr=False)
    exchanges: tuple[Exchange, ...] = field(repr=False)
    rules: Mapping[int, tuple[RuleFound, ...]] = field(repr=False)
    would_send: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict, repr=False)
    listed: ListedPage | None = None
    hosts: tuple[str, ...] = ()
    """Where its requests might go."""


class RecordingClient(Client):
    """Sends through another client, and notes each request with its answer."""

    def __init__(self, through: Client) -> None:
        self._through = through
        self.exchanges: list[Exchange] = []

    async def send(
        self, wire: RenderedRequest, *, follow: bool = False, leaving: Leaving | None = None, behind: bool = False
    ) -> Response:
        """Send a request. Raises what the client raises."""
        try:
            answer = await self._through.send(wire, follow=follow, leaving=leaving, behind=behind)
        except (Blocked, TransportError) as error:
            self.exchanges.append(Exchange(wire, None, str(error)))
            raise
        self.exchanges.append(Exchange(wire, answer))
        return answer

    def excerpt(self, answer: Response) -> str:
        """Quote the service."""
        return self._through.excerpt(answer)

    def redact(self, value: Any) -> Any:
        """Return a value without the known secrets."""
        return self._through.redact(value)


def subject_of(
    desired: Desired, name: str, manifest: Manifest, *, hire: str | None, email: str | None, values: Mapping[str, str]
) -> Subject:
    """Return whom to try it for: this hire, the one of this address or a made-up one; else the first who has it.

    `values` fill the form, and what the manifest asks of a hire's `extra`. Raises UsageError if there is nobody.
    """
    chosen = hire if hire is not None else desired.owner(email) if email is not None else None
    if hire is not None and hire not in desired.hires:
        raise UsageError(f"there is no hire {hire} whose file can be read; --email tries an address of nobody")
    if hire is None and email is None:
        chosen = next((each for each in sorted(desired.hires) if name in desired.integrations(each)), None)
        if chosen is None:
            raise UsageError(f"nobody has {name} yet: say for whom with --hire ID or --email ADDRESS")
    asked = {info.id for info in manifest.extra_user_info}
    known = {item.id for item in manifest.form}
    if unknown := sorted(values.keys() - asked - known):
        allowed = ", ".join(sorted(asked | known)) or "none"
        raise UsageError(f"--value {unknown[0]}: the manifest asks for no such value; allowed: {allowed}")
    if email is not None and not EMAIL.fullmatch(email):
        raise UsageError(f"--email {email}: not an address")
    person = _person(desired, chosen, email)
    extra = {**person.extra, **{key: value for key, value in values.items() if key in asked - known}}
    form = _form_values(desired, chosen, name, known) | {key: it for key, it in values.items() if key in known}
    listed = {item.id for item in manifest.form if item.type == "multiple_choice"}
    form = {key: it.split(",") if key in listed and isinstance(it, str) else it for key, it in form.items()}
    return Subject(chosen or "", person.model_copy(update={"extra": extra}), form)


def _person(desired: Desired, hire: str | None, email: str | None) -> Hire:
    if hire is None:
        return Hire(email=email or "", first_name="Ada", last_name="Lovelace")
    person = desired.hires[hire].model
    named: dict[str, Any] = {}
    for key in ("manager", "buddy"):
        if isinstance(other := getattr(person, key), HireRef) and other.hire in desired.hires:
            named[key] = desired.hires[other.hire].model.full_name
            named[f"{key}_email"] = desired.hires[other.hire].model.email
    return person.model_copy(update=named)


def _form_values(desired: Desired, hire: str | None, name: str, form: Iterable[str]) -> dict[str, Any]:
    """Return the values of the hire's first entry for the integration."""
    grants = () if hire is None else desired.grants(hire)
    entry = next((grant for grant in grants if grant.integration == name), None)
    if entry is None:
        return {}
    given = {key: value for layer in reversed(entry.layers) for key, value in layer.values.items()}
    chosen = dict(entry.choices)
    return {key: chosen.get(key, given.get(key)) for key in form if given.get(key, chosen.get(key)) is not None}


async def try_manifest(
    context: Context,
    name: str,
    sources: ManifestSource,
    subject: Subject,
    *,
    head: Tree,
    hosts: Iterable[str],
    listing: bool,
) -> Tried:
    """Check the person's account, plan what would be done, and note all that was exchanged for it."""
    now = context.clock.now()
    settings = context.settings(head)
    desired = desired_alone(sources, entry_of(subject.person, name, subject.values), now)
    service = manifest_in(desired, name).model.service or name
    allowed = frozenset(settings.allowed_hosts) or _hosts_at(context, head, service)
    settings = settings.model_copy(update={"allowed_hosts": sorted({*allowed, *hosts}) or [NOWHERE]})
    with reading(context, settings, head) as opened:
        built = integrations_of(context, desired, context.checkout.worktree(), settings, opened.sealing)
        found = next(each for each in built if each.name == name)
        client = RecordingClient(found.client)
        integration = replace(found, client=client, connection=_connection(context, found, desired))
        policy = Policy.of(settings, now)
        checker = Checker(context.redactor, listings_for(name, policy, listed=False))
        planned = await plan_alone(desired, integration, policy, checker, {})
        checked = tuple(client.exchanges)
        page = await _first_page(integration, planned, desired) if listing else None
    exchanges = tuple(client.exchanges)
    rules = {} if planned is None else rules_of(integration, planned, checked)
    would_send = _would_send(integration, planned)
    hosts = tuple(each for each in settings.allowed_hosts if each != NOWHERE)
    return Tried(integration, planned, exchanges, rules, would_send=would_send, listed=page, hosts=hosts)


def _connection(context: Context, integration: Integration, desired: Desired) -> OAuthConnection | None:
    """Return the connection; one that needs no person fetches a token of its own, which is not stored."""
    connection = integration.connection
    manifests = (each.model for each in desired.files.manifests.values())
    speaks = next((each for each in (integration.manifest, *manifests) if each.oauth is not None), None)
    if connection is None or speaks is None or not connection.fetches:
        return connection
    own = () if integration.initial is None else (integration.initial,)
    return OAuthConnection(
        integration.service,
        speaks,
        client=integration.client,
        scope=Scope((Layer("settings", {"redirect_url": integration.redirect_url}), *own)),
        tokens=_InMemory(),
        turn=Turn(),
        clock=context.clock,
        redactor=context.redactor,
        renewing=True,
    )


class _InMemory:
    """Keeps a token for one try."""

    def __init__(self) -> None:
        self._kept: Stored | None = None

    def load(self) -> Stored | None:
        return self._kept

    def renewing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def change(self, change: TokenChange) -> None:
        self._kept = change(self._kept)


NOWHERE = "invalid.invalid"
"""A host that no request goes to: where none is allowed."""


def _hosts_at(context: Context, head: Tree, service: str) -> frozenset[str]:
    """Return the hosts that the service's manifests name at HEAD; none where it has no manifests at all."""
    if not (head.has("hires") and head.has("manifests")):
        return frozenset()
    manifests = context.reader.load(head).manifests
    mine = (each.model for stem, each in manifests.items() if (each.model.service or stem) == service)
    return frozenset(host for model in mine for host in named_hosts(model))


def _would_send(integration: Integration, planned: PlannedGrant | None) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """Return what each kind of attempt would send, as far as values are known."""
    if planned is None or planned.prepared is None:
        return {}
    kinds = {"execute": Kind.EXECUTE, "update": Kind.UPDATE, "revoke": Kind.REVOKE}
    return {
        word: tuple(map(integration.client.redact, integration.shown(planned.prepared, kind, planned.seen)))
        for word, kind in kinds.items()
        if integration.requests(kind)
    }


async def _first_page(integration: Integration, planned: PlannedGrant | None, desired: Desired) -> ListedPage | None:
    """Read the listing's first page, and say what it makes of its items; None without a listing."""
    exists = integration.manifest.exists
    listing = None if exists is None else exists.listing
    if listing is None:
        return None
    grant = planned.grant if planned is not None else next(iter(desired.grants("ada")), None)
    scope = integration.scope(() if grant is None else grant.layers).now()
    found: list[Any] = []
    only: dict[str, Any] = {}
    more = False
    try:
        only = {path: render_data(value, scope) for path, value in listing.only.items()}
        async for item in items(integration.client, listing, scope, integration.manifest, pages=1):
            found += [item]
    except MorePages:
        more = True
    except (Blocked, TransportError) as error:
        return ListedPage(0, 0, (), more=False, fault=str(error))
    counted = [item for item in found if not only or all_there(item, only)]
    paths = {"match": listing.match, **({"account": listing.account} if listing.account else {}), **listing.fields}
    first = tuple({key: walk(item, path) for key, path in paths.items()} for item in counted[:SHOWN_ITEMS])
    return ListedPage(len(found), len(counted), integration.client.redact(first), more=more)
