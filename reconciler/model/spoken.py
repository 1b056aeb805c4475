"""A request in the words of its protocol: a search, a statement, a program that is run."""

from __future__ import annotations

__all__ = ["described", "verb"]

_OF_DIRECTORIES = {"GET": "search", "POST": "add", "PATCH": "modify", "PUT": "rename", "DELETE": "delete"}


def verb(method: str, scheme: str) -> str:
    """Return what a request does, as its protocol calls it; over HTTP that is the method."""
    match scheme:
        case "ldap" | "ldaps":
            return _OF_DIRECTORIES.get(method, method)
        case "postgresql" | "mysql":
            return "query" if method == "GET" else "statement"
        case "exec":
            return f"run {method}"
        case _:
            return method


def described(method: str, url: str) -> str:
    """Return a request on one line."""
    return f"{verb(method, url.partition(':')[0].lower())} {url}"
