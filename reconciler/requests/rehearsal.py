"""Know from having rendered a call for one grant that it can be rendered for another.

Text of letters, digits and a few signs cannot be a host, climb in a path, end a header, be of another type or be too
long: what can be rendered with one such text can be rendered with any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from reconciler.model.errors import MissingVariable
from reconciler.model.manifest import AnyCall, Manifest
from reconciler.model.scope import Scope
from reconciler.model.template import names
from reconciler.requests.render import headers_of
from reconciler.transports.address import LONGEST
from reconciler.transports.request import RenderedRequest

__all__ = ["Rehearsal"]

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,199}")

_LONGEST_PLAIN = 3 * 200
"""Characters of the longest plain text, percent-encoded."""

_AUTHORITY = re.compile(r"\s*https?://[^/?#{]+[/?#]", re.IGNORECASE)
"""The beginning of a URL whose host holds no variable."""


class Rehearsal:
    """What is known of rendering one call, for grants of which a listing tells the state.

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

    def rendered(self, scope: Scope, render: Callable[[Scope], RenderedRequest]) -> RenderedRequest | None:
        """Render the call; None where it is known that it can be rendered. Raises Blocked."""
        plain = self._possible and all(_plain(name, scope) for name in self._varying)
        if plain and self._passed:
            return None
        wire = render(scope)
        self._passed = self._passed or plain
        return wire


def _plain(name: str, scope: Scope) -> bool:
    """Whether a variable's value is plain text."""
    try:
        value = scope.look_up(name).value
    except MissingVariable:
        return False
    return type(value) is str and _PLAIN.fullmatch(value) is not None
