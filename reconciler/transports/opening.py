"""The transport of each protocol, made when the first request needs it, and the drivers that some need."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.clock import Clock
from reconciler.model.errors import UsageError
from reconciler.model.value import Frozen
from reconciler.repository.git.program import leads_through
from reconciler.transports.address import HTTP, PROGRAM

if TYPE_CHECKING:  # what only validates files needs no event loop
    from reconciler.transports.transport import Transport

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Machine(Frozen):
    """What of this machine a request may use: its programs by name, and the checkout, in which none of them is."""

    programs: Mapping[str, Path] = {}
    root: Path = Path()


def named_programs(given: Iterable[str], root: Path) -> dict[str, Path]:
    """Read `NAME=PATH` of each program: this machine says what a name means, never a commit. Raises UsageError.

    So nothing within the checkout, whose root is `root`, can be one, by a link either.
    """
    found: dict[str, Path] = {}
    for each in given:
        name, _, path = each.partition("=")
        if not _NAME.fullmatch(name) or not path:
            raise UsageError(f"--program {each}: write NAME=PATH, with letters, digits, `.`, `_` and `-` in the name")
        place = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  `resolve` would follow the links
        if found.setdefault(name, place) != place:
            raise UsageError(f"--program {name}: it is named twice, as {found[name]} and as {place}")
        if leads_through(place, root):
            raise UsageError(f"--program {name}: {place} is within the checkout, where a commit could change it")
    return found


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
                from reconciler.transports.program import Programs

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
