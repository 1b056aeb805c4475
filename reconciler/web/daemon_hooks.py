"""The hooks of a daemon. They are called in threads that serve `listen`, and act in the daemon's loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

from reconciler.daemon.hooked import GIT
from reconciler.daemon.loop import Daemon
from reconciler.model.base import as_text
from reconciler.model.errors import SecretsError
from reconciler.model.events import Events
from reconciler.model.scope import walk
from reconciler.model.settings import OWN
from reconciler.model.value import Frozen
from reconciler.secrets.initial_data import HOOK_SECRET
from reconciler.web.daemon_view import DaemonView
from reconciler.web.hooks import Hook
from reconciler.web.signatures import has_token, is_signed, is_signed_by_git, is_signed_by_the_standard

__all__ = ["DaemonHooks", "account_in", "is_from_service"]

MOST_FIELDS = 1000


class DaemonHooks:
    """Finds the hook of a name. Construct it in the daemon's loop."""

    def __init__(self, daemon: Daemon, view: DaemonView) -> None:
        self._daemon = daemon
        self._view = view
        self._loop = asyncio.get_running_loop()

    def __call__(self, name: str) -> Hook | None:
        """Return the hook of a name. Raises SecretsError if its secret cannot be read."""
        if name == GIT:
            return self._push()
        desired = self._daemon.runtime.context.last_desired
        loaded = None if desired is None else desired.files.manifests.get(name)
        if loaded is None or loaded.model.events is None:
            return None
        events = loaded.model.events
        secret = self._view.secret(loaded.model.service or name, events.secret)
        if secret is None:
            raise SecretsError(f"the initial data of {name} has no {events.secret}")
        return _Event(tuple(secret.reveal().split("\n")), name, events, daemon=self._daemon, loop=self._loop)

    def _push(self) -> Hook | None:
        if self._view.settings.git.fetch is None:
            return None
        secret = self._view.secret(OWN, HOOK_SECRET)
        return None if secret is None else _Push(tuple(secret.reveal().split("\n")), self._daemon, self._loop)


class _Push(Frozen):
    """A push at the git server: its body decides nothing."""

    secrets: tuple[str, ...]
    daemon: Daemon
    loop: asyncio.AbstractEventLoop

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether GitHub, Gitea or GitLab signed it."""
        return is_signed_by_git(headers, body, self.secrets, time.time())

    def take(self, _body: bytes) -> None:
        """Fetch."""
        self.loop.call_soon_threadsafe(self.daemon.pushed)


class _Event(Frozen):
    """Something that happened at a service: of its body, only the account counts."""

    secrets: tuple[str, ...]
    integration: str
    events: Events
    daemon: Daemon
    loop: asyncio.AbstractEventLoop

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        """Whether it is signed, or has the token, as the manifest says."""
        return any(is_from_service(self.events, headers, body, secret, time.time()) for secret in self.secrets)

    def take(self, body: bytes) -> None:
        """Check the account."""
        account = account_in(body, self.events.account)
        self.loop.call_soon_threadsafe(self.daemon.told, self.integration, account)


def is_from_service(events: Events, headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether a hook is signed with a secret, or has it as its token, as a manifest says."""
    signature, token = events.signature, events.token
    if token is not None:
        return has_token(headers, secret, header=token.header.lower())
    if signature is None or signature.header is None:
        return is_signed_by_the_standard(headers, body, secret, now)
    header, prefix, encoding = signature.header.lower(), signature.prefix, signature.encoding
    return is_signed(headers, body, secret, header=header, prefix=prefix, encoding=encoding)


def account_in(body: bytes, path: str) -> str | None:
    """Return the account that a body names at a path; None if it cannot be read or names none."""
    try:
        content = _content(body)
    except (ValueError, RecursionError):
        return None
    found = as_text(walk(content, path))
    return found if isinstance(found, str) and found.strip() else None


def _content(body: bytes) -> Any:
    """Return a body's JSON, else a form's fields, whatever its type says: not every sender names it.

    A form with a single field `payload` is the JSON in it. Raises ValueError or RecursionError.
    """
    with suppress(ValueError):
        return json.loads(body)
    fields = {name: values[0] for name, values in parse_qs(body.decode(), max_num_fields=MOST_FIELDS).items()}
    return json.loads(fields["payload"]) if fields.keys() == {"payload"} else fields
