"""Asana on loopback: as much of its documented API as the sample manifest uses, in memory.

Bearer token, `data` envelope, Asana's own error bodies. After `POST /fail-once`, which is no part of Asana's API and
which the demo uses, the next `addUser` meets an internal error.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PORT = 8901
ORGANIZATION = "1200"
TEAMS = {"1201": "Engineering", "1202": "Design", "1203": "Operations"}

_ROUTE = re.compile(r"/api/1\.0/(users|workspaces|organizations|teams)/([^/]+)(?:/(addUser|teams))?")
_HELP = "For more information on API status codes and how to handle them, read the docs on errors"


class _Refused(Exception):
    """An error answer: a status and Asana's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Asana:
    """The WSGI application and its state. `people` maps an address to the person, `members` a team to addresses."""

    token: str = field(repr=False)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, set[str]] = field(default_factory=lambda: {team: set() for team in TEAMS})
    _broken: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Handle one request, as WSGI calls it."""
        try:
            with self._lock:
                status, answer = 200, {"data": self._answer(environ)}
        except _Refused as refused:
            status = refused.status
            answer = {"errors": [{"message": refused.message, "help": _HELP}]}
        body = json.dumps(answer).encode()
        sent = {"Content-Type": "application/json; charset=UTF-8", "Content-Length": str(len(body))}
        start(f"{status} {HTTPStatus(status).phrase}", list(sent.items()))
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> Any:
        if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/fail-once"):
            self._broken = True
            return "the next addUser is answered 500"
        if environ.get("HTTP_AUTHORIZATION") != f"Bearer {self.token}":
            raise _Refused(401, "Not Authorized")
        if self._broken and environ["PATH_INFO"].endswith("/addUser"):
            self._broken = False
            raise _Refused(500, "Server Error")
        found = _ROUTE.fullmatch(environ["PATH_INFO"])
        match (environ["REQUEST_METHOD"], *(found.groups() if found else ())):
            case "GET", "users", who, None:
                return self._person(who)
            # Its documentation has GET; the original manifest leaves the method to its default, which is POST.
            case "GET" | "POST", "organizations", gid, "teams":
                self._organization(gid)
                return [{"gid": team, "name": name, "resource_type": "team"} for team, name in TEAMS.items()]
            case "POST", "workspaces", gid, "addUser":
                self._organization(gid)
                return self._add(_user(environ))
            case "POST", "teams", team, "addUser":
                return self._join(team, _user(environ))
            case _:
                raise _Refused(404, "No matching route for request")

    def _organization(self, gid: str) -> None:
        if gid != ORGANIZATION:
            raise _Refused(404, f"workspace: Unknown object: {gid}")

    def _person(self, who: str) -> dict[str, Any]:
        for email, person in self.people.items():
            if who.lower() in (email, person["gid"]):
                return person
        raise _Refused(404, f"user: Unknown object: {who}")

    def _add(self, email: str) -> dict[str, Any]:
        if email not in self.people:
            workspace = {"gid": ORGANIZATION, "name": "Example", "resource_type": "workspace"}
            gid, name = str(5001 + len(self.people)), email.partition("@")[0]
            person = {"gid": gid, "resource_type": "user", "name": name, "email": email, "workspaces": [workspace]}
            self.people[email] = person
        return self.people[email]

    def _join(self, team: str, email: str) -> dict[str, Any]:
        if team not in TEAMS:
            raise _Refused(404, f"team: Unknown object: {team}")
        person = self._person(email)
        self.members[team].add(email)
        return {
            "gid": f"{team}{person['gid']}",
            "resource_type": "team_membership",
            "team": {"gid": team, "name": TEAMS[team], "resource_type": "team"},
            "user": {key: person[key] for key in ("gid", "name", "resource_type")},
        }


def _user(environ: WSGIEnvironment) -> str:
    """Return the `user` of a request's `data`, in lower case."""
    raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        return str(json.loads(raw)["data"]["user"]).lower()
    except (ValueError, KeyError, TypeError) as error:
        raise _Refused(400, "user: Missing input") from error
