"""What lives longer than a pass: checkout, parse cache, gpg, clients with their limits, redactor; and a revision in it.

Modules that send, decrypt, wait or parse people's files are imported when they are first needed: `status` needs none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from reconciler.ledger.opening import StateLocation
from reconciler.model.clock import Clock, Stopped
from reconciler.model.failpoints import Reached, unwatched
from reconciler.model.secret import Redactor
from reconciler.model.settings import OWN, Limits, Settings
from reconciler.model.value import Frozen
from reconciler.repository.git.checkout import Checkout
from reconciler.repository.git.program import home_of
from reconciler.repository.git.trees import WORKTREE, Tree
from reconciler.repository.private_file import HIRES_CACHE
from reconciler.repository.settings_file import read_settings

if TYPE_CHECKING:
    import asyncio

    from reconciler.engine.observe.integrations import Integration
    from reconciler.engine.observe.same_account import WantedFingerprints
    from reconciler.oauth.connection import Turn
    from reconciler.repository.desired import Desired
    from reconciler.repository.files import Files, Reader
    from reconciler.repository.policy import PolicyRules
    from reconciler.requests.client import Answered, Client, MaySend
    from reconciler.requests.hosts import AllowedHosts
    from reconciler.requests.shares import Shared
    from reconciler.requests.tasks import Yielder
    from reconciler.requests.throttle import Throttle
    from reconciler.secrets.gpg import Gnupg
    from reconciler.secrets.initial_data import InitialData

T = TypeVar("T")


class SystemClock:
    """The machine's clock; `stop` ends every wait."""

    @cached_property
    def stopping(self) -> asyncio.Event:
        """Set when shutdown is requested."""
        import asyncio

        return asyncio.Event()

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait. Raises `Stopped` as soon as shutdown is requested, even for a wait of zero seconds."""
        import asyncio

        if self.stopping.is_set():  # `wait_for` with nothing to wait for does not look
            raise Stopped
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
        raise Stopped

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work, or cancel it and raise `Stopped` when shutdown is requested."""
        import asyncio

        task, stop = asyncio.create_task(work), asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        if task.cancelled():
            raise Stopped
        return task.result()


async def _never() -> bool:
    """Nobody else acts."""
    return False


class Context:
    """One repository and its services. `reached` is called for every write and every request.

    `branch` is the branch in force, where the machine says so. A `tolerant` one is for taking access away by hand and
    for showing the ledger: where settings cannot be read, the last accepted revision counts, and a folder of hires that
    is not there is empty.

    `member_may_send` is called before every request: a member of a fleet sends none once others may take it for dead.
    """

    def __init__(
        self,
        root: Path,
        clock: Clock,
        redactor: Redactor,
        reached: Reached = unwatched,
        *,
        branch: str | None = None,
        programs: Mapping[str, Path] | None = None,
        tolerant: bool = False,
    ) -> None:
        self.root = root
        self.tolerant = tolerant
        self.branch = branch
        self.programs = programs or {}
        """The programs of this machine that requests may run, by name."""
        self.clock = clock
        self.redactor = redactor
        self.reached = reached
        self.member_may_send: MaySend = lambda: None
        self.outdated: Callable[[], Awaitable[bool]] = _never
        """Whether others act on a newer revision than a pass here, which begins no attempt then."""
        self.answered: Answered = lambda _name, _status, _seconds: None
        """Called with each request and its outcome."""
        self.progressed: Callable[[], None] = lambda: None
        """Called before each request."""
        self.checkout = Checkout.open(root, reached)
        self._gnupg: tuple[tuple[str | None, frozenset[str]], Gnupg, InitialData] | None = None
        self.shared: Shared | None = None
        """The exchange by which members of a fleet share the limits."""
        self._throttle: tuple[Limits, Throttle] | None = None
        self._clients: dict[str, tuple[Limits, AllowedHosts, Client]] = {}
        self._turns: dict[str, Turn] = {}
        self._desired: Desired | None = None
        self._policy_rules: tuple[Desired, PolicyRules] | None = None

    @cached_property
    def reader(self) -> Reader:
        """The reader of all files of a revision, which caches what it parsed."""
        from reconciler.repository.files import Reader

        found = Reader(self.root / HIRES_CACHE, self.reached, root=self.checkout.root)
        found.without_hires = self.tolerant
        return found

    @cached_property
    def yielder(self) -> Yielder:
        """What yields the event loop in all long work."""
        from reconciler.requests.tasks import Yielder

        return Yielder()

    def settings(self, tree: Tree) -> Settings:
        """Return the settings of a revision, defaults if it has none. Raises SettingsError if they are broken."""
        return read_settings(tree, self.checkout.root)

    @property
    def last_desired(self) -> Desired | None:
        """Return the desired state that `desired` returned last; None before. Reads nothing."""
        return self._desired

    def desired(self, files: Files, today: date) -> Desired:
        """Return a revision's desired state; the same object from pass to pass while nothing changes."""
        from reconciler.repository.desired import Desired

        if self._desired is None or self._desired.files is not files or self._desired.today != today:
            self._desired = Desired(files, today)
        return self._desired

    def policy_rules(self, desired: Desired) -> PolicyRules:
        """Return the policy's judge of a desired state; the same object while the desired state is the same."""
        from reconciler.repository.policy import PolicyRules

        if self._policy_rules is None or self._policy_rules[0] is not desired:
            self._policy_rules = (desired, PolicyRules(desired, desired.files.policy))
        return self._policy_rules[1]

    @cached_property
    def wanted_prints(self) -> WantedFingerprints[Integration]:
        """The prints of all that is wanted, from pass to pass."""
        from reconciler.engine.observe.same_account import WantedFingerprints, wanted_prints

        return WantedFingerprints(self.yielder, wanted_prints)

    @cached_property
    def wanted_accounts(self) -> WantedFingerprints[Integration]:
        """Which accounts are wanted of services at which two hires may mean one, from pass to pass."""
        from reconciler.engine.observe.same_account import WantedFingerprints, wanted_accounts

        return WantedFingerprints(self.yielder, wanted_accounts)

    def secrets(self, settings: Settings) -> tuple[Gnupg, InitialData]:
        """Return gpg with the home that the settings name, and the reader of encrypted files."""
        from reconciler.requests.hosts import AllowedHosts
        from reconciler.secrets.gpg import Gnupg
        from reconciler.secrets.initial_data import InitialData

        by = (settings.gnupg_home, frozenset(settings.allowed_hosts))
        if self._gnupg is None or self._gnupg[0] != by:
            gnupg = Gnupg(home_of(self.root, settings), self.checkout.root)
            self._gnupg = (by, gnupg, InitialData(gnupg, AllowedHosts(by[1]).check))
        return self._gnupg[1], self._gnupg[2]

    def client(self, service: str, hosts: AllowedHosts, limits: Limits) -> Client:
        """Return a service's client; the same one from pass to pass while its hosts and limits are the same."""
        from reconciler.requests.client import Client, Sending
        from reconciler.requests.throttle import Throttle
        from reconciler.transports.opening import Machine

        if self._throttle is None or self._throttle[0] != limits:
            if self._throttle is not None:
                self._throttle[1].close()
            self._throttle = (limits, Throttle(limits, self.clock, self.shared))
        known = self._clients.get(service)
        if known is not None and known[:2] == (limits, hosts):
            return known[2]
        sending = Sending(
            clock=self.clock,
            throttle=self._throttle[1],
            redactor=self.redactor,
            reached=self.reached,
            may_send=self._may_send,
            answered=self.answered,
            machine=Machine(self.programs, self.checkout.root),
        )
        client = Client(service, limits, hosts, sending)
        self._clients[service] = (limits, hosts, client)
        return client

    def _may_send(self) -> None:
        self.progressed()
        self.member_may_send()

    def turn(self, service: str) -> Turn:
        """Return the lock that serializes a service's token refreshes, from pass to pass."""
        from reconciler.oauth.connection import Turn

        return self._turns.setdefault(service, Turn())

    async def aclose(self) -> None:
        """Close every connection."""
        if self._throttle is not None:
            self._throttle[1].close()
        for _, _, client in self._clients.values():
            await client.aclose()


class Revision(Frozen):
    """A revision in a context: its tree, and the settings that count for it."""

    context: Context
    tree: Tree
    settings: Settings

    @classmethod
    def at(cls, context: Context, tree: Tree) -> Revision:
        """Make it with its own settings. Raises SettingsError if they are broken."""
        return Revision(context, tree, context.settings(tree))

    @property
    def files(self) -> Files:
        """Its files; those of a worktree are read anew each time."""
        return self.context.reader.load(self.tree)

    @property
    def today(self) -> date:
        """The day by the settings' time zone."""
        return self.context.clock.now().astimezone(ZoneInfo(self.settings.timezone)).date()

    @property
    def desired(self) -> Desired:
        """What it wants today; the same object from pass to pass while nothing changes."""
        return self.context.desired(self.files, self.today)

    @property
    def author(self) -> str | None:
        """Who committed it; None for a worktree."""
        revision = self.tree.revision
        return None if revision == WORKTREE else self.context.checkout.commit(revision).author

    @property
    def gnupg(self) -> Gnupg:
        """Gpg with the home that the settings name."""
        return self.context.secrets(self.settings)[0]

    @property
    def initial_data(self) -> InitialData:
        """The reader of encrypted files."""
        return self.context.secrets(self.settings)[1]

    def own(self) -> dict[str, str]:
        """Decrypt the program's own initial data; empty if there is none. Raises SecretsError."""
        return self.initial_data.read(self.tree, OWN) or {}

    @property
    def location(self) -> StateLocation:
        """Where the state is. A server's password is in the program's own initial data."""

        def password() -> str | None:
            own = self.own()
            self.context.redactor.learn(own.values())
            return own.get("STATE_PASSWORD")

        return StateLocation(self.settings.state, self.context.root, password, self.context.checkout)
