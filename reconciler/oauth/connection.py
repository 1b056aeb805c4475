"""A service's OAuth connection during a pass: its tokens, kept fresh.

The service's reply is stored, merged into the reply before, with its time. A token is refreshed with less than a minute
left, and once after the service refused it. There is one refresh at a time over all passes, and the new token is stored
before it is used (docs/design/rules.md, "OAuth"). All that waited for a refresh share its result, so that a token
endpoint that hangs is asked once and not once a check.

A refresh token may serve once. So none is spent while the store does not take a write, and a reply that cannot be
stored is kept in memory and stored as soon as it can be: lost, it would take a person to connect again.

Who may write for the service gives the connection a store. One without it, a dry run's, only reads what is stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from reconciler.model.errors import Blocked, LedgerError, TransportError
from reconciler.model.scope import Layer, Scope
from reconciler.model.verdict import Cause
from reconciler.oauth.token_request import LONGEST, TokenClient, TokenRefused, lacking, with_grant
from reconciler.requests.excerpt import secrets_of
from reconciler.requests.template import render_url

ENOUGH = timedelta(minutes=1)
"""A token with less than this left is refreshed."""

FOREVER = timedelta(days=3650)
"""A token that lasts longer is as good as one that lasts this long; dates do not go on for ever."""

Stored = Mapping[str, Any]
"""`reply`, `expires_in` (seconds, or None where it is not known) and `obtained_at` (ISO 8601)."""


TokenChange = Callable[[Stored | None], Stored | None]
"""Given what is stored, returns what is to be."""


class Tokens(Protocol):
    """A service's tokens as they are stored, sealed."""

    async def load(self) -> Stored | None:
        """Return what is stored; None if the service is not connected."""


class TokenStore(Tokens, Protocol):
    """Stores a service's tokens, sealed."""

    def renewing(self) -> AbstractAsyncContextManager[None]:
        """Exclude other processes that renew the service's tokens while the block runs.

        Raises TransportError where one of them takes too long.
        """

    async def change(self, change: TokenChange) -> None:
        """Replace what is stored, excluding other writers; durable when the call returns."""


class _InMemory:
    """Tokens that end with the process."""

    def __init__(self) -> None:
        self._kept: Stored | None = None

    async def load(self) -> Stored | None:
        return self._kept

    def renewing(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def change(self, change: TokenChange) -> None:
        self._kept = change(self._kept)


@dataclass(slots=True)
class Turn:
    """The lock of one service's refreshes, over all passes. It outlives the connections, which share it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    made: int = 0
    """How many refreshes were tried, so that who waited knows whether one was."""
    failure: TransportError | None = None
    """What became of the last one."""
    unstored: tuple[Stored | None, Stored] | None = None
    """What could not be stored yet, after what it is to be stored in place of."""


def _connect_again(service: str) -> str:
    """Return the next step if the program itself cannot get a new token."""
    return f"connect again: `reconcile oauth connect {service}`"


def stored_record(reply: Mapping[str, Any], before: Stored | None, now: datetime) -> dict[str, Any]:
    """Return what to store of a reply: merged into the reply before, with its lifetime and its time.

    A null is no value and replaces none: some services give the refresh token as null where it stays the same.

    Where both are more than a reply may be, only the refresh token is kept of the one before: names that are others at
    each refresh would make what is stored grow for ever.
    """
    known = before["reply"] if before else {}
    given = {name: value for name, value in reply.items() if value is not None}
    merged = {**known, **given}
    if len(json.dumps(merged)) > LONGEST:
        merged = {**{name: value for name, value in known.items() if name == "refresh_token"}, **given}
    return {"reply": merged, "expires_in": _seconds(merged.get("expires_in")), "obtained_at": now.isoformat()}


def token_layer(service: str, reply: Mapping[str, Any]) -> Layer:
    """Return a reply as the variables `oauth.*`, all of them secret."""
    return Layer(f"the OAuth connection of {service}", {"oauth": reply}, frozenset({"oauth"}))


class OAuthConnection:
    """One service's tokens during a pass.

    `stored` is what `tokens` has now. Without a `store`, as in a dry run, no token is renewed.
    """

    def __init__(
        self, asks: TokenClient, *, tokens: Tokens, stored: Stored | None, store: TokenStore | None, turn: Turn
    ) -> None:
        self.service = asks.service
        self._asks = asks
        self._tokens = tokens
        self._store = store
        self._turn = turn
        self._given: WeakKeyDictionary[asyncio.Task[Any], Stored] = WeakKeyDictionary()
        self._hold(stored)

    def apart(self) -> OAuthConnection:
        """Return one whose token is fetched for it, and stored nowhere."""
        tokens = _InMemory()
        return OAuthConnection(self._asks, tokens=tokens, stored=None, store=tokens, turn=Turn())

    def layer(self) -> Layer | None:
        """Return the stored reply as the variables `oauth.*`; None if the service is not connected."""
        return None if self._record is None else token_layer(self.service, self._record["reply"])

    async def fresh(self) -> Layer | None:
        """Return the layer, refreshed if less than a minute is left; None if the service is not connected.

        Raises TransportError where the token has expired and is not refreshed: it cannot be, or this is a dry run.
        """
        record, left = self._record, self._left()
        if record is None and self.fetches:
            failure = await self._renew(None)
            if failure is not None:
                raise failure
        elif (self._store is not None and self._turn.unstored is not None) or (left is not None and left < ENOUGH):
            failure = await self._renew(record)
            left = self._left()
            if failure is not None and left is not None and left <= timedelta():
                raise TransportError(f"the token has expired: {failure}", left=False, cause=failure.cause)
        return self._give()

    async def renewed(self) -> Layer:
        """Return the layer after the service refused the token: refreshed, unless another request did so.

        Raises TransportError, with what to do, where it cannot be.
        """
        task = asyncio.current_task()
        refused = self._given.get(task, self._record) if task is not None else self._record
        if refused is None and not self.fetches:
            raise self._not_connected()
        failure = await self._renew(refused)
        if failure is not None:
            raise TransportError(f"the service refused the token: {failure}", left=False, cause=failure.cause)
        layer = self._give()
        if layer is None:
            raise self._not_connected()
        return layer

    def _not_connected(self) -> TransportError:
        return TransportError(f"not connected: {_connect_again(self.service)}", left=False, cause=Cause.CONNECTION)

    @property
    def fetches(self) -> bool:
        """Whether the token is fetched when it is needed, without a person who connects."""
        return self._asks.manifest.oauth is not None and self._asks.manifest.oauth.grant is not None

    def renewal_url(self) -> str | None:
        """Return where the next check has to ask for a token; None if it has one. Raises Blocked."""
        oauth, left, record = self._asks.manifest.oauth, self._left(), self._record
        if oauth is None or oauth.renewal is None or not (self.fetches or (left is not None and left < ENOUGH)):
            return None
        return render_url(oauth.renewal.url, self._scope(record)).text

    def _scope(self, record: Stored | None) -> Scope:
        scope = self._asks.scope
        return scope if record is None else scope.over(token_layer(self.service, record["reply"]))

    async def _renew(self, used: Stored | None) -> TransportError | None:
        """Get a token newer than the one that was used. Returns why there is none.

        A caller that is cancelled waits all the same: a service that hands out a new refresh token with each answer
        has made the old one void by then, and who holds the state, or leases the service, may let go of it next.
        """
        task = asyncio.create_task(self._take_turn(used, self._turn.made))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait([task])
            raise

    async def _take_turn(self, used: Stored | None, made: int) -> TransportError | None:
        async with self._turn.lock:
            if self._store is not None and self._turn.unstored is not None:
                await self._keep(self._store, *self._turn.unstored)
            await self._load()
            if self._record != used:
                return None  # another pass, another check or `oauth connect` stored a newer one
            if self._turn.made != made:
                return self._turn.failure
            failure = await self._refresh(used)
            self._turn.made += 1
            self._turn.failure = failure
            return failure

    async def _refresh(self, used: Stored | None) -> TransportError | None:
        oauth = self._asks.manifest.oauth
        if oauth is None or oauth.renewal is None:
            return TransportError(_connect_again(self.service), left=False, cause=Cause.CONNECTION)
        if (store := self._store) is None:
            why = "a dry run fetches none" if used is None else "a dry run refreshes none"
            return TransportError(f"no token is stored, and {why}" if used is None else why, left=False)
        call = with_grant(oauth.renewal, oauth.grant) if oauth.grant is not None else oauth.renewal
        try:
            async with store.renewing():
                await self._load()
                if self._record != used:
                    return None  # another process stored a newer one: the refresh token of `used` is spent
                if used is not None:
                    await store.change(lambda there: there)  # raises where nothing can be stored now
                asked_at = self._asks.clock.now()  # a lifetime counts from before the answer was on its way
                reply = await self._asks.ask(call, self._scope(used))
                self._asks.redactor.renew(self.service, secrets_of(reply))
                await self._keep(store, used, stored_record(reply, used, asked_at))
        except (TokenRefused, Blocked, TransportError) as error:
            return self._no_token(error)
        await self._load()
        return None

    async def _keep(self, store: TokenStore, used: Stored | None, record: Stored) -> None:
        """Store a reply. Raises LedgerError if that has to be done later."""
        self._turn.unstored = used, record
        try:
            # A person who has reconnected in the meantime has stored a newer one.
            await store.change(lambda there: record if self._usable(there) == used else there)
        except LedgerError as error:
            raise LedgerError(
                f"the new token of {self.service} is in memory only, and lost if this process ends before it can be "
                f"stored: {error}"
            ) from error
        self._turn.unstored = None

    def _no_token(self, error: TransportError | Blocked) -> TransportError:
        """Return why there is no newer token, and what a person has to do, if anything."""
        if self.fetches:
            return TransportError(f"no token could be fetched: {error}", left=False)
        if isinstance(error, TokenRefused | Blocked):
            why = f"it cannot be refreshed: {error}; {_connect_again(self.service)}"
            return TransportError(why, left=False, cause=Cause.CONNECTION)
        return TransportError(f"it cannot be refreshed now: {error}", left=False)

    def _give(self) -> Layer | None:
        """Return the layer, and remember it as this task's, to compare if the service refuses it."""
        task = asyncio.current_task()
        if task is not None and self._record is not None:
            self._given[task] = self._record
        return self.layer()

    def _usable(self, record: Stored | None) -> Stored | None:
        """Return what is stored; None where it is no token, and one can be fetched."""
        without = record is not None and self.fetches and lacking(self._asks.manifest, record["reply"]) is not None
        return None if without else record

    async def _load(self) -> None:
        self._hold(await self._tokens.load())

    def _hold(self, stored: Stored | None) -> None:
        self._record = self._usable(stored)
        if self._record is not None:
            self._asks.redactor.renew(self.service, secrets_of(self._record["reply"]))

    def _left(self) -> timedelta | None:
        """Return how long the token is valid; None if it is permanent, or the reply does not say."""
        oauth = self._asks.manifest.oauth
        record = self._record
        if record is None or record["expires_in"] is None or oauth is None or oauth.renewal is None:
            return None
        lifetime = min(timedelta(seconds=record["expires_in"]), FOREVER)
        return datetime.fromisoformat(record["obtained_at"]) + lifetime - self._asks.clock.now()


def _seconds(value: Any) -> int | None:
    """Read `expires_in`, a number or its text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return max(0, min(int(float(value)), int(FOREVER.total_seconds())))
    except (ValueError, OverflowError):
        return None
