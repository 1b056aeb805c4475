"""What members of a fleet tell each other, by notes in the ledger: their programs, and what their clones have in force.

A note has what each member said, by name; what those said that are gone is left out with the next change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import convert, to_builtins

from reconciler.daemon.fleet.single_pass import Newest
from reconciler.daemon.freshness import CLONES, Clone
from reconciler.daemon.runtime import Runtime
from reconciler.ledger.ledger import OpenLedger
from reconciler.model.revision_status import Stale
from reconciler.requests.hosts import named_hosts
from reconciler.transports.address import PROGRAM

PROGRAMS = "programs"
"""The name of the ledger's note that has which programs each member's machine has."""


class Programs:
    """Which programs each member's machine has: requests may run them."""

    def __init__(self, runtime: Runtime, member: str) -> None:
        self._runtime = runtime
        self._member = member
        self._mine = frozenset(f"exec:{name}" for name in runtime.context.programs)
        self._others: list[frozenset[str] | None] = []
        """Those of each other member; None where it has not said yet."""

    def leaves_to_others(self, service: str) -> bool:
        """Whether this machine lacks a program that a service's requests would run, and another member may have all.

        Where none has, a pass here blocks the grants, and says why.
        """
        known = self._runtime.active.desired.services.get(service)
        hosts = {host for _, manifest in known.manifests.values() for host in named_hosts(manifest)} if known else set()
        wanted = {host for host in hosts if host.startswith(f"{PROGRAM}:")}
        lacking = ", ".join(sorted(wanted - self._mine))
        leaves = bool(lacking) and any(each is None or wanted <= each for each in self._others)
        why = f"slices of {service} are left to other members: {lacking} is no program of this machine"
        self._runtime.problems.update(f"programs of {service}", why if leaves else None, "warning")
        return leaves

    async def learn(self, others: Sequence[str]) -> None:
        """Tell the other members of this machine's programs, and read what they have."""
        told = await _exchange(self._runtime.ledger, PROGRAMS, self._member, sorted(self._mine), others)
        self._others = [None if (each := told.get(other)) is None else frozenset(each) for other in others]


class Clones:
    """What each member's clone has in force: one that takes over no new commit leaves the lead to one that has it."""

    def __init__(self, runtime: Runtime, member: str, newest: Newest) -> None:
        self._runtime = runtime
        self._member = member
        self._newest = newest
        self._others: dict[str, Clone] = {}

    @property
    def stale(self) -> Mapping[str, Stale | None]:
        """Since when, and why, each other member takes over no new commit; None for one that does."""
        return {name: each.stale for name, each in self._others.items()}

    def are_ahead(self) -> bool:
        """Whether this clone takes over no new commit, and another member's that does is ahead of it."""
        mine = self._runtime.active.acted_on
        if mine is None or self._runtime.freshness.why_not is None:
            return False
        return any(each.able and not self._newest.as_new(mine, each.revision) for each in self._others.values())

    async def learn(self, others: Sequence[str]) -> None:
        """Tell the other members what this clone has in force, and read what theirs have."""
        mine, freshness = self._runtime.active.acted_on, self._runtime.freshness
        if mine is None:
            return
        able = freshness.why_not is None and await self._newest.follows(mine)
        own = Clone(mine, able, freshness.why_not, freshness.stale)
        told = await _exchange(self._runtime.ledger, CLONES, self._member, to_builtins(own), others)
        self._others = {name: convert(each, Clone) for name, each in told.items()}


async def _exchange(ledger: OpenLedger, note: str, member: str, own: Any, others: Sequence[str]) -> dict[str, Any]:
    """Tell what is so for a member, and return what the others said; one that said nothing yet is left out."""
    noted = json.loads(await ledger.run(lambda reader: reader.notes.get(note) or b"{}"))
    if noted.get(member) != own:

        def told(before: bytes | None) -> bytes:
            there = {each: kept for each, kept in json.loads(before or b"{}").items() if each in others}
            return json.dumps({**there, member: own}).encode()

        await ledger.run(lambda writer: writer.notes.put(note, told))
    return {name: said for name, said in noted.items() if name in others}
