"""The hooks of a daemon. They are called in threads that serve `listen`, and act in the daemon's loop."""

from __future__ import annotations

import asyncio
import time

from reconciler.daemon.loop import Daemon
from reconciler.model.settings import OWN
from reconciler.model.value import value_class
from reconciler.secrets.initial_data import HOOK_SECRET
from reconciler.web.daemon_view import DaemonView
from reconciler.web.hooks import GIT, Hook
from reconciler.web.signatures import is_signed_by_git

__all__ = ["DaemonHooks"]


class DaemonHooks:
    """Finds the hook of a name. Construct it in the daemon's loop."""

    def __init__(self, daemon: Daemon, view: DaemonView) -> None:
        self._daemon = daemon
        self._view = view
        self._loop = asyncio.get_running_loop()

    def __call__(self, name: str) -> Hook | None:
        """Return the hook of a name. Raises SecretsError if its secret cannot be read."""
        if name != GIT or self._daemon.settings.git.fetch is None:
            return None
        secret = self._view.secret(OWN, HOOK_SECRET)
        return None if secret is None else _Push(tuple(secret.reveal().split("\n")), self._daemon, self._loop)


@value_class
class _Push:
    """A push at the git server: its body decides nothing."""

    secrets: tuple[str, ...]
    daemon: Daemon
    loop: asyncio.AbstractEventLoop

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether GitHub, Gitea or GitLab signed it."""
        return is_signed_by_git(headers, body, self.secrets, time.time())

    def take(self, _headers: dict[str, str], _body: bytes) -> None:
        """Fetch."""
        self.loop.call_soon_threadsafe(self.daemon.pushed)
