"""Addresses that stand in the settings: where the state is, where to listen, what a host is called, and whose it is."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import PurePosixPath
from urllib.parse import parse_qs, urlsplit

_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*):([0-9]{1,5})")


def listening(value: str) -> str:
    """Return where to listen: a host and a port. Raises ValueError."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ValueError("listen is host:port, such as 127.0.0.1:8080")
    return value


_OF_A_SERVER = frozenset({"host", "port", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert"})
"""What may stand after the `?` of a PostgreSQL URL: where the server is, and how it is spoken to."""


_ONE = r"(?:\[[0-9A-Fa-f:.]+\]|[^@:,\[\]]*)(?::[0-9]{1,5})?"
_SERVERS = re.compile(rf"(?:[^@]+@)?{_ONE}(?:,{_ONE})*")


def state_url(value: str) -> str:
    """Return where the state is: a file's URL or a server's. Raises ValueError."""
    if value.startswith("postgresql://"):
        return _server(value)
    if not value.startswith("sqlite:///"):
        raise ValueError("state is sqlite:///path or postgresql://user@host/database")
    if PurePosixPath(value.removeprefix("sqlite:///")).name in {"", ".."}:
        raise ValueError("state names no file: write sqlite:///path, such as sqlite:///.reconciler/state.db")
    return value


def _server(value: str) -> str:
    """Read a PostgreSQL URL without a password. Errors do not repeat it."""
    try:
        parts = urlsplit(value)
        given = parse_qs(parts.query, keep_blank_values=True)
        password = parts.netloc.rpartition("@")[0].partition(":")[2] or "password" in given
    except ValueError:
        raise ValueError("state is no URL: write postgresql://user@host/database") from None
    if password:
        raise ValueError(
            "a password does not belong here: leave it out of `state`, and give it as STATE_PASSWORD in the "
            "reconciler's initial data (reconcile initial-data set reconciler)"
        )
    if not _SERVERS.fullmatch(parts.netloc):
        raise ValueError("state names no server: write postgresql://user@host:5432/database")
    if not re.fullmatch(r"/[^/@]+", parts.path) or parts.fragment:
        raise ValueError("state names no database: write postgresql://user@host/database")
    if unknown := sorted(given.keys() - _OF_A_SERVER):
        raise ValueError(f"only {', '.join(sorted(_OF_A_SERVER))} may follow the `?`, not {', '.join(unknown)}")
    return value


def web_address(value: str) -> str:
    """Return a web page's address. Raises ValueError where no browser would come to a host by it."""
    if value.startswith(("https://", "http://")) and not _has_host(value):
        raise ValueError("not an address: write it as https://access.example.com")
    return value


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def host_name(value: str) -> str:
    """Return what a host may be called. Raises ValueError."""
    try:
        value.encode("idna" if not value.isascii() else "ascii")
    except UnicodeError as error:
        raise ValueError("not a name that a host can have") from error
    return value


def loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host in ("localhost", "127.0.0.1") or host.endswith(".localhost"):  # the usual ones, before what takes longer
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
