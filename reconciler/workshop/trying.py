"""Try a manifest against the real service, for one person and in the open. Nothing that changes anything is sent.

The manifest is the work tree's, so that it can be written here; where its requests may go, HEAD says, or the person who
tries it. What a pass would do is planned as a pass plans, without what the ledger remembers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.engine.context import Context, Revision
from reconciler.engine.decide.planned import PlannedGrant, requests_of
from reconciler.engine.observe.checker import Checker
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.wiring import integrations_of
from reconciler.engine.state import reading
from reconciler.model.base import EMAIL
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import Blocked, TransportError, UsageError
from reconciler.model.form import FormField
from reconciler.model.hire import Hire
from reconciler.model.manifest import Manifest
from reconciler.model.run import Kind
from reconciler.model.scope import Scope, walk
from reconciler.model.status import Status
from reconciler.model.text import some
from reconciler.model.value import Frozen, Unshown, replace
from reconciler.repository.desired import Desired
from reconciler.repository.git.trees import OverlayTree, Tree
from reconciler.requests.client import Client, Leaving
from reconciler.requests.hosts import named_hosts
from reconciler.requests.pages import MorePages, items
from reconciler.requests.record import all_there
from reconciler.requests.template import render_data
from reconciler.transports.messages import RenderedRequest, Response
from reconciler.workshop.rules import users_of
from reconciler.workshop.stage import (
    HIRE,
    CheckPart,
    Exchange,
    ManifestSource,
    desired_alone,
    entry_of,
    listings_for,
    manifest_in,
    plan_alone,
)
from reconciler.workshop.testing import with_parts, with_rules

SHOWN_ITEMS = 5

HAS_ACCOUNT = frozenset({Status.PRESENT, Status.DIFFERS})
"""The statuses of a first plan that say that the account was found."""


class ListedPage(Frozen):
    """What the listing's first page has: its items, how many of them count, and the first of these as they are read."""

    items: int
    counted: int
    first: tuple[Mapping[str, Any], ...]
    more: bool
    fault: str = ""


class Tried(Frozen):
    """What came of a try. `planned` is None where nobody was checked."""

    integration: Unshown[Integration]
    planned: Unshown[PlannedGrant | None]
    exchanges: Unshown[tuple[Exchange, ...]]
    listed: ListedPage | None = None
    lacks_listing: bool = False
    """Whether the listing was to be read, and the manifest has none."""
    hosts: tuple[str, ...] = ()
    """Where its requests might go."""

    @property
    def stray(self) -> list[str]:
        """Return the hosts that the manifest names and requests may not go to."""
        return sorted(named_hosts(self.integration.manifest) - {*self.hosts})

    @property
    def answered(self) -> bool:
        """Whether there is a verdict; without a check, whether the listing could be read."""
        if self.planned is None:
            return self.listed is not None and not self.listed.fault
        return self.planned.decision.status not in (Status.UNKNOWN, Status.BLOCKED, Status.INVALID)

    @property
    def would_send(self) -> dict[str, tuple[Mapping[str, Any], ...]]:
        """Return what each kind of attempt would send, as far as values are known, secrets replaced."""
        if self.planned is None or self.planned.prepared is None:
            return {}
        kinds = {"execute": Kind.EXECUTE, "update": Kind.UPDATE, "revoke": Kind.REVOKE}
        return {
            word: tuple(map(self.integration.client.redact, self.planned.prepared.shown(kind, self.planned.seen)))
            for word, kind in kinds.items()
            if requests_of(self.integration.manifest, kind)
        }

    @property
    def lacking(self) -> dict[str, list[str]]:
        """Return what the check of an account that is there did not store, by the lists of requests that use it."""
        manifest, planned = self.integration.manifest, self.planned
        found: dict[str, list[str]] = {}
        if planned is not None and manifest.exists is not None and planned.decision.status in HAS_ACCOUNT:
            for name in (each for each in manifest.exists.store_data if each not in planned.seen):
                for word in users_of(manifest, name):
                    found.setdefault(word, []).append(name)
        return found

    @property
    def unnoticed(self) -> tuple[str, ...]:
        """Return the lists of requests that any 2xx answer ends well, where the check's answer was no in one."""
        manifest = self.integration.manifest
        answers = [each.answer for each in self.exchanges if each.part is CheckPart.CHECK]
        absent = {} if manifest.exists is None else manifest.exists.absent
        if not any(it is not None and it.status < 300 and all_there(it.json(), absent) for it in answers):
            return ()
        lists = {word: manifest.request_lists[word] for word in ("execute", "update", "revoke")}
        return tuple(word for word, calls in lists.items() if any(call.continue_if is None for call in calls))


class _RecordingClient(Client):
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
        return self._through.excerpt(answer)

    def redact(self, value: Any) -> Any:
        return self._through.redact(value)


async def try_manifest(
    context: Context,
    name: str,
    sources: ManifestSource,
    subject: Subject,
    *,
    hosts: Iterable[str],
    listing: bool,
) -> Tried:
    """Check the person's account, plan what would be done, and note all that was exchanged for it."""
    now = context.clock.now()
    head: Tree = OverlayTree({}) if context.checkout.is_unborn else context.checkout.head()
    settings = context.settings(head)
    desired = desired_alone(sources, entry_of(subject.person, name, subject.values), now)
    service = manifest_in(desired, name).model.service or name
    allowed = frozenset(settings.allowed_hosts) or _hosts_at(context, head, service)
    settings = settings.model_copy(update={"allowed_hosts": sorted({*allowed, *hosts}) or [NOWHERE]})
    with reading(Revision(context, head, settings)) as opened:
        here = Revision(context, context.checkout.worktree(), settings)
        found = (await integrations_of(here, desired, opened))[name]
        client = _RecordingClient(found.client)
        connection = found.connection
        if connection is not None and connection.fetches:  # it needs no person
            connection = connection.apart()
        integration = replace(found, client=client, connection=connection)
        policy = Policy(settings, now)
        checker = Checker(context.redactor, listings_for(name, policy, listed=False))
        lists = listing and integration.manifest.listing is not None
        checks = not lists or (subject.named and not subject.lacks(integration.manifest))
        planned = await plan_alone(desired, integration, policy, checker, {}) if checks else None
        scope = _scope(integration, planned, desired)
        checked = len(client.exchanges)
        page = await _first_page(integration, scope) if lists else None
    exchanges = [
        replace(each, part=CheckPart.LISTING) if place >= checked and each.part is not CheckPart.OTHER else each
        for place, each in enumerate(with_parts(integration, scope, client.exchanges))
    ]
    check = None if planned is None or planned.prepared is None else planned.prepared.check
    return Tried(
        integration,
        planned,
        tuple(with_rules(integration, check, scope, exchanges)),
        listed=page,
        lacks_listing=listing and not lists,
        hosts=tuple(each for each in settings.allowed_hosts if each != NOWHERE),
    )


def _scope(integration: Integration, planned: PlannedGrant | None, desired: Desired) -> Scope:
    """Return what the person's placeholders see, as far as values are known."""
    if planned is not None and planned.prepared is not None:
        return planned.prepared.scope
    grant = planned.grant if planned is not None else next(iter(desired.grants(HIRE)), None)
    return integration.scope(() if grant is None else grant.layers)


NOWHERE = "invalid.invalid"
"""A host that no request goes to: where none is allowed."""


def _hosts_at(context: Context, head: Tree, service: str) -> frozenset[str]:
    """Return the hosts that the service's manifests name at HEAD; none where it has no manifests at all."""
    if not (head.has("hires") and head.has("manifests")):
        return frozenset()
    manifests = context.reader.load(head).manifests
    mine = (each.model for stem, each in manifests.items() if (each.model.service or stem) == service)
    return frozenset(host for model in mine for host in named_hosts(model))


async def _first_page(integration: Integration, scope: Scope) -> ListedPage:
    """Read the listing's first page, and say what it makes of its items."""
    listing, scope = integration.manifest.listing, scope.now()
    assert listing is not None
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


class Subject(Frozen):
    """Whom a manifest is tried for: a person, and the values of the form.

    `named` is false where nobody was, and nobody has the integration yet: a listing can be read without a person.
    """

    hire: str
    person: Hire
    values: Mapping[str, Any] = {}
    named: bool = True

    def lacks(self, manifest: Manifest) -> dict[str, str]:
        """Return what the manifest asks for and nobody gave, with where a hire would have it."""
        form = {each.id: f"the form{_choices(each)}" for each in manifest.form if each.type != "generate"}
        extra = {info.id: "`extra`" for info in manifest.extra_user_info}
        given = {*self.values, *self.person.extra}
        return {key: where for key, where in {**form, **extra}.items() if key not in given}


def _choices(field: FormField) -> str:
    return f" (one of {some([str(item.id) for item in field.items])})" if field.items else ""


def subject_of(
    desired: Desired,
    name: str,
    *,
    hire: str | None,
    email: str | None,
    values: Mapping[str, str],
    listing: bool = False,
) -> Subject:
    """Return whom to try it for: this hire, the one of this address or a made-up one; else the first who has it.

    A `hire` has to be one of those whose file can be read. `values` fill the form, and what the manifest asks of a
    hire's `extra`. Raises UsageError if there is nobody, but for a `listing`.
    """
    manifest = manifest_in(desired, name).model
    chosen = hire if hire is not None else desired.owner(email) if email is not None else None
    if hire is None and email is None:
        chosen = next((each for each in sorted(desired.hires) if name in desired.integrations(each)), None)
        if chosen is None and not listing:
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
    named = chosen is not None or email is not None
    return Subject(chosen or "", person.model_copy(update={"extra": extra}), form, named=named)


NOBODY = "ada@example.com"
"""The address of the made-up person for whom a listing is read where nobody was named."""


def _person(desired: Desired, hire: str | None, email: str | None) -> Hire:
    if hire is None:
        return Hire(email=email or NOBODY, first_name="Ada", last_name="Lovelace")
    person = desired.hires[hire].model
    named: dict[str, Any] = {}
    for role, other in person.references.items():
        if other in desired.hires:
            named[role] = desired.hires[other].model.full_name
            named[f"{role}_email"] = desired.hires[other].model.email
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
