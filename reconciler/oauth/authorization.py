"""Authorize a service: a person is sent to `authenticate_url`, and comes back to the callback.

`state` is random, and valid once and for ten minutes. With the PKCE verifier it is saved sealed, so that both the
daemon's callback and a waiting `reconcile oauth connect` know it (docs/design/rules.md, "OAuth"). It is kept for a day
after it was answered or expired, so that a late or repeated callback gets the right message.

`authenticate_url` is opened by the person's browser. It is not a request of ours, so allowed hosts do not apply.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from reconciler.model.clock import stamp
from reconciler.model.errors import Blocked, LedgerError, ReconcilerError, TransportError
from reconciler.model.scope import Layer
from reconciler.model.value import Frozen, Unshown
from reconciler.oauth.connection import TokenStore, stored_record
from reconciler.oauth.token_request import TokenClient, with_code, with_query
from reconciler.requests.excerpt import secrets_of
from reconciler.requests.template import render_url
from reconciler.transports.address import parse

LIFETIME = timedelta(minutes=10)
KEPT = timedelta(days=1)

OPEN, TAKEN, CONNECTED = "open", "taken", "connected"
"""The outcomes of an authorization; anything else is why it was refused."""

ANEW = "begin anew with `reconcile oauth connect`"
ANSWERED = f"this authorization was answered already: {ANEW}"

_OURS = re.compile(r"(?<=[?&])(?:state|code_challenge|code_challenge_method)=[^&#]*&?")
_ERROR = re.compile(r"[\w .-]{1,60}", re.ASCII)


class NotConnected(ReconcilerError):
    """A callback that is not accepted, or that brought no token; the text says why."""


class AuthorizationStore(Protocol):
    """Pending authorizations, saved sealed by the digest of their state."""

    async def read(self, digest: str) -> dict[str, Any] | None:
        """Read one; None if there is none."""

    async def write(self, digest: str, value: dict[str, Any]) -> None:
        """Save one."""

    async def take(self, digest: str) -> bool:
        """Mark one that is open as taken; whether this call did, of several at once."""

    async def erase(self, digest: str) -> None:
        """Delete one."""

    async def digests(self) -> Iterable[str]:
        """List the digests of all."""


class Authorization(Frozen):
    """The URL that the person has to open, and the state that they come back with."""

    url: Unshown[str]
    state: Unshown[str]

    @property
    def digest(self) -> str:
        """Return the name that the authorization is saved under."""
        return digest_of(self.state)


def digest_of(state: str) -> str:
    """Return the digest of a state, which does not reveal it."""
    return hashlib.sha256(state.encode(errors="replace")).hexdigest()


class Authorizer:
    """Authorizes one service by one integration's manifest."""

    def __init__(
        self, integration: str, asks: TokenClient, *, tokens: TokenStore, connects: AuthorizationStore
    ) -> None:
        assert asks.manifest.oauth is not None
        self._integration = integration
        self._oauth = asks.manifest.oauth
        self._asks = asks
        self._tokens = tokens
        self._connects = connects

    async def begin(self) -> Authorization:
        """Begin an authorization, valid for ten minutes.

        Raises Blocked where `authenticate_url` needs a value that is not there, or does not come out as an address.
        """
        url = render_url(self._oauth.authenticate_url or "", self._asks.scope).text
        if parse(url) is None:
            raise Blocked("oauth.authenticate_url does not come out as an http or https address")
        await self._sweep()
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64)
        hashed = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        ours = {"state": state, "code_challenge": challenge, "code_challenge_method": "S256"}
        authorization = Authorization(with_query(_OURS.sub("", url), ours), state)
        await self._connects.write(
            authorization.digest,
            {
                "service": self._asks.service,
                "integration": self._integration,
                "verifier": verifier,
                "begun_at": self._asks.clock.now().isoformat(),
                "outcome": OPEN,
            },
        )
        return authorization

    async def complete(self, digest: str, connect: Mapping[str, Any], query: Mapping[str, str]) -> None:
        """Complete the `pending` authorization that the callback's query answers, and store the tokens.

        Raises NotConnected: one that was used, no state where there has to be one, a refusal, no code, no token.
        """
        if not query.get("state") and not self._oauth.without_code:
            raise NotConnected(f"the callback came without a state: {ANEW}")
        if connect["service"] != self._asks.service:  # the integration is another service's by now
            raise NotConnected(f"the state is not one that was given out here: {ANEW}")
        if not await self._connects.take(digest):
            raise NotConnected(ANSWERED)
        try:
            await self._trade(query, str(connect["verifier"]))
        except (NotConnected, Blocked, LedgerError, TransportError) as error:
            reason = self._asks.redactor.redact(str(error))
            await self._connects.write(digest, {**connect, "verifier": None, "outcome": reason})
            raise NotConnected(reason) from None
        await self._connects.write(digest, {**connect, "verifier": None, "outcome": CONNECTED})

    async def _trade(self, query: Mapping[str, str], verifier: str) -> None:
        """Exchange the code for tokens, and store them."""
        if refusal := query.get("error"):
            shown = refusal if _ERROR.fullmatch(refusal) else "an error that cannot be shown"
            raise NotConnected(f"the service did not allow it: {shown}")
        code = query.get("code", "")
        if not code and not self._oauth.without_code:
            raise NotConnected(f"the callback came without a code: {ANEW}")
        values = {"code": code, "code_verifier": verifier} if code else {}
        call = with_code(self._oauth.access_token) if code else self._oauth.access_token
        self._asks.redactor.learn(values.values())
        asked_at = self._asks.clock.now()
        scope = self._asks.scope.over(Layer("the callback", values, frozenset(values)))
        reply = await self._asks.ask(call, scope)
        self._asks.redactor.renew(self._asks.service, secrets_of(reply))
        # Merged, as a refresh is: some services hand a refresh token out with the first authorization only. A refresh
        # that is under way spends the one that is stored, so what it brings is waited for.
        async with self._tokens.renewing():
            await self._tokens.change(lambda before: stored_record(reply, before, asked_at))

    async def _sweep(self) -> None:
        """Delete what has been over for a day."""
        for digest in await self._connects.digests():
            connect = await self._connects.read(digest)
            if connect is None or not _in_time(connect, self._asks.clock.now(), KEPT):
                await self._connects.erase(digest)


async def pending(
    connects: AuthorizationStore, service: str, query: Mapping[str, str], now: datetime
) -> tuple[str, dict[str, Any]]:
    """Return the open authorization of a service that a callback answers, and its digest; without a state the newest.

    Anybody can call the callback, so nothing but what is pending is looked at. Raises NotConnected.
    """
    if state := query.get("state"):
        digest = digest_of(state)
        connect = await connects.read(digest)
        if connect is None or connect["service"] != service:
            raise NotConnected(f"the state is not one that was given out here: {ANEW}")
        if connect["outcome"] != OPEN:
            raise NotConnected(ANSWERED)
        if not _in_time(connect, now):
            begun = stamp(datetime.fromisoformat(connect["begun_at"]))
            raise NotConnected(f"this authorization, begun at {begun}, has run out: {ANEW}")
        return digest, connect
    if query.get("code"):
        raise NotConnected(f"the callback came with a code and without a state: {ANEW}")
    every = [(digest, await connects.read(digest)) for digest in await connects.digests()]
    found = [
        (digest, connect)
        for digest, connect in every
        if connect and (connect["service"], connect["outcome"]) == (service, OPEN) and _in_time(connect, now)
    ]
    if not found:
        raise NotConnected("nobody is connecting this service now: begin with `reconcile oauth connect`")
    return max(found, key=lambda each: each[1]["begun_at"])


def _in_time(connect: Mapping[str, Any], now: datetime, span: timedelta = LIFETIME) -> bool:
    return timedelta() <= now - datetime.fromisoformat(connect["begun_at"]) <= span
