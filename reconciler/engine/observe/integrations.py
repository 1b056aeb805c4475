"""The integrations of a pass: manifest, initial data, allowed hosts, client; and preparing grants for them.

`Integration.prepare` renders everything that a grant would send before anything is sent, so that a variable without a
value, a host that is not allowed or missing initial data blocks the grant in time (docs/design/rules.md, "Variables").
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from reconciler.engine.decide.existing import as_shown, changed_in_git
from reconciler.engine.decide.planned import NO_OUTPUTS, NOTHING_STORED, Check, DependencyOutputs, Prepared, requests_of
from reconciler.ledger.vault import Stored
from reconciler.model.base import jsonable
from reconciler.model.errors import Blocked, MissingVariable
from reconciler.model.grant import Differences, Grant, Record
from reconciler.model.hire import NamedChoice
from reconciler.model.manifest import Manifest, is_address
from reconciler.model.request import Call, Listing, Pending, Request
from reconciler.model.run import Kind
from reconciler.model.scope import DEFERRED, HIRE_NAMES, LEDGER, Layer, Scope, steps
from reconciler.model.template import names, roots
from reconciler.model.value import Frozen, Unshown, replace
from reconciler.model.verdict import Cause, Verdict
from reconciler.requests.excerpt import FIELDS
from reconciler.requests.hosts import AllowedHosts
from reconciler.requests.pages import first_page
from reconciler.requests.record import Compared
from reconciler.requests.render import AT_RUN_TIME, Rehearsal, account_expected, canonical, rehearse, steady
from reconciler.requests.template import render_text, render_url, written
from reconciler.secrets.sealed import Sealer
from reconciler.transports.messages import RenderedRequest

if TYPE_CHECKING:
    from reconciler.oauth.connection import OAuthConnection
    from reconciler.requests.client import Client

AUTHORITY = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://)?([^/?#]*)")


class UsedNames:
    """The names that a manifest's requests and notifications use."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @cached_property
    def all(self) -> tuple[str, ...]:
        """Return the names that are used anywhere, in order."""
        return tuple(sorted({"email", *(name.partition(".")[0] for name in self._manifest.used)}))

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Return every variable that the check, the requests and the notifications use."""
        return tuple(sorted(self._manifest.needed))

    @cached_property
    def deferred(self) -> frozenset[str]:
        """Return the names that get their value while requests run."""
        return AT_RUN_TIME | self._manifest.stored | frozenset(self._manifest.generated)

    @cached_property
    def asked_with(self) -> frozenset[str]:
        """Return the names that the check uses: an account that it finds has these values."""
        exists = self._manifest.exists
        if exists is None:
            return frozenset()
        own = self._manifest.model_dump(include={"exists": {"url", "expected", "data"}})
        return roots([own, exists.headers or self._manifest.headers])

    @cached_property
    def compared(self) -> frozenset[str]:
        """Return the names whose values an account is made or updated with, or found by."""
        sent = roots(self._manifest.model_dump(include={"execute", "update", "headers"}))
        return sent.difference(self._manifest.identity) | self.asked_with

    @cached_property
    def removed_with(self) -> frozenset[str]:
        """Return the names that requests to take an account away use: the ledger keeps their values."""
        return roots(self._manifest.model_dump(include={"revoke", "withdraw", "lock", "headers"}))

    @cached_property
    def told_by(self) -> tuple[str, ...]:
        """Return the names beside the address whose values say which account the check means: the form's in order."""
        exists = self._manifest.exists
        if exists is None:
            return ()
        used = roots([exists.url, exists.expected, exists.data]) - {"email", *self._manifest.identity}
        form = [field.id for field in self._manifest.form if field.id in used]
        return (*form, *sorted(used.difference(form, self.deferred)))

    @cached_property
    def about(self) -> tuple[str, ...]:
        """Return the names whose values say which thing, or which account, an entry is about."""
        return (*self._manifest.identity, *self.told_by)

    @cached_property
    def listed_with(self) -> Mapping[type, tuple[str, ...]]:
        """Return the fields of the form that each listing's requests use: it is read once for each of their values."""
        exists = self._manifest.exists
        listings = () if exists is None else (exists.listing, exists.pending)
        return {type(each): self._in_form(each) for each in listings if each is not None}

    @cached_property
    def confided(self) -> frozenset[str]:
        """Return the names of what answers give that is a secret: by its own name there, or as it goes into a header.

        So a login's answer is, which the requests after it are sent with.
        """
        manifest = self._manifest
        sent = names([list((call.headers or manifest.headers).values()) for _, call in manifest.calls()])
        stored = [item for some in manifest.request_lists.values() for each in some for item in each.store_data.items()]
        called = frozenset(name for name, path in stored if steps(path)[-1].lower() in FIELDS)
        return called | {name for name in sent if name.partition(".")[0] in {*manifest.stored, "responses"}}

    def _in_form(self, listing: Listing | Pending) -> tuple[str, ...]:
        used = roots([listing.url, listing.data, listing.next_page])
        return tuple(field.id for field in self._manifest.form if field.id in used)


class Integration(Frozen, dict=True):
    """One integration in one pass."""

    name: str
    service: str
    file: str
    manifest: Manifest
    client: Client
    hosts: AllowedHosts
    initial: Layer | None
    fault: Blocked | None
    settings: Layer
    """The variables that the program's settings give."""
    sealer: Unshown[Sealer | None] = None
    connection: Unshown[OAuthConnection | None] = None
    unasked: Layer | None = None
    """Initial data that no manifest of the service asks for: it replaces nothing that git gives."""

    @cached_property
    def names(self) -> UsedNames:
        """Return the names that the manifest's requests use."""
        return UsedNames(self.manifest)

    def confided(self, scope: Scope) -> Iterator[str]:
        """Yield the secrets that answers have given, as far as the scope has them; a person's address is none."""
        for name in self.names.confided:
            with suppress(MissingVariable):
                if not is_address(value := written(scope.look_up(name).value)):
                    yield value

    @cached_property
    def texts(self) -> Mapping[Kind, tuple[str, ...]]:
        """Return a digest of each request of an attempt, by its kind, as the manifest writes it."""
        return {kind: tuple(map(_text, requests_of(self.manifest, kind))) for kind in Kind}

    def scope(
        self, layers: tuple[Layer, ...], stored: Stored = NOTHING_STORED, upcoming: frozenset[str] = frozenset()
    ) -> Scope:
        """Return what this integration's placeholders see for one grant, before anything ran.

        `upcoming` are the names that an entry which this one needs stores in this very pass.
        """
        token = None if self.connection is None else self.connection.layer()
        found = (self.settings, token, self.initial, *layers, self.unasked)
        unknown = self._unknown | upcoming if upcoming else self._unknown
        return Scope(tuple(each for each in found if each is not None), unknown, saved=stored.layers())

    @property
    def rendered_with(self) -> tuple[object, ...]:
        """All that a grant's requests are rendered with beside its own values, but for what differs from run to run."""
        return self.manifest, self.initial, self.unasked, self.settings, self._unknown

    @cached_property
    def _unknown(self) -> frozenset[str]:
        """Return the deferred names that no layer of a grant's scope has."""
        fetches = self.connection is not None and self.connection.fetches
        return self.names.deferred - ({"redirect_url"} if fetches else {"oauth", "redirect_url"})

    def prepare(
        self, grant: Grant, stored: Stored, *, kind: Kind | None, outputs: DependencyOutputs = NO_OUTPUTS
    ) -> Prepared:
        """Prepare a grant to be checked and, with a `kind`, for an attempt of that kind.

        An account that is there needs only its check: what its requests would be is rendered where they may be sent,
        and that every variable has a value is seen to in any case. Raises Blocked with what is missing: initial data,
        a connection, a variable's value, a host that is not allowed.
        """
        self.ready(grant)
        scope = self.scope(grant.layers, stored, outputs.names)
        try:
            for name in self.names.needed:
                scope.look_up(name)
            check = self.check(scope)
            if kind is not None:
                self._whole(scope, kind)
        except MissingVariable as error:
            if why := grant.absent.get(error.name):
                raise Blocked(f"{error}: {why}") from error
            raise
        snapshot = self.snapshot(grant)
        return Prepared(
            grant=grant,
            scope=scope,
            snapshot=snapshot,
            stored=stored,
            found_by={name: snapshot[name] for name in self.names.asked_with if name in snapshot},
            as_wanted={name: snapshot[name] for name in self.manifest.compared if name in snapshot},
            removed_with=self.names.removed_with,
            check=check,
            kind=kind,
            dependencies=outputs.entries,
        )

    def as_sent(self, grant: Grant, record: Record | None) -> Grant:
        """Return a grant whose choices that say what it is about are in the order that they were sent in.

        In another order they are the same thing, and the check has to ask for it by the same name.
        """
        if record is None or not record.may_remain:
            return grant
        sent = {name: then for name in self.names.about if isinstance(then := record.values.get(name), list)}
        if not sent:
            return grant

        def ordered(name: str, value: Any) -> Any:
            then = sent.get(name)
            if then is None or not isinstance(value, list):
                return value
            places = {as_shown(item): place for place, item in enumerate(then)}
            same = places.keys() == {as_shown(item) for item in value}
            return sorted(value, key=lambda item: places[as_shown(item)]) if same else value

        layers = (replace(each, values={n: ordered(n, v) for n, v in each.values.items()}) for each in grant.layers)
        return replace(grant, layers=tuple(layers))

    def under(self, prepared: Prepared, email: str) -> Prepared:
        """Return the same account's check under another address. Raises Blocked like `prepare`."""
        scope = prepared.scope.over(Layer(LEDGER, {"email": email}))
        return replace(prepared, scope=scope, check=self.check(scope))

    def changes(self, prepared: Prepared, record: Record, verdict: Verdict) -> Differences:
        """Return which values git changed since the account was made, updated or found with them."""
        return changed_in_git(
            record, verdict, prepared.snapshot, found_by=prepared.found_by, compared=self.names.compared
        )

    def check(self, scope: Scope, *, orphan: bool = False) -> Check | None:
        """Prepare the check, to a host that is allowed; None without `exists`. Raises Blocked.

        For an orphan `where` does not count: the values that git wanted may be gone.
        """
        exists = self.manifest.exists
        if exists is None:
            return None
        now = scope.now()
        wanted = account_expected(exists, now) if exists.expected else None
        if wanted == "":
            raise Blocked("exists: expected is empty for this hire: every answer would contain it")
        listed = exists.listing is not None and not orphan
        rendered = self._rehearsal.rendered if listed else self._rehearsal.filled
        wire = rendered(now, self.rendered_check)
        if not (exists.compares or exists.absent):
            return Check(wire, wanted)
        compared = Compared.of(exists.model_copy(update={"where": {}}) if orphan else exists, scope)
        shown = {path: compared.shown(path, value, self.client.redact) for path, value in compared.where.items()}
        return Check(wire, wanted, compared, shown)

    def rendered_check(self, scope: Scope) -> RenderedRequest:
        """Render the check, to a host that is allowed. Raises Blocked."""
        assert self.manifest.exists is not None
        wire = first_page(self.manifest.exists, scope, self.manifest)
        self.hosts.check(wire.url, self.file)
        return wire

    @cached_property
    def _rehearsal(self) -> Rehearsal:
        assert self.manifest.exists is not None
        own = {} if self.initial is None else self.initial.values
        known = {name for name, value in own.items() if value is not None}
        return Rehearsal(self.manifest.exists, self.manifest, known, AT_RUN_TIME)

    def _whole(self, scope: Scope, kind: Kind) -> None:
        """Verify that all that an attempt would send can be rendered."""
        requests = requests_of(self.manifest, kind)
        for call in requests:
            self._renders(call, scope)
        if kind.updates:
            sent = roots([self.manifest.headers, *(call.model_dump() for call in requests)])
            if made := sent.intersection(self.manifest.generated):
                raise MissingVariable(min(made), "is generated, and has no value in an update")
            return
        for notification in self.manifest.post_execute_notification:
            for text in notification.texts:
                render_text(text, scope)

    def ready(self, grant: Grant) -> None:
        """Verify that the values that every request needs are there, before anything is sent.

        Raises Blocked: a manifest that a branch changes, initial data, an `extra` or a connection that is missing.
        """
        self.reachable()
        for info in self.manifest.extra_user_info:
            try:
                Scope(grant.layers).look_up(info.id)
            except MissingVariable as error:
                raise Blocked(f"the hire gives no extra.{info.id}, which {self.file} asks for") from error

    def reachable(self) -> None:
        """Verify that the service may be asked at all. Raises Blocked if initial data or a connection is missing."""
        if self.fault is not None:
            raise Blocked(str(self.fault), self.fault.cause)
        if self.manifest.oauth is None and (self.connection is None or "oauth" not in self.names.all):
            return
        if self.connection is None or not (self.connection.fetches or self.connection.layer() is not None):
            raise Blocked(f"not connected: run `reconcile oauth connect {self.service}`", Cause.CONNECTION)
        if (url := self.connection.renewal_url()) is not None:
            self.hosts.check(url, self.file)

    def _renders(self, call: Call, scope: Scope) -> None:
        """Verify that a request can be rendered, and that its host is allowed, if it is known already."""
        url = rehearse(call, scope, self.manifest)
        match = AUTHORITY.match(call.url)
        of_host = names(match[0] if match else call.url)
        if all(scope.look_up(name).value is not DEFERRED for name in of_host):
            self.hosts.check(render_url(call.url, scope).text if of_host else url, self.file)

    def snapshot(self, grant: Grant) -> dict[str, Any]:
        """Return the hire's and the form's values that the manifest uses, as JSON values."""
        values: dict[str, Any] = {"email": grant.email}
        for name in self.names.all:
            value = grant.value(name)
            if value is not None or name in HIRE_NAMES:
                values[name] = _jsonable(value)
        return values

    def digest(self, prepared: Prepared) -> str | None:
        """Return the keyed digest of what the attempt that a grant is prepared for would send; None without a key.

        What takes an invitation back before an account is made does not count: whether there is one may be another
        answer at the retry.
        """
        if self.sealer is None or prepared.kind is None:
            return None
        scope = steady(prepared.scope, self.manifest)
        makes = prepared.kind.makes
        calls = self.manifest.execute if makes else requests_of(self.manifest, prepared.kind)
        notices = self.manifest.post_execute_notification if makes else ()
        content = [canonical(call, prepared.scope, self.manifest) for call in calls]
        content += [[render_text(text, scope).text for text in notice.texts] for notice in notices]
        return self.sealer.digest(json.dumps(content, sort_keys=True, default=str).encode())

    def orphan(self, record: Record, email: str | None = None) -> Grant:
        """Make a grant from the ledger alone: the hire's file may be gone. It may be of another `email`."""
        values = record.values if email is None else {**record.values, "email": email}
        return replace(record.as_grant(), manifest=self.manifest, layers=(Layer(LEDGER, values),))

    def prepare_orphan(self, record: Record, stored: Stored, *, kind: Kind | None) -> Prepared:
        """Prepare an orphan to be checked and, with a `kind`, to be revoked. Raises Blocked like `prepare`.

        Initial data that neither its check nor these requests use may be missing.
        """
        grant, fault = self.orphan(record), self.fault
        if fault is not None and fault.cause is not Cause.INITIAL_DATA:
            raise Blocked(str(fault), fault.cause)
        scope = self.scope(grant.layers, stored)
        if self.manifest.exists is not None:
            scope = replace(scope, deferred=scope.deferred | frozenset(self.manifest.exists.store_data))
        try:
            check = self.check(scope, orphan=True)
            for call in () if kind is None else requests_of(self.manifest, kind):
                self._renders(call, scope)
        except MissingVariable as error:
            if fault is None or error.name not in {field.id for field in self.manifest.asks_for}:
                raise
            raise Blocked(str(fault), fault.cause) from error
        return Prepared(grant=grant, scope=scope, snapshot=record.values, stored=stored, check=check, kind=kind)


def _text(request: Request) -> str:
    # What a request did not have when the first digests were made counts only where it says something.
    later = {key for key in ("quote", "fail_when_4xx_response_code") if key not in request.model_fields_set}
    dumped = json.dumps(request.model_dump(mode="json", exclude=later), sort_keys=True)
    return hashlib.sha256(dumped.encode()).hexdigest()[:32]


def _jsonable(value: Any) -> Any:
    """Return a value of a file as JSON, a choice by name as that name."""
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value.name if isinstance(value, NamedChoice) else jsonable(value)
