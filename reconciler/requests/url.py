"""A URL as text that is put together from a manifest's own words and from values, and as the address it leads to.

A value may never change where a request goes: in a path or a query it is percent-encoded whole, in the host part it
may be a host and a port and nothing else, and it may not turn a path segment into `.`, `..` or nothing: without its
last segment a URL that names one account names all of them. The address is read by one strict pattern, and what it
reads is what is checked against the allowed hosts and what is connected to.
"""

from __future__ import annotations

import re
from dataclasses import field
from functools import lru_cache
from ipaddress import IPv6Address
from urllib.parse import quote, unquote

from reconciler.model.errors import Blocked
from reconciler.model.value import value_class

__all__ = ["LONGEST", "Address", "Builder", "Origin", "ascii_host", "escape", "parse"]

Origin = tuple[str, str, int]
"""Scheme, host and port."""

LONGEST = 16_384

KEPT = 1000
"""Characters of a manifest's text whose escaped form is kept: longer ones would fill the memory."""

_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(?::(?P<port>\d{0,5}))?"
    r"(?P<target>[/?][\x21\x22\x24-\x7e]*)?(?:#[\x21-\x7e]*)?",
    re.IGNORECASE | re.ASCII,
)
_ILLEGAL = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")
_HEAD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\\]*")
_DOTS = re.compile(r"(?<![^/])(?:\.|%2[Ee]){1,2}(?![^/])")
"""A segment of a path that leads nowhere, or up."""
_PATH_ENDS = re.compile(r"[?#]")
_HOST_VALUE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?")


@value_class
class Address:
    """Where a URL leads. `target` is what the request line holds: path and query, never the fragment."""

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)

    @property
    def origin(self) -> Origin:
        """What a redirect may not change."""
        return self.scheme, self.host, self.port

    @property
    def name(self) -> str:
        """The host as people write it, with the port where it is not the scheme's own."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def parse(url: str) -> Address | None:
    """The address of an http or https URL; None for anything else, a user name before the host included.

    None for one of more than 16,384 characters, too: no server takes it, and a service that names one on each of its
    pages could fill the memory.
    """
    return _parsed(url) if len(url) <= LONGEST else None


@lru_cache(maxsize=1024)
def _parsed(url: str) -> Address | None:
    match = _ADDRESS.fullmatch(url)
    if match is None:
        return None
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    target = match["target"] or "/"
    return Address(scheme, host, port, target if target.startswith("/") else f"/{target}")


def escape(text: str) -> str:
    """A URL's own text with what no URL may hold percent-encoded; everything else, `%20` too, is left alone."""
    return _ILLEGAL.sub(lambda match: quote(match[0], safe="", errors="replace"), text)


def ascii_host(host: str) -> str:
    """A host, with or without a port, in lower case and as the DNS spells it. Raises Blocked where there is no such."""
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode().lower()
    except UnicodeError:
        raise Blocked("the host part of a URL is not a name that a host can have") from None


class Builder:
    """A URL under construction, with beside it the text that may be shown (docs/design/rules.md, "Variables")."""

    def __init__(self) -> None:
        self._text = ""
        self._shown = ""
        self._path_at: int | None = None
        self._values: list[tuple[int, int, str]] = []

    def add_text(self, text: str) -> None:
        """The manifest's own text."""
        before = len(self._text)
        if before or len(text) > KEPT:
            self._append(text)
        else:  # how every URL of a manifest's call begins
            self._text, self._path_at = _kept_beginning(text)
        self._shown += self._text[before:]

    def add_value(self, name: str, value: str, *, secret: bool) -> None:
        """A variable's value, at the place that the text so far has reached.

        Raises Blocked for a value in the host part that is more than a host and a port.
        """
        before = len(self._text)
        if not self._text:
            self._append(value)
            self._shown += _origin_only(self._text) if secret else self._text
        elif self._path_at is None and _HEAD.fullmatch(self._text):
            if not _HOST_VALUE.fullmatch(value):
                raise Blocked(f"variable {{{{{name}}}}} stands in the host part of a URL and is not a host")
            self._text += value
            self._shown += value  # a host name is no secret (docs/design/rules.md, "Secrets")
        else:
            self._text += quote(value, safe="")
            self._shown += "***" if secret else self._text[before:]
        self._values.append((before, len(self._text), name))

    def add_deferred(self, placeholder: str) -> None:
        """A variable that has no value yet; at the very start it is taken for a whole address."""
        if not self._text:
            self._path_at = 0
        self._text += placeholder
        self._shown += placeholder

    def finish(self) -> tuple[str, str]:
        """The URL and the text that may be shown of it. Raises Blocked where values make a path lead elsewhere."""
        self._refuse_detours()
        return _ascii(self._text), self._shown

    def _append(self, text: str) -> None:
        """Text that is taken as it is; what stands before the path stays raw until the host is complete."""
        if self._path_at is not None:
            self._text += escape(text) if text else ""
            return
        self._text, self._path_at = _beginning(self._text + text)

    def _refuse_detours(self) -> None:
        start = self._path_at if self._path_at is not None else len(self._text)
        path = _PATH_ENDS.split(self._text[start:], maxsplit=1)[0]
        for first, last, name in self._values:
            here = first - start
            if first == last and 0 < here <= len(path) and path[here - 1] == "/" and path[here : here + 1] in ("", "/"):
                raise Blocked(f"variable {{{{{name}}}}} is empty, and would leave a part of the URL's path out")
        if not (path.startswith((".", "%2")) or "/." in path or "/%2" in path):
            return  # nearly always: to look at each character takes longer
        for dots in _DOTS.finditer(path):
            for first, last, name in self._values:
                if first <= start + dots.end() and last >= start + dots.start():
                    raise Blocked(f"variable {{{{{name}}}}} would make a part of the URL's path {unquote(dots[0])!r}")


def _beginning(text: str) -> tuple[str, int | None]:
    """A URL's first text, with what follows the host escaped; and where that begins, None where nothing does yet."""
    head = _HEAD.match(text)
    if head is None or head.end() == len(text):
        return text, None
    return text[: head.end()] + escape(text[head.end() :]), head.end()


_kept_beginning = lru_cache(maxsize=1024)(_beginning)


def _origin_only(url: str) -> str:
    """What may be shown of a secret that a URL starts with: its host, which is no secret, and no more."""
    head = _HEAD.match(url)
    if head is None or parse(_ascii(url)) is None:
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
