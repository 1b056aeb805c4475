"""Stand-ins for GitHub, GitLab and Gitea: pull requests, and reviewers of whom they know `grace`."""

from __future__ import annotations

from typing import Any

from tests.servers import Received, Reply, Service

__all__ = ["TOKEN", "Stand"]

TOKEN = "the-token-of-the-forge"


class Stand(Service):
    """Pull requests as a forge keeps them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pulls: list[dict[str, Any]] = []
        self.asked: list[str] = []
        super().__init__()
        base = {
            "github": "/api/v3/repos/acme/access/pulls",
            "gitea": "/api/v1/repos/acme/access/pulls",
            "gitlab": "/api/v4/projects/acme/access/merge_requests",
        }[kind]
        self.base = base

    def handle(self, received: Received) -> Reply:
        if TOKEN not in received.headers.get("Authorization", ""):
            return Reply(401, {"message": "bad credentials"})
        path = received.path.partition("?")[0]
        if path == self.base and received.method == "GET":
            return Reply(200, self.pulls)
        if path == self.base and received.method == "POST":
            given = received.json()
            number = len(self.pulls) + 1
            branch = given.get("head") or given["source_branch"]
            made = {"number": number, "html_url": f"{self.url}/acme/access/pulls/{number}", "head": {"ref": branch}}
            if self.kind == "gitlab":
                made = {"iid": number, "web_url": f"{self.url}/acme/access/pulls/{number}", "source_branch": branch}
            self.pulls.append({**made, "given": given})
            return Reply(201, made)
        if path == "/api/v4/users":
            name = received.query["username"][0]
            return Reply(200, [{"id": 7, "username": name}] if name == "grace" else [])
        if path == f"{self.base}/1" and received.method == "PUT":
            self.asked = ["grace"] if received.json() == {"reviewer_ids": [7]} else ["nobody"]
            return Reply(200, {})
        if path == f"{self.base}/1/requested_reviewers":
            [login] = received.json()["reviewers"]
            if login != "grace":
                return Reply(422, {"message": "no collaborator"})
            self.asked.append(login)
            return Reply(201, {})
        return Reply(404, {"message": f"no {path}"})
