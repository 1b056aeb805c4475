"""Parse URLs into addresses: one strict pattern, whose result is checked against the allowed hosts and connected to."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from reconciler.model.value import Frozen, Unshown

PROGRAM = "exec"
"""The scheme of programs: a URL names one instead of a host."""

HTTP = frozenset({"http", "https"})

Origin = tuple[str, str, int]
"""Scheme, host and port."""

LONGEST = 16_384

_PORTS = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636, "mysql": 3306, "postgresql": 5432, PROGRAM: 0}
_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|ldaps?|postgresql|mysql)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(?::(?P<port>\d{0,5}))?"
    r"|exec:(?P<program>[A-Za-z0-9][A-Za-z0-9_.-]{0,99}))"
    r"(?P<target>[/?][\x21\x22\x24-\x7e]*)?(?:#[\x21-\x7e]*)?",
    re.IGNORECASE | re.ASCII,
)


class Address(Frozen):
    """Where a URL leads; for a program, `host` is `exec:NAME`.

    `target` is what the request line has: path and query, never the fragment.
    """

    scheme: str
    host: str
    port: int
    target: Unshown[str]

    @property
    def origin(self) -> Origin:
        """Return what a redirect must not change."""
        return self.scheme, self.host, self.port

    @property
    def name(self) -> str:
        """Return the host as people write it, with the port unless it is the scheme's default."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def path(self) -> str:
        """Return the target without its query."""
        return self.target.partition("?")[0]

    @property
    def program(self) -> str:
        """Return the name of a program."""
        return self.host.partition(":")[2]


def parse(url: str) -> Address | None:
    """Parse an http or https URL; None for anything else, including one with a user name.

    None for one of more than 16,384 characters, too: no server takes it, and a service that names one on each of its
    pages could fill the memory.
    """
    address = locate(url)
    return address if address is not None and address.scheme in HTTP else None


def locate(url: str) -> Address | None:
    """Parse a URL of any protocol that a request can have; None for anything else, like `parse`."""
    match = _ADDRESS.fullmatch(url) if len(url) <= LONGEST else None
    if match is None:
        return None
    target = match["target"] or "/"
    target = target if target.startswith("/") else f"/{target}"
    if match["program"]:
        if not url.startswith(PROGRAM):  # a manifest's own text is looked at in lower case
            return None
        return Address(PROGRAM, f"{PROGRAM}:{match['program']}", 0, target)
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if not 0 < port < 65536:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1])}]"
        except ValueError:
            return None
    return Address(scheme, host, port, target)
