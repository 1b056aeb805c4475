"""Render a manifest's call for a grant into a request that is complete.

`render` needs every value. `outline` and `canonical` show a request before that: for a plan, and for a digest that
shows whether the request has changed; both keep `{{name}}` for values that only a running attempt has.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from reconciler.model.dn import name_valued, parsed
from reconciler.model.errors import Blocked, MissingVariable
from reconciler.model.manifest import AnyCall, Manifest
from reconciler.model.request import PAGE_TOKEN, Call, Exists, Paged, PagedListing, Request, Revoke
from reconciler.model.scope import DEFERRED, Found, Scope
from reconciler.model.secret import MASK, Secret
from reconciler.model.template import PLACEHOLDER, names, split
from reconciler.model.value import replace
from reconciler.requests.encode import FORM, body, structure
from reconciler.requests.protocols import DIRECTORY, SQL, asks_directory, entry, names_in, scheme_of, statement
from reconciler.requests.template import Shown, render_data, render_text, render_url, substitute, written
from reconciler.requests.url import escape, quoted
from reconciler.transports.address import LONGEST
from reconciler.transports.messages import Pritunl, RenderedRequest, login_of

AT_RUN_TIME = frozenset({"oauth", "responses", "redirect_url", "access_overview"})
"""What is known only at run time, and what a digest therefore does not count (docs/design/states.md)."""

OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "accept-encoding"})
"""Headers that say where a message goes, where it ends and how it is packed: the client's, never a manifest's."""

_MAKES = frozenset({"POST", "PUT", "PATCH"})
"""The methods of requests whose query may have a parameter without a value."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def render(
    call: AnyCall, scope: Scope, manifest: Manifest, *, files: Mapping[str, bytes] | None = None
) -> RenderedRequest:
    """Render the request; `files` holds what earlier requests saved, by name.

    Raises Blocked, before anything is sent: MissingVariable for a value that is not there (yet), and where a value
    cannot stand where it should.
    """
    scope = scope.now()
    url = _url(call, scope)
    headers, content = _message(call, headers_of(call, manifest), scope, files or {}, scheme=scheme_of(url.text))
    return RenderedRequest(
        method=call.method,
        url=url.text,
        shown_url=url.shown,
        headers=tuple(headers.values()),
        content=content,
        statuses=frozenset(call.status_code or ()),
        signer=Pritunl(*credentials(scope)) if _signed(call) else None,
    )


def _url(call: AnyCall, scope: Scope) -> Shown:
    return render_url(call.url or "", scope, call.quote, selects=isinstance(call, Revoke) or _selects(call))


def _selects(call: AnyCall) -> bool:
    """Whether what a request has in its data says whose account is meant, as it says in its query.

    It does in a check, a look-up, and what takes access away.
    """
    if isinstance(call, Revoke):
        return call.method != "PUT"  # its data is what takes the place of the account, and may have an empty value
    return isinstance(call, Exists | PagedListing) or (isinstance(call, Request) and call.method not in _MAKES)


def outline(call: AnyCall, scope: Scope) -> dict[str, str]:
    """Return a plan's view of a request: its method and URL, secrets as `***`, unknown values as `{{name}}`.

    Raises Blocked, like `render`, for what is known to be missing.
    """
    return {"method": call.method, "url": _url(call, scope).shown}


def rehearse(call: AnyCall, scope: Scope, manifest: Manifest) -> str:
    """Return the URL, as far as values are known before anything runs.

    Raises Blocked, like `render`, for what could not be sent.
    """
    lasting = steady(scope, manifest)
    known = {name: text for name, text in headers_of(call, manifest).items() if "{{" not in name}
    url = _url(call, lasting).text
    saved = call.files.values() if isinstance(call, Request) else ()
    _message(call, known, lasting, dict.fromkeys(saved, b""), scheme=scheme_of(url))
    if _signed(call):
        credentials(lasting)
    return url


def canonical(call: AnyCall, scope: Scope, manifest: Manifest) -> Any:
    """Return what the request would send, as JSON values. It has secrets, and is for a keyed digest only.

    What differs from run to run (docs/design/states.md: tokens, generated values, responses and what is stored of them)
    stays `{{name}}`. Raises Blocked, like `render`.
    """
    lasting = steady(scope, manifest)
    signed = credentials(lasting) if _signed(call) else []
    return {
        "method": call.method,
        "url": _url(call, lasting).text,
        "headers": render_data(headers_of(call, manifest), lasting),
        "data": render_data(_data(call, lasting), lasting),
        "files": dict(call.files) if isinstance(call, Request) else {},
        "signed": signed,
    }


def question(exists: Exists, scope: Scope, manifest: Manifest) -> Any:
    """Return what a check asks and compares: two entries that ask the same mean one account.

    An address is compared without case, and so is what is compared with `match`: a group's page is asked alike for two
    people. Raises Blocked, like `render`.
    """
    wanted = render_text(exists.expected or "", scope).text
    folded = wanted.lower() if exists.match or "@" in wanted else wanted
    return [canonical(exists, scope, manifest), exists.record or "", exists.match or "", folded]


def expected(text: str, scope: Scope) -> str:
    """Render a check's `expected`. Raises MissingVariable."""
    return substitute(text, scope.now(), str)


def account_expected(exists: Exists, scope: Scope) -> str:
    """Render what a check expects. In a directory that is a name where `match` has names, and values are escaped in it.

    Raises Blocked.
    """
    text, now = exists.expected or "", scope.now()
    named = "=" in text and (name_valued(exists.match) if exists.match else "," in text and _is_name(text))
    if named and asks_directory(exists.url or "", now):
        return str(names_in(text, now))
    return expected(text, now)


def _is_name(template: str) -> bool:
    """Whether a text is a name once values are put in, each of which is a part of it or stands within one."""
    return bool(parsed(PLACEHOLDER.sub("x=x", template)))


def headers_of(call: AnyCall, manifest: Manifest) -> dict[str, str]:
    """Return the request's headers: its own replace all default ones; ChiefOnboarding writes `{}` for none."""
    return call.headers or manifest.headers


def _message(
    call: AnyCall, templates: dict[str, str], scope: Scope, files: Mapping[str, bytes], *, scheme: str
) -> tuple[dict[str, tuple[str, str]], bytes | None]:
    """Render the headers, by lower-case name, and the body."""
    headers = _render_headers(templates, scope)
    if scheme in DIRECTORY:
        _refuse_empty_password(headers)
        return headers, entry(call.method, call.data, scope)
    if scheme in SQL:
        return headers, statement(call.data, scope, selects=_selects(call))
    given = headers["content-type"][1] if "content-type" in headers else FORM if call.cast_data_to_json else None
    content, content_type = body(_data(call, scope), given, scope, _attached(call, files), selects=_selects(call))
    if content_type is not None:
        headers["content-type"] = ("Content-Type", content_type)
    return headers, content


def _data(call: AnyCall, scope: Scope) -> Any:
    """Return what is sent, as the manifest writes it; on a first page, to which no token leads, the token is null."""
    pages = call.pages if isinstance(call, Exists | Paged) else None
    return _without_token(call.data) if pages and all(PAGE_TOKEN not in it.values for it in scope.layers) else call.data


_PLACED = rf"\{{\{{\s*{PAGE_TOKEN}\s*\}}\}}"
_TOKEN_IN_TEXT = re.compile(f'"{_PLACED}"|{_PLACED}')
"""The token in a text, with the quotes that it stands in where the text is JSON."""


def _without_token(data: Any) -> Any:
    match data:
        case str():
            whole = PLACEHOLDER.fullmatch(data)
            if whole is not None and whole[1] == PAGE_TOKEN:
                return None
            return _TOKEN_IN_TEXT.sub("null", data)
        case dict():
            return {key: _without_token(value) for key, value in data.items()}
        case list():
            return [_without_token(value) for value in data]
        case _:
            return data


def _refuse_empty_password(headers: Mapping[str, tuple[str, str]]) -> None:
    """Raise Blocked where a directory would take a login for nobody's: without a password it succeeds, as anonymous."""
    if "authorization" in headers and not all(login_of(headers.values()) or ("",)):
        raise Blocked("a directory's login is Authorization: Basic {{DN}}:{{PASSWORD}}, and neither may be empty")


def _signed(call: AnyCall) -> bool:
    return call.extra_headers == "pritunl"


def _attached(call: AnyCall, files: Mapping[str, bytes]) -> dict[str, tuple[str, bytes]]:
    wanted = call.files if isinstance(call, Request) else {}
    for name in wanted.values():
        if name not in files:
            raise Blocked(f"no earlier request saved a file named {name!r}")
    return {key: (name, files[name]) for key, name in wanted.items()}


def steady(scope: Scope, manifest: Manifest) -> Scope:
    """Return the scope in which what differs from run to run is not known yet."""
    hidden = AT_RUN_TIME | set(manifest.generated) | manifest.stored
    layers = tuple(
        replace(layer, values={name: it for name, it in layer.values.items() if name.partition(".")[0] not in hidden})
        if any(name.partition(".")[0] in hidden for name in layer.values)
        else layer
        for layer in scope.layers
    )
    return Scope(layers, scope.deferred | hidden | {name for layer in scope.saved for name in layer.values})


def _render_headers(templates: dict[str, str], scope: Scope) -> dict[str, tuple[str, str]]:
    """Render headers, by lower-case name. Raises Blocked for one that would end a header early."""
    headers: dict[str, tuple[str, str]] = {}
    for key, template in templates.items():
        name, value = render_text(key, scope).text.strip(), render_text(template, scope).text
        if not _TOKEN.fullmatch(name):
            raise Blocked(f"a header cannot be named as {key!r} comes out")
        if _CONTROL.search(value):
            raise Blocked(f"header {key}: its value has a line break or another control character")
        if name.lower() == "authorization":
            value = _basic(template, value)
        if name.lower() not in OURS:
            headers[name.lower()] = (name, value.strip(" \t"))
    return headers


def _basic(template: str, value: str) -> str:
    """Encode `Basic {{USER}}:{{KEY}}`; what the manifest encoded itself is left unchanged."""
    scheme, _, login = template.partition(" ")
    if scheme.lower() != "basic" or not (PLACEHOLDER.search(login) or ":" in login):
        return value
    return f"{scheme} {base64.b64encode(value.partition(' ')[2].lstrip(' ').encode()).decode()}"


SIGNED_WITH = (("API_TOKEN", "PRITUNL_API_TOKEN"), ("API_SECRET", "PRITUNL_API_SECRET"))
"""The initial data that the signature is made of, by either of ChiefOnboarding's names."""


def credentials(scope: Scope) -> list[str]:
    """Return the token and the secret that requests are signed with. Raises MissingVariable."""
    return [written(_first(scope, *known)) for known in SIGNED_WITH]


def _first(scope: Scope, name: str, other: str) -> Any:
    try:
        return scope.look_up(name).value
    except MissingVariable:
        with suppress(MissingVariable):
            return scope.look_up(other).value
        raise


GENERATED = "(generated)"


class _Masked(Scope):
    """A scope whose secrets are masked, and in which no value is missing."""

    generated: frozenset[str] = frozenset()

    def look_up(self, name: str) -> Found:
        try:
            found = Scope.look_up(self, name)
        except MissingVariable:
            return Found(DEFERRED, False, "nobody knows yet")
        if name in self.generated:
            return replace(found, value=GENERATED)
        secret = found.secret or isinstance(found.value, Secret)
        return replace(found, value=MASK, secret=False) if secret else found


def shown_body(call: Call, scope: Scope, manifest: Manifest) -> Any:
    """Return a request's data with its values put in, as a plan shows it; None without a body.

    Secrets are `***`, generated values `(generated)`, and values that only a run can have stay `{{name}}`.
    """
    if not isinstance(call, Request):
        return None
    data = call.data
    if data is None and not call.files:
        return None
    masked = _Masked(scope.layers, scope.deferred, saved=scope.saved, generated=frozenset(manifest.generated))
    kind = _kind(call, manifest)
    try:
        text = isinstance(data, str) and kind == FORM
        shown = render_text(data, masked).text if text else structure(data, kind, masked)
    except Blocked as error:
        return f"({error})"
    if not call.files:
        return shown
    attached = {field: f"(the file {name})" for field, name in call.files.items()}
    return {**(shown if isinstance(shown, dict) else {}), **attached}


def _kind(call: Request, manifest: Manifest) -> str:
    """Return the media type that the headers name, as far as they have no placeholders."""
    headers = {name.lower(): value for name, value in headers_of(call, manifest).items()}
    usual = FORM if call.cast_data_to_json else "application/json"
    return headers.get("content-type", usual).partition(";")[0].strip().lower()


# --- requests that are known before they are rendered -----------------------------------------------------------------
# Text of letters, digits and a few signs cannot be a host, climb in a path, end a header, be of another type or be too
# long: what can be rendered with one such text can be rendered with any other. If only the URL has such values, the
# request for another grant is the same with the values at their places.

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,199}")

_LONGEST_PLAIN = 3 * 200
"""Characters of the longest plain text, percent-encoded."""

_AUTHORITY = re.compile(r"\s*https?://[^/?#{]+[/?#]", re.IGNORECASE)
"""The beginning of a URL whose host holds no variable."""


class Rehearsal:
    """What is known of rendering one call.

    The variables `own` have one value for every grant; so have those `at_run_time`, for as long as a request takes.
    """

    def __init__(self, call: AnyCall, manifest: Manifest, own: AbstractSet[str], at_run_time: AbstractSet[str]) -> None:
        headers, url = headers_of(call, manifest), call.url or ""
        used, fixed = names([url, list(headers.values()), call.data]), own | at_run_time
        self._varying = tuple(name for name in sorted(used) if name.partition(".")[0] not in fixed)
        signed = bool(call.extra_headers)  # with values that it does not name
        short = len(url) + _LONGEST_PLAIN * url.count("{{") <= LONGEST
        self._possible = short and not signed and _AUTHORITY.match(url) is not None and not names(list(headers))
        self._passed = False
        self._parts = split(url.strip())
        elsewhere = names(list(headers.values())) <= own and not call.data
        self._fills = self._possible and elsewhere and set(self._parts[1::2]) <= own | set(self._varying)
        self._slots = tuple(name for name in self._parts[1::2] if name not in own)
        self._form: tuple[RenderedRequest, str] | None = None
        """A request, and its URL with `%s` where the values of a grant stand."""

    def rendered(self, scope: Scope, render: Callable[[Scope], RenderedRequest]) -> RenderedRequest | None:
        """Render the call; None where it is known that it can be rendered. Raises Blocked."""
        plain = self._possible and all(_plain(name, scope) for name in self._varying)
        if plain and self._passed:
            return None
        wire = render(scope)
        self._passed = self._passed or plain
        return wire

    def filled(self, scope: Scope, render: Callable[[Scope], RenderedRequest]) -> RenderedRequest:
        """Render the call, or fill another grant's request with the values of this one. Raises Blocked."""
        if not self._fills:
            return render(scope)
        values = []
        for name in self._slots:
            found = _plain(name, scope)
            if found is None or found.secret:
                return render(scope)
            values.append(quoted(found.value))
        if self._form is None:
            return self._first(scope, values, render(scope))
        wire, form = self._form
        url = form % tuple(values)
        return RenderedRequest(
            wire.method, url, url, headers=wire.headers, content=wire.content, statuses=wire.statuses
        )

    def _first(self, scope: Scope, values: list[str], wire: RenderedRequest) -> RenderedRequest:
        """Keep a rendered request to be filled, if its URL comes out of it with these values."""
        puts = dict.fromkeys(self._slots, "%s")
        for name in set(self._parts[1::2]) - puts.keys():
            own = _plain(name, scope)
            puts[name] = "" if own is None else quoted(own.value).replace("%", "%%")
        texts = [escape(text).replace("%", "%%") for text in self._parts[::2]]
        rest = zip(self._parts[1::2], texts[1:], strict=True)
        form = texts[0] + "".join(puts[name] + text for name, text in rest)
        self._fills = wire.url == wire.shown_url == form % tuple(values)
        self._form = (wire, form) if self._fills else None
        return wire


def _plain(name: str, scope: Scope) -> Found | None:
    """Look a variable up; None if its value is no plain text."""
    try:
        found = scope.look_up(name)
    except MissingVariable:
        return None
    return found if type(found.value) is str and _PLAIN.fullmatch(found.value) is not None else None
