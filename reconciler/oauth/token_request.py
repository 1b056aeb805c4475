"""Requests for tokens: how they differ from an integration's other requests, and how their answers are read.

They are form-encoded unless their own headers say otherwise, and default headers that use `oauth.*` are omitted,
because they would send the token that is being replaced. `code` goes into `data` if there is some, else into the URL,
and PKCE's `code_verifier` always into the body, unless the manifest places them itself (docs/design/rules.md, "OAuth").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from reconciler.model.clock import Clock
from reconciler.model.errors import TransportError
from reconciler.model.manifest import Manifest
from reconciler.model.request import Request
from reconciler.model.scope import Scope, walk
from reconciler.model.secret import Redactor
from reconciler.model.template import names
from reconciler.model.value import Frozen, Unshown
from reconciler.requests.encode import FORM
from reconciler.requests.match import condition_holds, failure
from reconciler.requests.render import render
from reconciler.transports.address import parse
from reconciler.transports.messages import Response

if TYPE_CHECKING:
    from reconciler.requests.client import Client

LONGEST = 64 * 1024
"""Bytes of a reply. It is merged into what is stored, and each secret in it is masked in all output."""

CODE, VERIFIER = "code", "code_verifier"
ACCESS = "access_token"

_TOKENS = frozenset({"access_token", "refresh_token", "id_token"})

_ERROR = re.compile(r"[\w .:/-]{1,80}", re.ASCII)


class TokenRefused(TransportError):
    """The service answered, and refused a token."""


class TokenClient(Frozen, kw_only=True):
    """Asks for a service's tokens, as a manifest says; `scope` holds initial data and `redirect_url`."""

    service: str
    manifest: Manifest
    client: Unshown[Client]
    scope: Unshown[Scope]
    clock: Unshown[Clock]
    redactor: Unshown[Redactor]

    async def ask(self, call: Request, scope: Scope) -> dict[str, Any]:
        """Send a token request and return its reply, which has a token.

        Raises TokenRefused where the service says no, TransportError where it says nothing that can be used, and
        Blocked where a value or the permission to ask its host is missing.
        """
        sent = call.model_copy(update={"headers": _headers(call, self.manifest)})
        wire = render(sent, scope, self.manifest)
        answer = await self.client.send(wire)
        address = parse(wire.url)
        assert address is not None  # else the client had refused to send it
        what = f"{wire.method} {address.name}"
        reply = _reply(answer)
        said = _error(reply)
        if (reason := failure(call, answer)) is not None:
            kind = TokenRefused if answer.status in (400, 401, 403) else TransportError
            # What came with success may be a token, and so may what has the fields of one.
            shown = not 200 <= answer.status < 300 and _TOKENS.isdisjoint(reply or ())
            why = self.client.excerpt(answer) if shown else f" ({said})" if said else ""
            raise kind(f"{what}: {reason}{why}", left=True)
        if len(answer.content) > LONGEST:
            raise TransportError(f"{what}: answered {answer.status} with more than 64 KiB: that is no token", left=True)
        if reply is None:
            raise TransportError(f"{what}: answered {answer.status} with neither JSON nor form fields", left=True)
        if said and ACCESS not in reply:
            raise TokenRefused(f"{what}: answered {answer.status} with the error {said}", left=True)
        if call.continue_if is not None and not condition_holds(call.continue_if, answer, scope):
            where = call.continue_if.response_notation
            raise TokenRefused(f"{what}: continue_if does not hold: {where} is another", left=True)
        if (lacks := lacking(self.manifest, reply)) is not None:
            raise TransportError(
                f"{what}: answered {answer.status} without {lacks}{self.client.excerpt(answer)}", left=True
            )
        return reply


def lacking(manifest: Manifest, reply: Mapping[str, Any]) -> str | None:
    """Return what a reply lacks without which it is no token; None if it has it.

    That is `access_token`, unless the manifest's requests use other fields of the reply instead.
    """
    used = names(manifest.model_dump(exclude={"oauth"}))
    wanted = sorted(name.removeprefix("oauth.") for name in used if name.startswith("oauth."))
    if not wanted or ACCESS in wanted:
        wanted = [ACCESS]
    found = (walk(reply, path) for path in wanted)
    return None if any(each and isinstance(each, str | int) for each in found) else " or ".join(wanted)


def with_code(call: Request) -> Request:
    """Return the request with `{{code}}` and `{{code_verifier}}`, unless the manifest placed them itself."""
    placed = {name for part in (call.url, call.data, call.headers) for name in names(part)}
    absent = {name: f"{{{{{name}}}}}" for name in (CODE, VERIFIER) if name not in placed}
    data = _with_fields(call.data, absent)
    if data is not None:
        return call.model_copy(update={"data": data})
    # The verifier proves who asked: it goes into no URL, which servers and proxies write down.
    code, proof = ({name: absent[name]} if name in absent else {} for name in (CODE, VERIFIER))
    return call.model_copy(update={"url": with_query(call.url, code), "data": proof or call.data})


def with_grant(call: Request, grant: str) -> Request:
    """Return the request with a `grant_type`, if its data has none; a null there is none that is sent."""
    field, data = {"grant_type": grant}, call.data
    if isinstance(data, dict):
        data = {key: value for key, value in {**field, **data}.items() if (key, value) != ("grant_type", None)}
    elif data is None:
        data = field
    elif isinstance(data, str) and "grant_type" not in data:
        parsed = _parsed(data)
        data = {**field, **parsed} if isinstance(parsed, dict) else f"{data}&grant_type={grant}"
    return call.model_copy(update={"data": data})


def _parsed(data: str) -> Any:
    """Return what JSON text holds; None for other text."""
    try:
        return json.loads(data, strict=False)
    except ValueError:
        return None


def with_query(url: str, fields: Mapping[str, str]) -> str:
    """Return the URL with more fields in its query; their values have to be encoded, or placeholders."""
    if not fields:
        return url
    before, hash_mark, fragment = url.partition("#")
    joint = "" if before.endswith(("?", "&")) else "&" if "?" in before else "?"
    return before + joint + "&".join(f"{key}={value}" for key, value in fields.items()) + hash_mark + fragment


def _with_fields(data: Any, fields: Mapping[str, str]) -> Any:
    """Return the data with these fields; None if it cannot take them."""
    if isinstance(data, dict) and data:
        return {**data, **fields}
    if not isinstance(data, str) or not data.strip():
        return None
    parsed = _parsed(data)
    if parsed is None:
        return "&".join([data, *(f"{key}={value}" for key, value in fields.items())]) if "=" in data else None
    return {**parsed, **fields} if isinstance(parsed, dict) and parsed else None


def _headers(call: Request, manifest: Manifest) -> dict[str, str]:
    own = dict(call.headers or {})
    if own:
        typed = any(key.lower() == "content-type" for key in own)
        return own if typed else {**own, "Content-Type": FORM}
    kept = {
        key: value
        for key, value in manifest.headers.items()
        if key.lower() != "content-type" and not any(name.partition(".")[0] == "oauth" for name in names([key, value]))
    }
    return {**kept, "Content-Type": FORM}


def _reply(answer: Response) -> dict[str, Any] | None:
    """Read the answer's fields: JSON, or the form fields that some services still send."""
    content = answer.json()
    if isinstance(content, dict):
        return content
    if content is None and answer.headers.get("content-type", "").lower().startswith((FORM, "text/plain")):
        return dict(parse_qsl(answer.text)) or None
    return None


def _error(reply: Mapping[str, Any] | None) -> str | None:
    """Return the error's name, if the reply has one that can be shown: `invalid_grant`."""
    found = reply.get("error") if reply else None
    if isinstance(found, dict):
        found = found.get("code") or found.get("message") or found.get("type")
    if not isinstance(found, str | int) or isinstance(found, bool) or not found:
        return None
    return str(found) if _ERROR.fullmatch(str(found)) else "an error that cannot be shown"
