"""Build URLs from a manifest's text and values.

A value must never change where a request goes: in a path or a query it is percent-encoded, in the host part it may only
be a host and a port, and it must not make a path segment `.`, `..` or empty: without its last segment, a URL that names
one account may name all, as it may with an empty parameter.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from reconciler.model.dn import escaped, filter_escaped, name_valued, parsed
from reconciler.model.errors import Blocked
from reconciler.transports.address import locate

_ILLEGAL = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")
_HEAD = re.compile(r"(?:exec:|[A-Za-z][A-Za-z0-9+.-]*://)[^/?#\\]*")
_DOTS = re.compile(r"(?<![^/])(?:\.|%2[Ee]){1,2}(?![^/])")
"""A segment of a path that leads nowhere, or up."""
_EMPTY_PARAMETER = re.compile("=[&#]?")
"""What is around a value that is empty and all that a parameter of a query has."""
_PATH_ENDS = re.compile(r"[?#]")
_HOST_VALUE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?")


def escape(text: str) -> str:
    """Percent-encode what no URL may contain in its own text; existing escapes such as `%20` are kept."""
    return _ILLEGAL.sub(lambda match: quote(match[0], safe="", errors="replace"), text)


def ascii_host(host: str) -> str:
    """Return a host in lower case, as the DNS spells it. Raises Blocked if it is no valid name."""
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except UnicodeError:
        raise Blocked("the host part of a URL is not a name that a host can have") from None


class UrlBuilder:
    """Builds a URL, together with its form to be shown (docs/design/rules.md, "Variables").

    With `selects`, its query says which account is asked for or taken away: no parameter may come out empty.
    """

    def __init__(self, *, selects: bool) -> None:
        self._selects = selects
        self._text = ""
        self._shown = ""
        self._path_at: int | None = None
        self._values: list[tuple[int, int, str]] = []
        self._climbing: list[tuple[int, str, str]] = []
        """Where values stand of which a part between slashes leads elsewhere, their names, and that part."""

    def add_text(self, text: str) -> None:
        """Add the manifest's own text."""
        before = len(self._text)
        self._append(text)
        self._shown += self._text[before:]

    def add_value(self, name: str, value: str, *, secret: bool) -> None:
        """Add a variable's value at the current place.

        Raises Blocked for a value in the host part that is more than a host and a port.
        """
        before = len(self._text)
        if not self._text:
            if value.lstrip().lower().startswith("exec:"):  # an answer's, for example, may not choose what runs here
                raise Blocked(f"variable {{{{{name}}}}} names a program: a manifest has to write exec:NAME itself")
            self._append(value)
            self._shown += _origin_only(self._text) if secret else self._text
        elif self._path_at is None and _HEAD.fullmatch(self._text):
            if not _HOST_VALUE.fullmatch(value) or self._text.startswith("exec:"):
                raise Blocked(f"variable {{{{{name}}}}} stands in the host part of a URL and is not a host")
            self._text += value
            self._shown += value  # a host name is no secret (docs/design/rules.md, "Secrets")
        else:
            if self._path_at is not None and self._text[:4].lower() == "ldap":
                value = in_url(self._text[self._path_at :], name, value)
            self._text += quoted(value)
            self._shown += "***" if secret else self._text[before:]
            if (part := _climbs(value)) is not None:
                self._climbing.append((before, name, part))
        self._values.append((before, len(self._text), name))

    def add_deferred(self, placeholder: str) -> None:
        """Add a variable without a value yet; at the very start it stands for a whole address."""
        if not self._text:
            self._path_at = 0
        self._text += placeholder
        self._shown += placeholder

    def finish(self) -> tuple[str, str]:
        """Return the URL and its form to be shown. Raises Blocked if values make a path lead elsewhere."""
        self._refuse_detours()
        return _ascii(self._text), self._shown

    def _append(self, text: str) -> None:
        """Add text unchanged; the text before the path stays raw until the host is complete."""
        if self._path_at is not None:
            self._text += escape(text) if text else ""
            return
        text = self._text + text
        head = _HEAD.match(text)
        if head is None or head.end() == len(text):
            self._text = text
        else:
            self._text, self._path_at = text[: head.end()] + escape(text[head.end() :]), head.end()

    def _refuse_detours(self) -> None:
        start = self._path_at if self._path_at is not None else len(self._text)
        path = _PATH_ENDS.split(self._text[start:], maxsplit=1)[0]
        for first, name, part in self._climbing:
            if first - start <= len(path):
                raise Blocked(f"variable {{{{{name}}}}} has {part!r} as a part between slashes of the URL's path")
        for first, last, name in self._values:
            here = first - start
            if first != last:
                continue
            if 0 < here <= len(path) and path[here - 1] == "/" and path[here : here + 1] in ("", "/"):
                raise Blocked(f"variable {{{{{name}}}}} is empty, and would leave a part of the URL's path out")
            if self._selects and here > len(path) and _EMPTY_PARAMETER.fullmatch(self._text[first - 1 : first + 1]):
                raise Blocked(f"variable {{{{{name}}}}} is empty, and the URL's query would ask for every account")
        if not (path.startswith((".", "%2")) or "/." in path or "/%2" in path):
            return  # nearly always: to look at each character takes longer
        for dots in _DOTS.finditer(path):
            for first, last, name in self._values:
                if first <= start + dots.end() and last >= start + dots.start():
                    raise Blocked(f"variable {{{{{name}}}}} would make a part of the URL's path {unquote(dots[0])!r}")


def quoted(value: str) -> str:
    """Percent-encode a value for a path or a query."""
    return quote(value, safe="@").replace("@", "%40")  # `quote` takes a third of the time where it changes nothing


def _climbs(value: str) -> str | None:
    """Return a part between a value's slashes that is `.`, `..` or empty; None if there is none.

    The slashes are percent-encoded, which some servers decode before they look at the path.
    """
    if "/" not in value and "%2" not in value:
        return None
    for text in (value, unquote(value)):
        for part in text.split("/") if "/" in text else ():
            if part in ("", ".", ".."):
                return part
    return None


def _origin_only(url: str) -> str:
    """Return what may be shown of a secret that a URL starts with: its host, and no more."""
    head = _HEAD.match(url)
    if head is None or locate(_ascii(url)) is None:
        return "***"
    return url if url[head.end() :] in {"", "/"} else f"{head[0]}/***"


def _ascii(url: str) -> str:
    if url.isascii():
        return url
    head = _HEAD.match(url)
    if head is None or head[0].isascii():
        return url
    scheme, _, authority = head[0].partition("://")
    return f"{scheme}://{ascii_host(authority)}{url[head.end() :]}"


_ATTRIBUTES = re.compile(r"[A-Za-z0-9;.*+-]+(?:,[A-Za-z0-9;.*+-]+)*")
_ASSERTION = re.compile(r"\(?([A-Za-z0-9;.-]*)(?:~|%3[CcEe]|:[^=()]*)?=([^()]*)")
"""An attribute, how it is compared, `<` and `>` in the form that a URL has them, and what stands before the value."""
_SCOPES = frozenset({"base", "one", "sub"})


def in_url(before: str, name: str, value: str) -> str:
    """Return a value as it stands in a URL before it is percent-encoded; `before` is the URL's target up to it.

    What came of earlier values is percent-encoded there, so that each sign in it is the manifest's own. Raises Blocked.
    """
    if value == "":
        raise Blocked(f"variable {{{{{name}}}}} is empty, and a directory would be asked for others")
    parts = before.removeprefix("/").split("?")
    match len(parts):
        case 1:
            return in_name(parts[0], name, value)
        case 2 if _ATTRIBUTES.fullmatch(value):
            return value
        case 3 if value in _SCOPES:
            return value
        case 4:
            assertion = _ASSERTION.fullmatch(f"({parts[3].rpartition('(')[2]}")
            if assertion is not None:
                inner = in_name(assertion[2], name, value) if name_valued(assertion[1]) else value
                return filter_escaped(inner)
        case _:
            pass
    raise Blocked(f"variable {{{{{name}}}}} stands where a directory's URL takes no such value")


def in_name(before: str, name: str, value: str) -> str:
    """Return a value as it stands in a name after what is `before`."""
    part = re.split(r"[,+]", before)[-1]
    if "=" in part:
        return escaped(value)
    if part.replace("%20", "").strip() or before.endswith("+"):
        raise Blocked(
            f"variable {{{{{name}}}}} stands for the type of an attribute, which a manifest has to write itself"
        )
    if not parsed(value):
        raise Blocked(f"variable {{{{{name}}}}} stands for a whole DN, and its value is none")
    return value
