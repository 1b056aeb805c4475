"""Know from having rendered a call for one grant that it can be rendered for another, or what it is for that one.

Text of letters, digits and a few signs cannot be a host, climb in a path, end a header, be of another type or be too
long: what can be rendered with one such text can be rendered with any other. If only the URL has such values, the
request for another grant is the same with the values at their places.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from reconciler.model.errors import MissingVariable
from reconciler.model.manifest import AnyCall, Manifest
from reconciler.model.scope import Found, Scope
from reconciler.model.template import names, split
from reconciler.requests.render import headers_of
from reconciler.requests.url import escape, quoted
from reconciler.transports.address import LONGEST
from reconciler.transports.request import RenderedRequest

__all__ = ["Rehearsal"]

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
