"""What the pages show of a running daemon, read from the threads that make pages.

Objects that the daemon replaces as a whole are read directly. The files of hires are read in the daemon's loop, because
only it may use its caches, one page at a time; while that loop is blocked, pages are made without them.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from copy import copy
from datetime import date, datetime
from threading import Lock

from reconciler.daemon.freshness import Freshness
from reconciler.daemon.loop import Daemon
from reconciler.daemon.runtime import ActiveRevision
from reconciler.ledger.reader import LedgerReader
from reconciler.model.errors import Problem, SecretsError
from reconciler.model.form import FormField
from reconciler.model.grant import Grant, Key
from reconciler.model.hire import Hire
from reconciler.model.last_pass import LAST, LastPass
from reconciler.model.manifest import Manifest
from reconciler.model.secret import Secret
from reconciler.model.settings import OWN, Settings
from reconciler.model.value import Frozen
from reconciler.repository.desired import Desired
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.trees import WORKTREE
from reconciler.review.reviews import ReviewProgress, Reviews
from reconciler.review.unmanaged import ComparedListing
from reconciler.web.guard import host_of
from reconciler.web.metrics import Noted

TOKEN = "PAGES_TOKEN"  # noqa: S105  its name

PATIENCE_SECONDS = 1.0
"""How long a page waits for the daemon's loop."""

HIRES_AT_A_TIME = 10
"""The most files of hires that are read before other tasks of that loop run."""

RETRY_SECONDS = 10.0
"""After how long a token that could not be read is read again: gpg must not run for each request of a stranger."""


class Live(Frozen, kw_only=True):
    """What the daemon knows now. `unmanaged` has the listings read to their end, `unread` why others were not."""

    now: datetime
    active: ActiveRevision
    freshness: Freshness
    ignored: tuple[str, ...] = ()
    """What the checkout has and is not acted on, a sentence each."""
    healthy: bool = True
    health: str = "ok"
    unmanaged: Mapping[str, ComparedListing] = {}
    unread: Mapping[str, str] = {}


class GitView(Frozen):
    """The revision in force: each integration with its service, and the files of some hires."""

    integrations: Mapping[str, str] = {}
    manifests: Mapping[str, Manifest] = {}
    hires: Mapping[str, Hire] = {}
    grants: Mapping[str, tuple[Grant, ...]] = {}
    over: Mapping[Key, datetime] = {}
    """When entries of these hires end, those that are over too."""
    files: Mapping[str, str] = {}
    """The path of each hire's file."""
    problems: tuple[Problem, ...] = ()

    def roles(self, integration: str) -> tuple[FormField, ...]:
        """Return the fields of an integration's form of which some values give more than others."""
        manifest = self.manifests.get(integration)
        return () if manifest is None else tuple(each for each in manifest.form if each.is_role)


class DaemonView:
    """The daemon, its ledger and its repository, as pages read them. Construct it in the daemon's loop."""

    def __init__(self, daemon: Daemon) -> None:
        self._context = daemon.runtime.context
        self._daemon = daemon
        self._runtime = daemon.runtime
        self._listen = self.settings.listen
        self._loop = asyncio.get_running_loop()
        self._location = self._runtime.active.location
        self._lock, self._reviewing = Lock(), Lock()
        self._reviews = Reviews()
        self._reviewed: tuple[object, list[ReviewProgress]] | None = None
        self._secrets: dict[tuple[str, str], tuple[object, float, Secret | SecretsError | None]] = {}

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._runtime.active.settings

    def ledger(self) -> AbstractContextManager[LedgerReader]:
        """Open a reader for the caller alone."""
        return self._location.reader()

    def checkout(self) -> Checkout:
        """Open the repository for the caller alone: the daemon's own may only be used in its loop."""
        return Checkout.open(self._context.root)

    def redact(self, text: str) -> str:
        """Redact every secret that the daemon knows."""
        return self._context.redactor.redact(text)

    def ready(self) -> tuple[bool, str]:
        """Whether the daemon is ready, and if not, why."""
        if (fault := self._daemon.runner.unreachable) is not None:
            return False, fault
        ready = self._runtime.health.ready
        return ready, "ok" if ready else "the repository cannot be read yet"

    def hosts(self) -> frozenset[str]:
        """Return the host names that requests may have."""
        public = self.settings.public.partition("://")[2]
        return frozenset({host_of(self._listen), host_of(public)})

    def noted(self) -> Noted:
        """Read what metrics need of the ledger."""
        with self.ledger() as ledger:
            members = {each.name: len(each.services) for each in ledger.members() if each.daemon}
            return Noted(ledger.grants.counts(), members, len(LastPass.read(ledger.notes.get(LAST)).problems))

    def now(self) -> Live:
        """Read what the daemon knows now."""
        daemon, runtime = self._daemon, self._runtime
        healthy, health = daemon.healthy()
        return Live(
            now=self._context.clock.now(),
            active=runtime.active,
            freshness=copy(runtime.freshness),
            ignored=tuple(daemon.ignored),
            healthy=healthy,
            health=health,
            unmanaged=dict(daemon.survey.found),
            unread=dict(daemon.survey.unread),
        )

    def git(self, hires: Collection[str] = ()) -> GitView:
        """Read the integrations and these hires of the revision in force; nothing if the loop is busy."""
        asked = asyncio.run_coroutine_threadsafe(self._git(hires), self._loop)
        try:
            return asked.result(PATIENCE_SECONDS)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError, RuntimeError):
            asked.cancel()
            return GitView()

    async def _git(self, hires: Collection[str]) -> GitView:
        desired = self._context.last_desired
        if desired is None:
            return GitView()
        manifests = desired.files.manifests
        hires_of, grants_of, files, over = {}, {}, {}, dict[Key, datetime]()
        any_day = Desired(desired.files, date.min)
        for number, hire in enumerate(each for each in hires if each in desired.hires):
            if number % HIRES_AT_A_TIME == 0:
                await asyncio.sleep(0)
            loaded = desired.hires[hire]
            hires_of[hire], grants_of[hire], files[hire] = loaded.model, desired.grants(hire), loaded.path
            over |= {each.key: each.over_at for each in any_day.grants(hire) if each.over_at is not None}
        return GitView(
            integrations={name: loaded.model.service or name for name, loaded in manifests.items()}
            | {name: name for name in desired.files.broken["manifests"]},
            manifests={name: loaded.model for name, loaded in manifests.items()},
            hires=hires_of,
            grants=grants_of,
            files=files,
            over=over,
            problems=tuple(desired.files.problems),
        )

    def reviews(self, ledger: LedgerReader) -> list[ReviewProgress]:
        """Compute how far each access review is at the commit in force, again when git or the history changes."""
        revision = self._runtime.active.tree.revision
        key = (revision, ledger.history.end(), ledger.notes.get(LAST))
        with self._reviewing:
            if self._reviewed is None or self._reviewed[0] != key:
                checkout = self.checkout()
                found = []
                if checkout.is_git:
                    own = checkout.head() if revision == WORKTREE else checkout.at(revision)
                    found = self._reviews.progress(checkout, own, ledger)
                self._reviewed = (key, found)
            return self._reviewed[1]

    def token(self) -> Secret | None:
        """Read the token of the revision in force; None if it has none. Raises SecretsError if it cannot be read."""
        return self.secret(OWN, TOKEN)

    def secret(self, service: str, name: str) -> Secret | None:
        """Read a value of a service's initial data at the revision in force; None if it has none.

        Raises SecretsError if it cannot be read.
        """
        active = self._runtime.active
        of = (active.tree.revision, active.settings.gnupg_home)
        with self._lock:
            known, now = self._secrets.get((service, name)), time.monotonic()
            if known is None or known[0] != of or known[1] <= now:
                found: Secret | SecretsError | None
                try:
                    value = (active.initial_data.read(active.tree, service) or {}).get(name)
                    found = Secret(value) if value else None
                    self._context.redactor.learn(value.split("\n") if value else [])
                except SecretsError as error:
                    found = error.with_traceback(None)
                lasts = active.tree.revision != WORKTREE and not isinstance(found, SecretsError)
                known = self._secrets[service, name] = (of, float("inf") if lasts else now + RETRY_SECONDS, found)
        if isinstance(known[2], SecretsError):
            raise known[2]
        return known[2]
