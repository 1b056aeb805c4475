"""`POST /hooks/<name>`: git servers and services tell of changes (docs/operations.md, "Pages, health and metrics").

A hook decides nothing by what it says: a push makes the daemon fetch, an event makes it check an account. Whoever
knows no secret is refused, and whoever sends the same hook again causes one more look at most. Hooks are called in
threads that serve `listen`, and act in the daemon's loop.

GitHub and Gitea sign the body with HMAC-SHA256. Standard Webhooks, which GitLab and many services follow, also sign an
id and a time, so that a hook cannot be sent again later. GitLab can send the secret itself instead. All is compared in
constant time.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from reconciler.daemon.hooked import GIT
from reconciler.daemon.loop import Daemon
from reconciler.model.base import as_text
from reconciler.model.errors import SecretsError
from reconciler.model.manifest import Events
from reconciler.model.scope import walk
from reconciler.model.secret import Secret
from reconciler.model.settings import OWN
from reconciler.secrets.initial_data import HOOK_SECRET
from reconciler.web.daemon_view import DaemonView
from reconciler.web.guard import body_of

BODY_BYTES, BODY_SECONDS = 1024 * 1024, 5.0
"""The most bytes of a hook that are read, and the most time to read them."""


@dataclass(frozen=True)
class Hook:
    """One hook."""

    is_signed: Callable[[dict[str, str], bytes], bool]
    """Whether whoever sent these headers and this body knows the secret."""

    take: Callable[[bytes], object]
    """Acts on a body."""


Hooks = Callable[[str], Hook | None]
"""Returns the hook of a name, or None if there is none. Raises SecretsError if its secret cannot be read."""


def hook_route(hooks: Hooks, count: Callable[[str, str], None]) -> Route:
    """Make the route. `count` is called with each hook's name, empty for an unknown one, and its outcome."""

    def refused(name: str, outcome: str, status: int, text: str) -> Response:
        count(name, outcome)
        return PlainTextResponse(f"{text}\n", status_code=status)

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        try:
            body = await body_of(request, BODY_BYTES, BODY_SECONDS)
        except TimeoutError:
            body = None
        try:
            hook = await run_in_threadpool(hooks, name)
        except SecretsError:
            return refused(name, "secret_unreadable", 503, "the secret of this hook cannot be read now")
        if hook is None:
            return refused("", "unknown", 404, "there is no such hook")
        if body is None:
            return refused(name, "cut_off", 408, "the hook did not come to its end")
        if len(body) > BODY_BYTES:
            return refused(name, "too_large", 413, "a hook may have 1 MiB")
        headers = dict(request.headers)
        if not await run_in_threadpool(hook.is_signed, headers, body):
            return refused(name, "unsigned", 401, "not signed with this hook's secret")
        hook.take(body)
        count(name, "accepted")
        return Response(status_code=204)

    return Route("/hooks/{name}", answer, methods=["POST"])


TOLERANCE_SECONDS = 300
"""How old, or how far ahead, the time of a signed hook may be."""


def is_signed_by_git(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float) -> bool:
    """Whether a push is signed as GitHub, Gitea or GitLab sign it."""
    return any(
        is_signed(headers, body, secret, header="x-hub-signature-256", prefix="sha256=")
        or is_signed(headers, body, secret, header="x-gitea-signature")
        or _has_token(headers, secret, header="x-gitlab-token")
        or _is_signed_by_the_standard(headers, body, secret, now)
        for secret in secrets
    )


def is_signed(
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    *,
    header: str,
    prefix: str = "",
    encoding: Literal["hex", "base64"] = "hex",
) -> bool:
    """Whether a header has the body's HMAC-SHA256, after a prefix."""
    made = hmac.digest(secret.encode(), body, "sha256")
    written = made.hex() if encoding == "hex" else base64.b64encode(made).decode()
    said = headers.get(header, "")
    if not said.startswith(prefix):
        return False
    said = said[len(prefix) :]
    return _same(said.lower() if encoding == "hex" else said, written)


def _has_token(headers: Mapping[str, str], secret: str, *, header: str) -> bool:
    """Whether a header is the secret."""
    return _same(headers.get(header, ""), secret)


def _is_signed_by_the_standard(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether the id, the time and the body are signed as Standard Webhooks has it, within five minutes."""
    id_, time, signatures = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (id_ and time.isascii() and time.isdigit() and len(time) < 16 and abs(int(time) - now) <= TOLERANCE_SECONDS):
        return False
    signed = b".".join((id_.encode(), time.encode(), body))
    said = [each.removeprefix("v1,") for each in signatures.split(" ") if each.startswith("v1,")][:10]
    made = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in _keys(secret)]
    return any(_same(one, other) for one in said for other in made)


def _keys(secret: str) -> Iterable[bytes]:
    """Return the keys that a secret may be written for: `whsec_` and base64, base64 alone, or the text itself."""
    bare = secret.removeprefix("whsec_")
    if bare == secret:
        yield secret.encode()
    with suppress(binascii.Error, ValueError):
        if key := base64.b64decode(bare, validate=True):  # an empty one everybody knows
            yield key


def _same(said: str, expected: str) -> bool:
    """Compare what a header said, which is read as Latin-1, with what was expected, byte by byte."""
    return bool(expected) and hmac.compare_digest(said.encode("latin-1", "replace"), expected.encode())


MOST_FIELDS = 1000


def daemon_hooks(daemon: Daemon, view: DaemonView) -> Hooks:
    """Return what finds the hook of a name; to be called in the daemon's loop."""
    loop = asyncio.get_running_loop()

    def hook_of(name: str) -> Hook | None:
        if name == GIT:  # a push: its body decides nothing
            known = [] if view.settings.git.fetch is None else _lines(view.secret(OWN, HOOK_SECRET))
            if not known:
                return None
            return Hook(
                lambda headers, body: is_signed_by_git(headers, body, known, time.time()),
                lambda _body: loop.call_soon_threadsafe(daemon.pushed),
            )
        desired = daemon.runtime.context.last_desired
        loaded = None if desired is None else desired.files.manifests.get(name)
        if loaded is None or loaded.model.events is None:
            return None
        events = loaded.model.events
        service = loaded.model.service or name
        secrets = [line for each in events.secrets for line in _lines(view.secret(service, each))]
        if not secrets:
            raise SecretsError(f"the initial data of {name} has no {' and no '.join(events.secrets)}")
        return Hook(  # something that happened at a service: of its body, only the account counts
            lambda headers, body: any(is_from_service(events, headers, body, each, time.time()) for each in secrets),
            lambda body: loop.call_soon_threadsafe(daemon.told, name, account_in(body, events.account)),
        )

    return hook_of


def _lines(secret: Secret | None) -> list[str]:
    """Return the secrets, which are a line each: an empty one, such as after the last line's end, everybody knows."""
    return [] if secret is None else [each for each in secret.reveal().split("\n") if each.strip()]


def is_from_service(events: Events, headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether a hook is signed with a secret, or has it as its token, as a manifest says."""
    signature, token = events.signature, events.token
    if token is not None:
        return _has_token(headers, secret, header=token.header.lower())
    if signature is None or signature.header is None:
        return _is_signed_by_the_standard(headers, body, secret, now)
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
