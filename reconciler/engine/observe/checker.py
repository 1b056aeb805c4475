"""Check accounts at services.

A `Checker` can only check and look options up: a dry run gets one, so that it cannot execute by mistake. A check that
fails for any reason is `Unknown`. If an integration has a listing, and a pass has more than ten grants of it, the
listing is read once and answers for the accounts that it shows; all others get a check of their own (docs/manifest.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.engine.decide.planned import NOTHING_STORED, Check, Prepared
from reconciler.engine.observe.integrations import Integration
from reconciler.engine.observe.listings import Listings, once, read_connected
from reconciler.model.base import one_or_more
from reconciler.model.errors import Blocked, TransportError
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.hire import NamedChoice
from reconciler.model.request import Exists
from reconciler.model.scope import Layer, Scope, walk
from reconciler.model.secret import Redactor
from reconciler.model.text import same_text
from reconciler.model.value import Frozen, replace
from reconciler.model.verdict import (
    Account,
    Cause,
    Difference,
    Invited,
    Missing,
    NoCheck,
    Present,
    Unknown,
    Verdict,
    is_off,
)
from reconciler.repository.desired import Desired
from reconciler.requests.match import refusal, verdict
from reconciler.requests.pages import Option, PageTurner, first_page, options
from reconciler.requests.record import Compared, all_there
from reconciler.requests.tasks import NO_YIELD, Yielder
from reconciler.transports.messages import RenderedRequest, Response

MOST_PAGES = 100
"""The most pages of a check that is answered by a listing."""

NOT_ASKED = Unknown("not asked")


class NotOffered(Exception):
    """A choice's name does not match exactly one option that the service offers."""


class Checker:
    """Runs exists checks and looks options up, for one pass.

    A `blind` one asks nothing: what git and the ledger do not say is unknown, and what is needed may be there.
    """

    def __init__(
        self, redactor: Redactor, listings: Listings, yielder: Yielder = NO_YIELD, *, blind: bool = False
    ) -> None:
        """With a `yielder` that yields, checks let other requests go first at their hosts."""
        self._yielder = yielder
        self.blind = blind
        self.redactor = redactor
        self.listings = listings
        self.asked = 0
        """How many requests single checks have taken."""
        self._both: dict[Key, tuple[Verdict, Verdict]] = {}
        self._options: dict[tuple[str, str], asyncio.Task[list[Option] | Unknown]] = {}

    async def check(self, integration: Integration, prepared: Prepared, record: Record | None = None) -> Verdict:
        """Check whether the account exists; also under the hire's old address, if it was confirmed under that."""
        if record is None or not record.leaves_something or record.email == prepared.grant.email:
            return await self._check(integration, prepared, listed=self._may_be_listed(record))
        found, old = await self.both(integration, prepared, record)
        if isinstance(old, Unknown):
            return old
        off = is_off(old) and isinstance(found, Present)
        return replace(old, under=record.email) if isinstance(old, Present) and not off else found

    async def both(self, integration: Integration, prepared: Prepared, record: Record) -> tuple[Verdict, Verdict]:
        """Check whether there is an account under the hire's address and under the one of before, once a pass.

        Where both may be one account to the service, the one of before is asked for only if the other is not there.
        Where that is not known, neither is the one of before.
        """
        known = self._both.get(record.key)
        if known is None:
            found = await self._check(integration, prepared, listed=self._may_be_listed(record))
            other = "email" in integration.names.asked_with and not same_text(record.email, prepared.grant.email)
            old: Verdict = found if isinstance(found, Unknown) else Missing()
            if isinstance(found, Missing) or (isinstance(found, Present) and other):
                old = await self._check(integration, integration.under(prepared, record.email), listed=False)
            known = self._both[record.key] = (found, old)
        return known

    def _may_be_listed(self, record: Record | None) -> bool:
        """Whether a listing may answer for a grant: not where it was found not to be there since it may have been read.

        A listing can be an interval old, and show an account that was lost, or an update that failed, meanwhile.
        """
        if record is None or record.status.granted or record.checked_at is None:
            return True
        return record.checked_at <= self.listings.began_at

    async def check_directly(self, integration: Integration, prepared: Prepared) -> Verdict:
        """Check one account without a listing: before a revocation, and after an attempt."""
        return await self._check(integration, prepared, listed=False)

    async def _check(self, integration: Integration, prepared: Prepared, *, listed: bool) -> Verdict:
        exists = integration.manifest.exists
        if exists is None:
            return NoCheck()
        if self.blind:
            return NOT_ASKED
        check = prepared.check
        assert check is not None
        wanted = check.wanted
        try:
            if listed and wanted and await self.listings.shows(integration, prepared, wanted):
                return Present()
            found, answer = await self._ask_until_found(integration, prepared, exists, check)
        except (Blocked, TransportError) as error:
            return Unknown(self.redactor.redact(str(error)), cause=error.cause)
        if isinstance(found, Unknown):
            by_person = integration.connection is not None and not integration.connection.fetches
            cause = Cause.CONNECTION if found.cause is Cause.INITIAL_DATA and by_person else found.cause
            reason = f"{self.redactor.redact(found.reason)}{integration.client.excerpt(answer)}"
            return Unknown(reason, cause=cause)
        if isinstance(found, Missing) and (why := await self.listings.unready(integration)) is not None:
            return Unknown(self.redactor.redact(f"not found, but ready: {why}"))
        if isinstance(found, Present) and found.differs:
            return replace(found, differs=self._shown(check.compared, found.differs))
        return found

    def _shown(self, compared: Compared, differs: Mapping[str, Difference]) -> dict[str, Difference]:
        """Redact what differs before it is shown or saved: a service can repeat a token anywhere."""
        redact = self.redactor.redact_all
        return {
            path: (compared.shown(path, there, redact), compared.shown(path, wanted, redact))
            for path, (there, wanted) in differs.items()
        }

    async def _ask_until_found(
        self, integration: Integration, prepared: Prepared, exists: Exists, check: Check, *, renewed: bool = False
    ) -> tuple[Verdict, Response]:
        """Ask and read the answer; page by page until the account is found, where it is a listing's.

        After one that is switched off, another may be in use on a later page. A later page that refuses the token has
        it renewed, and the pages read anew, once.
        """
        first, scope, answer = await self._ask(integration, prepared)
        turner = None if exists.pages is None else PageTurner(exists, first, scope, integration.manifest)
        off: tuple[Verdict, Response] | None = None
        while True:
            await self._yielder.turn()  # tasks that waited for its place send first, which keeps the service busy
            found = verdict(exists, check.wanted, answer, check.compared)
            if is_off(found):
                off = off or (found, answer)
            if turner is None or not _may_go_on(found, answer, exists, check):
                return off if off is not None and isinstance(found, Missing) else (found, answer)
            items = _items(exists, answer, turner.number)
            following = None if items is None else turner.turn(answer, items)
            if following is None:
                return off or (found, answer)
            if turner.number > MOST_PAGES:
                return off or (Unknown(f"not found on {MOST_PAGES} pages, and there are more"), answer)
            answer = await self._send(integration, following)
            if answer.status == 401 and integration.connection is not None and not renewed:
                await integration.connection.renewed()
                return await self._ask_until_found(integration, prepared, exists, check, renewed=True)

    async def _ask(self, integration: Integration, prepared: Prepared) -> tuple[RenderedRequest, Scope, Response]:
        """Send the check; once more with a fresh token if the service refuses the current one.

        Returns the request that was answered, and what it was rendered with.
        """
        exists, connection = integration.manifest.exists, integration.connection
        assert exists is not None
        assert prepared.check is not None
        scope = prepared.scope
        wire = prepared.check.wire or integration.rendered_check(scope)
        if connection is not None and (fresh := await connection.fresh()) is not None:
            scope = prepared.scope.over(fresh)
            wire = first_page(exists, scope, integration.manifest)
        answer = await self._send(integration, wire)
        if answer.status == 401 and connection is not None:
            scope = prepared.scope.over(await connection.renewed())
            wire = first_page(exists, scope, integration.manifest)
            answer = await self._send(integration, wire)
        return wire, scope, answer

    async def _send(self, integration: Integration, wire: RenderedRequest) -> Response:
        self.asked += 1
        return await integration.client.send(wire, follow=True, behind=self._yielder.yields)

    async def check_taken_away(self, integration: Integration, prepared: Prepared) -> Verdict:
        """Check an account once more after it was revoked, or its invitation withdrawn. An open one counts as found."""
        found = await self.check_directly(integration, prepared)
        if not isinstance(found, Missing):
            return found
        match await self.invitation(integration, prepared, anew=True):
            case Invited(stored):
                return Present(stored, account=Account.INVITED)
            case Unknown() as unknown:
                return unknown
            case _:
                return found

    async def invitation(
        self, integration: Integration, prepared: Prepared, *, anew: bool = False
    ) -> Invited | Unknown | None:
        """Return the open invitation of a person whom the check did not find, with what `pending` stores.

        None where there is none, or the manifest has no `pending`; Unknown where open invitations cannot be read. With
        `anew`, what was read before does not count.
        """
        if self.blind:
            return NOT_ASKED
        if prepared.check is None or not prepared.check.wanted:
            return None
        found = await self.listings.invitation(integration, prepared, prepared.check.wanted, anew=anew)
        return Unknown(self.redactor.redact(found.reason)) if isinstance(found, Unknown) else found

    async def invited_before(self, integration: Integration, record: Record, email: str) -> Invited | Unknown | None:
        """Return the open invitation that was sent to another address than this one, as `invitation` does.

        None where both addresses would be the same account to the service, or what was stored of it is needed.
        """
        try:
            before = integration.prepare_orphan(record, NOTHING_STORED, kind=None)
            now = integration.under(before, email)
        except Blocked:
            return None
        if before.check is None or now.check is None or before.check.wanted == now.check.wanted:
            return None
        return await self.invitation(integration, before)

    async def token(self, integration: Integration) -> Unknown | None:
        """Fetch a token that needs no person, if none is stored. Returns why there is none."""
        connection = integration.connection
        if self.blind or connection is None or not connection.fetches or connection.layer() is not None:
            return None
        try:
            await connection.fresh()
        except (Blocked, TransportError) as error:
            return Unknown(self.redactor.redact(str(error)), cause=error.cause)
        return None

    async def options(self, integration: Integration, field_id: str) -> list[Option] | Unknown:
        """Return the options that the service offers for a form field; fetched once a pass."""
        if self.blind:
            return NOT_ASKED
        key = (integration.name, field_id)
        return await once(self._options, key, lambda: self._look_up(integration, field_id))

    async def _look_up(self, integration: Integration, field_id: str) -> list[Option] | Unknown:
        field = next(item for item in integration.manifest.form if item.id == field_id)

        async def read(scope: Scope) -> list[Option]:
            return await options(integration.client, field, scope, integration.manifest)

        try:
            return await read_connected(integration, integration.scope(()), read)
        except TransportError as error:
            return Unknown(f"the options of {field_id}: {self.redactor.redact(str(error))}", cause=error.cause)
        except Blocked as error:  # a variable of one hire, for example: options are asked for once for everybody
            raise Blocked(f"the options of {field_id}: {error}", error.cause) from error

    async def resolved(self, integration: Integration, grant: Grant) -> Grant | Unknown:
        """Replace a grant's named choices by their values. A value that stands in the file is sent unchanged.

        Raises NotOffered where no option, or more than one, has the name.
        """
        values: dict[str, Any] = {}
        for field_id, value in grant.choices:
            wanted = one_or_more(value)
            if not any(isinstance(item, NamedChoice) for item in wanted):
                continue
            offered = await self.options(integration, field_id)
            if isinstance(offered, Unknown):
                return offered
            where = f"`reconcile options {integration.name} {field_id}` shows them"
            chosen = [_chosen(field_id, item, offered, where) for item in wanted]
            values[field_id] = chosen if isinstance(value, list) else chosen[0]
        if not values:
            return grant
        first, *rest = grant.layers
        return replace(grant, layers=(Layer(first.origin, {**first.values, **values}, first.secret), *rest))


class Services(Frozen, kw_only=True):
    """What a pass can ask, and asks with: the integrations of the state that is desired."""

    desired: Desired
    integrations: Mapping[str, Integration]
    checker: Checker


def _may_go_on(found: Verdict, answer: Response, exists: Exists, check: Check) -> bool:
    """Whether the account, or another one that is in use, may be on a later page."""
    if is_off(found):
        return isinstance(walk(answer.json(), exists.record or ""), list)
    if isinstance(found, Missing):
        return not all_there(answer.json(), check.compared.absent)
    # Only the last page can say as `absent` does that there is no such account.
    return isinstance(found, Unknown) and found.lacks_account


def _items(exists: Exists, answer: Response, number: int) -> list[Any] | None:
    """Return a page's items; None where a first answer says on its own what became of the check, such as a 404.

    Raises TransportError for what is no page: the account may be on it.
    """
    assert exists.pages is not None
    fails = refusal(exists.model_copy(update={"fail_when_4xx_response_code": True}), answer.status)
    if number == 1 and fails is not None:
        return None
    found = walk(answer.json(), exists.record or "")
    if fails is None and isinstance(found, list):
        return found
    if fails is None and found is not None and exists.record is None and exists.pages.count_up is None:
        return []
    where = f"at {exists.record}" if exists.record else "in the answer"
    raise TransportError(f"page {number} {fails or f'has no list {where}'}", left=True)


def _chosen(field_id: str, wanted: Any, offered: Iterable[Option], where: str) -> Any:
    if not isinstance(wanted, NamedChoice):
        return wanted
    matching = [option.value for option in offered if option.name == wanted.name]
    if len(matching) == 1:
        return matching[0]
    how = "several options are" if matching else "no option is"
    raise NotOffered(f"values.{field_id}: {how} named {wanted.name!r}: {where}")
