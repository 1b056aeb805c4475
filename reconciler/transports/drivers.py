"""Which protocols need a driver that is installed only where it is asked for."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

__all__ = ["missing_driver"]

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
