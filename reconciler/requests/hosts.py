"""Where requests may go: to allowed hosts, encrypted unless on loopback (docs/design/rules.md, "Hosts").

The hosts that a manifest names are the default list; a host that comes from a value is never on it and has to be
listed. A program is no host: this machine says which ones there are. The same strict parser of URLs
(`reconciler.transports.address.locate`) is used here and for connecting.
"""

from __future__ import annotations

import re
from functools import cached_property

from reconciler.model.addresses import loopback
from reconciler.model.errors import Blocked, HostNotAllowed, NotInstalled
from reconciler.model.manifest import Manifest, paging_of
from reconciler.model.value import Frozen
from reconciler.requests.url import ascii_host
from reconciler.transports.address import HTTP, LONGEST, PROGRAM, Address, locate, parse
from reconciler.transports.opening import missing_driver

_AUTHORITY = re.compile(r"(?:https?|ldaps?|postgresql|mysql)://([^/?#\\\s]*)", re.IGNORECASE)
_PROGRAM = re.compile(r"exec:[^/?#\\\s]*")
_PLAIN = frozenset({"http", "ldap"})
"""Schemes without encryption, whose encrypted form is another scheme."""


def written_hosts(manifest: Manifest) -> dict[str, list[str]]:
    """Return the hosts that the manifest's requests name literally, with the places that name them.

    A host with a placeholder in it, or behind one, is not written out.
    """
    found: dict[str, list[str]] = {}
    for place, call in manifest.calls():
        urls = [call.url]
        if (paging := paging_of(call)) is not None:
            urls.append(paging[1].next_page)
        for url in urls:
            host = written_host(url or "")
            if host is not None and place not in found.setdefault(host, []):
                found[host].append(place)
    return found


def named_hosts(manifest: Manifest) -> frozenset[str]:
    """Return the hosts that requests go to, and the one a browser is sent to, as the manifest names them."""
    browser = written_host(manifest.oauth.authenticate_url or "") if manifest.oauth is not None else None
    return frozenset({*written_hosts(manifest), *([browser] if browser is not None else [])})


def written_host(url: str) -> str | None:
    """Return a URL's host, with its port if it has one, or `exec:NAME`; None if it has a placeholder in it, or none."""
    program = _PROGRAM.match(url.strip())
    if program is not None:
        return program[0] if locate(program[0]) is not None else None
    match = _AUTHORITY.match(url.strip())
    if match is None or "{{" in match[1]:
        return None
    try:
        host = ascii_host(match[1]).removesuffix(":")
    except Blocked:
        return None
    return host if parse(f"https://{host}/") is not None else None


class AllowedHosts(Frozen, dict=True):
    """The hosts that requests may go to; one without a port allows every port. `programs` are this machine's.

    `plain` allows requests without encryption: of what says nothing to others, and whose answer is signed.
    """

    hosts: frozenset[str]
    programs: frozenset[str] = frozenset()
    plain: bool = False

    def check(self, url: str, file: str) -> Address:
        """Return the address that the URL leads to; `file` is the manifest that the URL is from.

        Raises HostNotAllowed, which names host and file, never more of the URL, and NotInstalled for a program or a
        driver that is not here.
        """
        address = locate(url)
        if len(url) > LONGEST:
            raise HostNotAllowed(f"{file}: a URL of {len(url):,} characters: no server takes more than {LONGEST:,}")
        if address is None:
            raise HostNotAllowed(f"{file}: a URL does not start with https:// and a host, with or without a port")
        if not self.allow(address):
            if address.scheme == PROGRAM:
                raise NotInstalled(
                    f"{file}: {address.name} is no program of this machine: name it with --program "
                    f"{address.program}=PATH, or in RECONCILE_PROGRAM"
                )
            raise HostNotAllowed(
                f"{file}: host {address.name} is not allowed: add it to allowed_hosts in config/reconciler.yaml"
            )
        if address.scheme in _PLAIN and not (self.plain or loopback(address.host)):
            scheme = address.scheme
            raise HostNotAllowed(f"{file}: host {address.name} is to be asked over {scheme}: only {scheme}s is allowed")
        if address.scheme not in HTTP and (missing := self.lacking(address)) is not None:
            raise NotInstalled(f"{file}: {missing}")
        return address

    def lacking(self, address: Address) -> str | None:
        """Return what has to be installed first; None if nothing has."""
        return missing_driver(address.scheme)

    def allow(self, address: Address) -> bool:
        """Whether the host is on the list, or the program is one of this machine."""
        if address.scheme == PROGRAM:
            return address.program in self.programs
        return address.host in self._spelled or f"{address.host}:{address.port}" in self._spelled

    @cached_property
    def _spelled(self) -> frozenset[str]:
        return frozenset(ascii_host(host) for host in self.hosts)
