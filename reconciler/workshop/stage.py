"""One person, one manifest and no machine: what a plan is made from without a repository, a state or a network.

In place of the service its client answers from the case, and notes what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from reconciler.engine.apply.claims import Claims
from reconciler.engine.decide.planned import NOTHING_STORED, PlannedGrant
from reconciler.engine.observe.checker import Checker, Services
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import ENOUGH, Listings
from reconciler.engine.observe.same_account import (
    Rivals,
    SameAccounts,
    WantedFingerprints,
    wanted_accounts,
    wanted_prints,
)
from reconciler.engine.run.grants import PlanningInputs
from reconciler.engine.run.planner import Planner
from reconciler.model.case import CannedAnswer, Case
from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import RepositoryError, TransportError
from reconciler.model.grant import Grant, Key, Phase, Record
from reconciler.model.hire import Hire
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer
from reconciler.model.secret import Redactor
from reconciler.model.selection import Selection
from reconciler.model.status import Status
from reconciler.model.template import names
from reconciler.model.value import Frozen
from reconciler.oauth.connection import OAuthConnection
from reconciler.repository.desired import Desired
from reconciler.repository.documents.yaml import Loaded
from reconciler.repository.files import Reader
from reconciler.repository.git.trees import WORKTREE, OverlayTree
from reconciler.repository.policy import PolicyRules
from reconciler.requests.client import Client, Leaving
from reconciler.requests.excerpt import excerpt
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.protocols import as_answered
from reconciler.requests.tasks import NO_YIELD
from reconciler.transports.address import Address
from reconciler.transports.messages import LIMIT, RenderedRequest, Response
from reconciler.workshop.found import RuleFound

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
HIRE = "ada"
SETTINGS = b"prune: revoke\n"

NOT_THE_PERSONS = {"access", "sequences", "source", "without"}
"""The keys of a hire that are about access and the file itself."""

ManifestSource = Mapping[str, bytes]
"""The files of a service's manifests, by path."""


class CheckPart(StrEnum):
    """A part of a check that sends requests of its own, as the manifest's key."""

    CHECK = "exists"
    READY = "exists.ready"
    PENDING = "exists.pending"
    LISTING = "exists.list"
    OTHER = "another request"


class Exchange(Frozen):
    """A request and its answer; None where none came, and then `why`.

    `part` is what of the check sent it, and `rules` what that one's rules found in the answer, once that was looked at.
    """

    request: RenderedRequest
    answer: Response | None
    why: str = ""
    part: CheckPart = CheckPart.OTHER
    rules: tuple[RuleFound, ...] = ()


class _CannedClient(Client):
    """Gives each request the first answer that fits and was not given yet, then the last that fits again."""

    def __init__(self, answers: Iterable[CannedAnswer]) -> None:
        self._redactor = Redactor()
        self._answers = list(answers)
        self._given: set[int] = set()
        self.exchanges: list[Exchange] = []

    async def send(
        self,
        wire: RenderedRequest,
        *,
        follow: bool = False,  # noqa: ARG002  a case gives the answer that the redirect leads to
        leaving: Leaving | None = None,  # noqa: ARG002  nothing leaves
        behind: bool = False,  # noqa: ARG002
    ) -> Response:
        """Return the answer. Raises TransportError where no answer fits, and for a redirect."""
        answer = self._answer(wire)
        why = "no answer of the case fits it" if answer is None else ""
        if answer is not None and 300 <= answer.status < 400 and answer.status not in wire.statuses:
            why = f"answered {answer.status}"
        self.exchanges.append(Exchange(wire, answer, why))
        if answer is None or why:
            raise TransportError(f"{wire.method} {wire.url}: {why}", left=answer is not None)
        return answer

    def excerpt(self, answer: Response) -> str:
        return excerpt(answer, self._redactor)

    def redact(self, value: Any) -> Any:
        return self._redactor.redact_all(value)

    def _answer(self, wire: RenderedRequest) -> Response | None:
        fitting = [index for index, answer in enumerate(self._answers) if _fits(answer, wire)]
        if not fitting:
            return None
        at = next((index for index in fitting if index not in self._given), fitting[-1])
        self._given.add(at)
        return as_answered(wire, _response(self._answers[at]))


def _fits(answer: CannedAnswer, wire: RenderedRequest) -> bool:
    if answer.method != wire.method or not same_url(answer.url, wire.url):
        return False
    return answer.data is None or _sent(wire) == answer.data


def _sent(wire: RenderedRequest) -> Any:
    """Return what a request sends, decoded: JSON, or a form as a map of texts."""
    text = (wire.content or b"").decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return dict(parse_qsl(text, keep_blank_values=True))


def same_url(one: str, other: str) -> bool:
    """Whether two URLs are the same but for their escapes and the order of their parameters."""
    return one == other or _parts(one) == _parts(other)


def _parts(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    parts = urlsplit(url)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    return parts.scheme.lower(), parts.netloc.lower(), unquote(parts.path), query


def _response(answer: CannedAnswer) -> Response:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    body = answer.body
    if body is None:
        content = b""
    elif isinstance(body, str):
        content = body.encode()
    else:
        content = json.dumps(body, ensure_ascii=False).encode()
        headers.setdefault("content-type", "application/json")
    return Response(answer.status, headers, content[:LIMIT], truncated=len(content) > LIMIT)


class CaseStage:
    """What one case is planned with."""

    def __init__(self, name: str, sources: ManifestSource, case: Case, reader: Reader) -> None:
        """Raises RepositoryError if the manifest cannot be read. A `reader` parses it once for all of its cases."""
        self.name, self._sources, self._case, self._reader = name, sources, case, reader
        self.client = _CannedClient(case.answers)
        self._loaded = self._desired(None)  # without the person, to know the manifest
        self.integration = self._integration(manifest_in(self._loaded, name))

    def _desired(self, values: Mapping[str, Any] | None) -> Desired:
        """Return the desired state in which the person has the entry with these values; None: nobody is there."""
        person = None if values is None else entry_of(self._case.hire, self.name, values)
        return desired_alone(self._sources, person, reader=self._reader)

    def _integration(self, loaded: Loaded[Manifest]) -> Integration:
        manifest, service = loaded.model, loaded.model.service or self.name
        given = {field.id: f"made-up-{field.id}" for field in manifest.asks_for} | self._case.data
        siblings = [each.model for each in self._loaded.files.manifests.values()]
        speaks = any(each.oauth is not None for each in siblings)
        return Integration(
            name=self.name,
            service=service,
            file=loaded.path,
            manifest=manifest,
            client=self.client,
            hosts=_Anywhere(frozenset()),
            initial=Layer("data", given),
            fault=None,
            settings=Layer("settings", {"redirect_url": f"https://reconciler.example.com/oauth/callback/{service}"}),
            connection=cast("OAuthConnection", _Connection(manifest)) if speaks else None,
        )

    async def plan(self) -> PlannedGrant | None:
        """Plan the person's grant; None where its files have an error that leaves nothing to plan."""
        case = self._case
        desired = self._desired(None if case.orphan else case.values)
        policy = Policy(desired.files.settings, NOW)
        checker = Checker(Redactor(), listings_for(self.name, policy, listed=case.listed))
        return await plan_alone(desired, self.integration, policy, checker, self._records())

    def _records(self) -> dict[Key, Record]:
        """Return what the ledger remembers: nothing, unless the case says what was there before."""
        case = self._case
        if not case.orphan and case.before is None:
            return {}
        sent = case.values if case.before is None else case.before.values
        form = {field.id for field in self.integration.manifest.form}
        grants = self._desired({key: value for key, value in sent.items() if key in form}).grants(HIRE)
        grant = next((each for each in grants if each.hold is None), None)
        if grant is None:
            return {}
        return {grant.key: self._confirmed(grant, {key: value for key, value in sent.items() if key not in form})}

    def _confirmed(self, grant: Grant, of_hire: Mapping[str, Any]) -> Record:
        """Return the record of a grant that was found as wanted; `of_hire` are values that the hire had then.

        Of who left, what git wanted does not count.
        """
        wants = {} if self._case.orphan else self.integration.prepare(grant, NOTHING_STORED, kind=None).wants
        then = NOW - timedelta(days=1)
        return Record(
            **grant.core,
            phase=Phase.CONFIRMED,
            status=Status.PRESENT,
            snapshot={**self.integration.snapshot(grant), **of_hire},
            wants=wants,
            checked_at=then,
            confirmed_at=then,
            as_wanted_at=then,
            revision=WORKTREE,
        )


def entry_of(person: Hire, name: str, values: Mapping[str, Any]) -> bytes:
    """Write a hire's file in which the person has this one entry."""
    said = person.model_dump(mode="json", exclude_none=True, exclude=NOT_THE_PERSONS)
    entry = {"integration": name, "values": dict(values)} if values else {"integration": name}
    return json.dumps({**said, "access": [entry]}, default=str).encode()


def desired_alone(
    sources: ManifestSource, person: bytes | None, now: datetime = NOW, *, reader: Reader | None = None
) -> Desired:
    """Return the desired state of a service's manifests and at most one hire."""
    files = {**sources, "config/reconciler.yaml": SETTINGS}
    if person is not None:
        files[f"hires/{HIRE}.yaml"] = person
    return Desired((reader or Reader()).load(OverlayTree(files)), now.date())


def manifest_in(desired: Desired, name: str) -> Loaded[Manifest]:
    """Return a manifest. Raises RepositoryError with its first problem if it cannot be used."""
    manifest = desired.files.manifests.get(name)
    if manifest is None:
        problems = desired.files.broken["manifests"].get(name, [])
        raise RepositoryError(problems[0].clause if problems else f"there is no manifest {name}")
    return manifest


def listings_for(name: str, policy: Policy, *, listed: bool) -> Listings:
    """Return listings that are read if the case is about them."""
    listings = Listings(policy.now)
    if listed:
        listings.expect({name: ENOUGH + 1})
    return listings


async def plan_alone(
    desired: Desired, integration: Integration, policy: Policy, checker: Checker, records: Mapping[Key, Record]
) -> PlannedGrant | None:
    """Plan the one grant of a desired state as a pass does; None where there is none."""
    integrations = {integration.name: integration}

    async def rows_of(_hire: str) -> Collection[Record]:
        return records.values()

    services = Services(desired=desired, integrations=integrations, checker=checker)
    inputs = PlanningInputs(
        desired=desired,
        integrations=integrations,
        records=records,
        rows_of=rows_of,
        rows_of_others=_no_rows,
        checker=checker,
        policy=policy,
        locks=desired.locks((), policy.now),
        stored={},
        by_hand={},
        rules=PolicyRules(desired, desired.files.policy),
        yielder=NO_YIELD,
        same_accounts=SameAccounts(services, WantedFingerprints(NO_YIELD, wanted_prints)),
        rivals=Rivals(services, WantedFingerprints(NO_YIELD, wanted_accounts)),
        unreadable=_no_rows,
    )
    found = await Planner(inputs, Selection(), Claims().begin()).plan()
    return found[0] if found else None


class _Anywhere(AllowedHosts):
    """Every host: nothing is sent to any."""

    def allow(self, address: Address) -> bool:  # noqa: ARG002
        return True

    def lacking(self, address: Address) -> None:
        """Return what has to be installed first."""


def made_up_token(manifest: Manifest) -> dict[str, Any]:
    """Make a token up, with all fields of the reply that the manifest uses."""
    reply: dict[str, Any] = {"access_token": "made-up-token", "refresh_token": "made-up-token"}
    for name in names(manifest.model_dump(exclude={"oauth"})):
        root, *path = name.split(".")
        if root == "oauth" and path:
            *parents, last = path
            holder = reply
            for key in parents:
                holder = holder.setdefault(key, {})
            holder.setdefault(last, f"made-up-{last}")
    return reply


class _Connection:
    """A connection whose made-up token never expires."""

    fetches = True

    def __init__(self, manifest: Manifest) -> None:
        self._token = Layer("made up", {"oauth": made_up_token(manifest)})

    def layer(self) -> Layer:
        return self._token

    def renewal_url(self) -> None:
        return None

    async def fresh(self) -> Layer:
        return self._token

    async def renewed(self) -> Layer:
        return self._token


async def _no_rows(_hires: frozenset[str] = frozenset()) -> Iterable[Record]:
    return ()
