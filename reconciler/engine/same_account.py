"""Whether an orphan is the same account as a grant that is still wanted: then it is not revoked.

See docs/design/states.md.

The two are the same where their `exists`, with what it expects, or their `revoke` renders the same, whichever entries
and manifests they come from. All that is wanted is rendered once, and only in a pass that has an orphan to revoke.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.engine.checker import Checker, NotOffered
from reconciler.engine.integrations import Integration
from reconciler.model.errors import Blocked
from reconciler.model.grant import Grant, Key, Record
from reconciler.model.manifest import Call, Exists
from reconciler.model.scope import Scope
from reconciler.model.template import names
from reconciler.model.verdict import Unknown
from reconciler.repository.desired import Desired
from reconciler.requests.render import canonical
from reconciler.requests.template import render_text

__all__ = ["Twins"]

OF_SERVICE = frozenset({"oauth", "redirect_url"})
"""What is known only at run time and the same for all grants of a service; the rest is known for one hire only."""


class Twins:
    """What is wanted, by what is asked about it; `held` are records whose files cannot be read."""

    def __init__(
        self, desired: Desired, integrations: Mapping[str, Integration], checker: Checker, held: Iterable[Record]
    ) -> None:
        self._desired = desired
        self._integrations = integrations
        self._checker = checker
        self._held = held
        self._reading: asyncio.Task[dict[str, Key]] | None = None

    async def of(self, integration: Integration, orphan: Grant) -> Key | None:
        """A grant still wanted for which the orphan's account is the same, or None."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._all())
        known = await asyncio.shield(self._reading)
        wanted = (*_prints(integration, orphan), _unsure(orphan))
        return next((known[print_] for print_ in wanted if print_ in known), None)

    async def _all(self) -> dict[str, Key]:
        known: dict[str, Key] = {}
        for hire in self._desired.hires:
            for grant in self._desired.grants(hire):
                integration = self._integrations.get(grant.integration)
                if integration is not None:
                    known |= dict.fromkeys(await self._of_wanted(integration, grant), grant.key)
        for record in self._held:
            integration = self._integrations.get(record.integration)
            if integration is not None:
                known |= dict.fromkeys(_prints(integration, integration.orphan(record)), record.key)
        return known

    async def _of_wanted(self, integration: Integration, grant: Grant) -> Iterable[str]:
        if not grant.choices:
            return _prints(integration, grant)
        try:
            integration.ready(grant)
            resolved = await self._checker.resolved(integration, grant)
        except (Blocked, NotOffered):
            return [_unsure(grant)]
        return [_unsure(grant)] if isinstance(resolved, Unknown) else _prints(integration, resolved)


def _unsure(grant: Grant) -> str:
    """Which account an entry means cannot be said while its choice cannot be looked up: it may be any of its hire's."""
    return f"{grant.key.hire} at {grant.service}"


def _expected(call: Call, scope: Scope) -> str:
    """What a check's answer has to contain, an address without case: a group's page is asked alike for two people."""
    if not isinstance(call, Exists):
        return ""
    text = render_text(call.expected or "", scope).text
    return text.casefold() if "@" in text else text


def _prints(integration: Integration, grant: Grant) -> Iterator[str]:
    """What a grant's check, and its revocation, would ask for."""
    manifest = integration.manifest
    scope = integration.scope(grant.layers, {})
    groups: list[Sequence[Call]] = [[manifest.exists]] if manifest.exists is not None else []
    if manifest.revoke:
        groups.append(manifest.revoke)
    for calls in groups:
        try:
            asked = [(canonical(call, scope, manifest), _expected(call, scope)) for call in calls]
        except Blocked:
            continue
        content = json.dumps(asked, sort_keys=True, default=str)
        left_open = {name.partition(".")[0] for name in names(content)}
        if left_open - OF_SERVICE:
            content = f"{grant.key.hire}: {content}"
        yield f"{grant.service}: {content}" if left_open & OF_SERVICE else content
