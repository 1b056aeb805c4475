"""A service with a way of its own: 200 with `ok: false`, a nested list in pages by cursor, and removal by an id."""

from __future__ import annotations

from typing import Any

from tests.servers import Received, Reply, Service

PAGE = 3


class OddService(Service):
    """`GET /api/people.find?mail=`, `GET /api/people.all?cursor=`, `POST /api/people.add`, `.rank`, `.drop`."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token
        self.people: list[dict[str, Any]] = []
        for path, answer in (("find", self._find), ("all", self._all)):
            self.route("GET", f"/api/people.{path}", answer)
        for path, change in (("add", self._add), ("rank", self._rank), ("drop", self._drop)):
            self.route("POST", f"/api/people.{path}", change)

    def handle(self, received: Received) -> Reply:
        if received.headers.get("X-Api-Key") != self.token:
            return Reply(200, {"ok": False, "fault": {"code": "bad_key"}})
        return super().handle(received)

    def add(self, *mails: str, rank: str = "crew") -> None:
        """People whom somebody else made."""
        for mail in mails:
            number = len(self.people) + 1
            person = {"pid": f"p-{number:04}", "contact": {"mail": mail}, "rank": {"name": rank}, "off": False}
            self.people.append(person)

    def _find(self, received: Received) -> Any:
        (mail,) = received.query.get("mail", [""])
        found = [each for each in self.people if each["contact"]["mail"] == mail]
        if not found:
            return {"ok": False, "fault": {"code": "no_such_person"}}
        return {"ok": True, "result": {"person": found[0]}}

    def _all(self, received: Received) -> Any:
        start = int(received.query.get("cursor", ["0"])[0] or 0)
        page, after = self.people[start : start + PAGE], start + PAGE
        cursor = str(after) if after < len(self.people) else ""
        return {"ok": True, "result": {"people": page}, "meta": {"cursor_next": cursor}}

    def _add(self, received: Received) -> Any:
        asked = received.json()
        if any(each["contact"]["mail"] == asked["mail"] for each in self.people):
            return {"ok": False, "fault": {"code": "already_there"}}
        self.add(asked["mail"], rank=asked["rank"])
        return {"ok": True, "result": {"pid": self.people[-1]["pid"]}}

    def _rank(self, received: Received) -> Any:
        asked = received.json()
        for each in self.people:
            if each["pid"] == asked["pid"]:
                each["rank"]["name"] = asked["rank"]
                return {"ok": True}
        return {"ok": False, "fault": {"code": "no_such_person"}}

    def _drop(self, received: Received) -> Any:
        left = [each for each in self.people if each["pid"] != received.json()["pid"]]
        gone, self.people = len(left) < len(self.people), left
        return {"ok": True} if gone else {"ok": False, "fault": {"code": "no_such_person"}}
