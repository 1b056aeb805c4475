"""The transport of each protocol, made when the first request needs it, and the drivers that some need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reconciler.model.clock import Clock
from reconciler.model.value import Frozen
from reconciler.transports.address import HTTP, PROGRAM
from reconciler.transports.transport import Transport

__all__ = ["Machine", "Transports", "missing_driver"]


class Machine(Frozen):
    """What of this machine a request may use: its programs by name, and the checkout, in which none of them is."""

    programs: Mapping[str, Path] = {}
    root: Path = Path()


class Transports:
    """The transports of one service. `seconds` is the time that a request may take."""

    def __init__(self, clock: Clock, seconds: float, machine: Machine, redact: Callable[[str], str]) -> None:
        """Raises UsageError if the environment's proxy cannot be used."""
        from reconciler.transports.http.transport import Http

        self._seconds = seconds
        self._machine = machine
        self._redact = redact
        self._open: dict[str, Transport] = dict.fromkeys(HTTP, Http(clock, seconds))

    def of(self, scheme: str) -> Transport:
        """Return the transport of a URL's scheme."""
        known = self._open.get(scheme)
        if known is None:
            known = self._open[scheme] = self._made(scheme)
        return known

    def _made(self, scheme: str) -> Transport:
        match scheme:
            case _ if scheme == PROGRAM:
                from reconciler.transports.program.transport import Programs

                return Programs(self._machine.programs, self._machine.root, self._redact)
            case "postgresql":
                from reconciler.transports.sql.postgres import Postgres

                return Postgres(self._seconds)
            case "ldap" | "ldaps":
                from reconciler.transports.ldap.transport import Ldap

                return Ldap(self._seconds)
            case "mysql":
                from reconciler.transports.sql.mysql import MySql

                return MySql(self._seconds)
            case _:
                raise ValueError(scheme)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._open.values():
            await transport.aclose()


_DRIVERS = {
    "ldap": ("ldap", "python-ldap", "ldap"),
    "ldaps": ("ldap", "python-ldap", "ldap"),
    "mysql": ("pymysql", "PyMySQL", "sql"),
    "postgresql": ("psycopg", "psycopg", "sql"),
}
"""By scheme: the module, the package, and the extra that installs it."""


@cache
def missing_driver(scheme: str) -> str | None:
    """Return what to install before a protocol can be spoken; None where nothing lacks."""
    if scheme not in _DRIVERS:
        return None
    module, package, extra = _DRIVERS[scheme]
    if find_spec(module) is not None:
        return None
    return f"{scheme}:// needs {package}, which is not installed: pip install 'access-reconciler[{extra}]'"
