"""The desired state: hires × access entries × manifests, joined into grants.

Grants are joined hire by hire when they are needed, never all at once, and some are cached. The grants of a broken
hire's or sequence's file are unknown here; the engine keeps those that the ledger has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime
from functools import cached_property

from reconciler.model.clock import FIRST, first_moment
from reconciler.model.errors import Problem
from reconciler.model.grant import Grant, Key
from reconciler.model.lock import Lock, Locks
from reconciler.model.manifest import Manifest
from reconciler.model.value import Frozen
from reconciler.repository.entries import Entries
from reconciler.repository.files import Files
from reconciler.repository.hires import Hires
from reconciler.repository.joining import Join

__all__ = ["NO_SERVICE", "Desired", "Service"]

NO_SERVICE = ""
"""Of what belongs to no service that can be read: broken manifests, entries whose integration is missing."""

MAX_KEPT = 40_960
"""How many hires and grants are remembered, the last ones: every service's pass asks for the same hires."""


class Service(Frozen):
    """Manifests that share initial data, an OAuth connection and limits: file and manifest by integration."""

    name: str
    manifests: Mapping[str, tuple[str, Manifest]]


class Desired:
    """A revision's desired state, on a day.

    Entries that are over when the day begins are in it no longer, or those that are over at `now` where that is given;
    `wanted` leaves out those that are over by another time.
    """

    def __init__(self, files: Files, today: date, now: datetime | None = None) -> None:
        self.files = files
        self.today = today
        self.once_assigned: frozenset[str] = frozenset()
        """The sequences that a revision acted on before assigned: what one gave that is gone since is not given up."""
        self.entries = Entries(files)
        self.join = Join(files, self.entries, now or first_moment(today, files.settings.timezone) or FIRST)
        self._grants: OrderedDict[str, tuple[Grant, ...]] = OrderedDict()
        self._room = MAX_KEPT

    @property
    def revision(self) -> str:
        """Return the full commit id, or `worktree`."""
        return self.files.revision

    @property
    def hires(self) -> Hires:
        """Return every hire whose file can be read."""
        return self.files.hires

    @property
    def broken_hires(self) -> Mapping[str, list[Problem]]:
        """Return the hires whose file cannot be read: their grants in the ledger are kept."""
        return self.files.broken["hires"]

    def owner(self, email: str) -> str | None:
        """Return the id of the hire that has an address, without regard to case; None if the file cannot be read."""
        hire = self.hires.index.owner(email)
        return None if hire in self.broken_hires else hire

    def locks(self, locks: Iterable[Lock], now: datetime) -> Locks:
        """Return who is locked out, by the files' addresses."""

        def address(hire: str) -> str | None:
            file = self.hires.file(hire)
            return None if file is None else file.email

        return Locks(locks, now, owner=self.hires.index.owner, address=address)

    @cached_property
    def services(self) -> Mapping[str, Service]:
        """Return every service with a readable manifest."""
        found: dict[str, dict[str, tuple[str, Manifest]]] = {}
        for integration, loaded in self.files.manifests.items():
            service = loaded.model.service or integration
            found.setdefault(service, {})[integration] = (loaded.path, loaded.model)
        return {name: Service(name, manifests) for name, manifests in found.items()}

    def service_of(self, integration: str) -> str:
        """Return the service of an integration; `NO_SERVICE` if no readable manifest says."""
        loaded = self.files.manifests.get(integration)
        return NO_SERVICE if loaded is None else loaded.model.service or integration

    @cached_property
    def unreadable_files(self) -> bool:
        """Whether git cannot say of any grant whether its hire keeps it."""
        return bool(
            self.broken_hires
            or self.files.broken["sequences"]
            or any(name not in self.files.sequences for name in self._mentioned_sequences | self.once_assigned)
        )

    @cached_property
    def _mentioned_sequences(self) -> frozenset[str]:
        """Return the sequences that a hire names or a sequence includes."""
        return self.entries.included | {*self.hires.index.sequences}

    def unreadable(self, key: Key, email: str, sequence: str | None, since: str | None = None) -> str | None:
        """Return why git cannot say whether a hire keeps a grant, from a sequence or of its own; or None.

        The hire's file cannot be read, or stands broken under another name: it has the address, or git sees it as the
        file that the hire had at the revision `since`, when the grant was last planned. Or the sequence is broken, or
        somebody names it and it is not there. Where the hire names one that is not there, that may be any sequence that
        it had. Or a request of the entry's name cannot be read.
        """
        hire, access = key
        if problems := self.files.broken["requests"].get(access):
            return problems[0].clause
        for named in (hire, self.hires.index.owner(email), self._renamed_to(hire, since)):
            if named is not None and (problems := self.broken_hires.get(named)):
                return problems[0].clause
        if sequence is None:
            return None
        if problems := self.files.broken["sequences"].get(sequence):
            return f"config/sequences/{sequence}.yaml cannot be read: {problems[0].clause}"
        missing = next(self.entries.missing(hire), None)
        if missing is not None and sequence not in self.entries.sequences_of(hire):
            return str(missing)
        if sequence not in self.files.sequences and sequence in self._mentioned_sequences:
            return f"there is no config/sequences/{sequence}.yaml, and it is named"
        if sequence not in self.files.sequences and sequence in self.once_assigned:
            ways = "bring it back, or, to take away what it gave, with an empty `access`"
            return f"there is no config/sequences/{sequence}.yaml, which was assigned: {ways}"
        return None

    def vanished(self, hire: str) -> bool:
        """Whether a hire has no file, not even one that cannot be read."""
        return hire not in self.hires and hire not in self.broken_hires

    def _renamed_to(self, hire: str, since: str | None) -> str | None:
        if since is None or not self.broken_hires or not self.vanished(hire):
            return None
        return self.hires.renamed_since(since).get(hire)

    def over(self, hire: str, access: str, now: datetime | None = None, acted_at: datetime | None = None) -> str | None:
        """Return why an entry that git has counts as removed: its `until`, its `for`, or the hire's `end`; or None.

        `for` counts from `acted_at`, when it was first acted on.
        """
        return self.join.over(self.hires[hire], access, now, acted_at) if hire in self.hires else None

    def has(self, hire: str, access: str) -> bool:
        """Whether git has an entry of this name, over or not."""
        return hire in self.hires and access in self.entries.of(self.hires[hire])

    def requesting(self, name: str) -> list[str]:
        """Return the hire that a request is for; none where there is no such request."""
        loaded = self.files.requests.get(name)
        return [] if loaded is None else [loaded.model.hire]

    @property
    def assigned(self) -> frozenset[str]:
        """Return the sequences that are assigned, and those that were and are gone since, or cannot be read."""
        return self.entries.assigned | (self.once_assigned - self.files.sequences.keys())

    def integrations(self, hire: str) -> Collection[str]:
        """Return the integrations that a hire uses, including those of entries that are over.

        Nearly always this is known without parsing the hire's file.
        """
        file = self.hires.file(hire)
        if file is None:
            return ()
        if self.entries.assigned:
            return {grant.integration for grant in self.grants(hire)}
        asked = [each.model.access.integration for each in self.entries.requests(hire)]
        named = [self.entries.gives[name] for name in file.sequences if name in self.files.sequences]
        if not (named or asked):
            return file.integrations
        return {*file.integrations, *asked, *(item.entry.integration for given in named for item in given.values())}

    def grants(self, hire: str, *, once: bool = False) -> tuple[Grant, ...]:
        """Return a hire's grants, needed ones before those that need them; none if its file cannot be read.

        With `once` they are not remembered: a walk over all hires would evict those that passes are about.
        """
        known = self._grants.get(hire)
        if known is None:
            loaded = self.hires.get(hire)
            known = self.join.grants(loaded) if loaded is not None else ()
            if not once:
                self._grants[hire] = known
                self._room -= 1 + len(known)
                while self._room < 0 and len(self._grants) > 1:
                    self._room += 1 + len(self._grants.popitem(last=False)[1])
        return known
