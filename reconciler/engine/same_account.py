"""Whether an orphan is the same account as a grant that is still wanted: then it is not revoked.

See docs/design/states.md.

The two are the same where their `exists`, with what it expects of which record, or their `revoke` renders the same,
whichever entries and manifests they come from. All that is wanted is rendered once, and only in a pass that has an
orphan to revoke.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from reconciler.engine.checker import Checker, NotOffered
from reconciler.engine.integrations import Integration
from reconciler.model.errors import Blocked
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.template import names
from reconciler.model.verdict import Unknown
from reconciler.repository.desired import Desired
from reconciler.requests.render import canonical, question

__all__ = ["SameAccounts"]

OF_SERVICE = frozenset({"oauth", "redirect_url"})
"""What is known only at run time and the same for all grants of a service; the rest is known for one hire only."""

UNKNOWN, ANY = "unknown", "any"
"""Which account a request is about, where what was stored of it is not known, and where it does not matter."""

Stored = Callable[[Key, str], Mapping[str, Any]]
"""What was stored of an entry's account at a service."""


class SameAccounts:
    """The grants still wanted, by the requests they render; `unreadable` are records whose files cannot be read."""

    def __init__(
        self,
        desired: Desired,
        integrations: Mapping[str, Integration],
        checker: Checker,
        *,
        unreadable: Iterable[Record],
        stored: Stored,
    ) -> None:
        self._desired = desired
        self._integrations = integrations
        self._checker = checker
        self._unreadable = unreadable
        self._stored = stored
        self._reading: asyncio.Task[dict[str, Key]] | None = None

    async def of(self, integration: Integration, orphan: Grant) -> Key | None:
        """A grant still wanted for which the orphan's account is the same, or None."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._all())
        known = await asyncio.shield(self._reading)
        asked = (*self._prints(integration, orphan, wanted=False), _unsure(orphan))
        return next((known[print_] for print_ in asked if print_ in known), None)

    def _prints(self, integration: Integration, grant: Grant, *, wanted: bool = True) -> Iterator[str]:
        return _prints(integration, grant, self._stored(grant.key, grant.service), wanted=wanted)

    async def _all(self) -> dict[str, Key]:
        known: dict[str, Key] = {}
        for hire in self._desired.hires:
            for grant in self._desired.grants(hire):
                integration = self._integrations.get(grant.integration)
                if integration is not None:
                    known |= dict.fromkeys(await self._of_wanted(integration, grant), grant.key)
        for record in self._unreadable:
            integration = self._integrations.get(record.integration)
            if integration is not None:
                known |= dict.fromkeys(self._prints(integration, integration.orphan(record)), record.key)
        return known

    async def _of_wanted(self, integration: Integration, grant: Grant) -> Iterable[str]:
        if not grant.choices:
            return self._prints(integration, grant)
        try:
            integration.ready(grant)
            resolved = await self._checker.resolved(integration, grant)
        except (Blocked, NotOffered):
            return [_unsure(grant)]
        return [_unsure(grant)] if isinstance(resolved, Unknown) else self._prints(integration, resolved)


def _unsure(grant: Grant) -> str:
    """Which account an entry means cannot be said while its choice cannot be looked up: it may be any of its hire's."""
    return f"{grant.key.hire} at {grant.service}"


def _prints(integration: Integration, grant: Grant, stored: Mapping[str, Any], *, wanted: bool) -> Iterator[str]:
    """What a grant's check, and its revocation, would ask for.

    Where a request uses what was stored of an account, two are told apart by that as soon as it is known of both:
    until then they may be the same.
    """
    manifest = integration.manifest
    scope = integration.scope(grant.layers, {})
    asked: list[Any] = []
    if manifest.exists is not None:
        with suppress(Blocked):
            asked.append(question(manifest.exists, scope, manifest))
    if manifest.revoke:
        with suppress(Blocked):
            asked.append([canonical(call, scope, manifest) for call in manifest.revoke])
    for request in asked:
        content = json.dumps(request, sort_keys=True, default=str)
        left_open = {name.partition(".")[0] for name in names(content)}
        own = left_open - OF_SERVICE
        if left_open & OF_SERVICE:
            content = f"{grant.service}: {content}"
        if not own:
            yield content
            continue
        known = json.dumps([stored[name] for name in sorted(own)], default=str) if own <= stored.keys() else None
        content = f"{grant.key.hire}: {content}"
        if not wanted and known is None:
            yield f"{content} {ANY}"
        else:
            yield f"{content} {known or UNKNOWN}"
            yield f"{content} {ANY if wanted else UNKNOWN}"
