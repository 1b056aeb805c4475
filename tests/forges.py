"""Stand-ins for GitHub, GitLab and Gitea: pull requests, and reviewers of whom they know `grace`."""

from __future__ import annotations

import re
from typing import Any

from tests.servers import Received, Reply, Service

TOKEN = "the-token-of-the-forge"
KINDS = ("github", "gitlab", "gitea")


class Stand(Service):
    """Pull requests as a forge keeps them. What each forge says of them is made from `pulls`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pulls: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.reviews: dict[int, list[tuple[str, str]]] = {}
        """By pull request, each login with its word, as GitHub calls it."""
        self.writers: dict[int, list[tuple[str, str, int]]] = {}
        """By pull request, of each commit the author's login and address, and how many parents it has."""
        self.most = 50
        """The most items of a page, whatever was asked for."""
        super().__init__()
        self.project = {
            "github": "/api/v3/repos/acme/access",
            "gitea": "/api/v1/repos/acme/access",
            "gitlab": "/api/v4/projects/acme/access",
        }[kind]
        self.base = f"{self.project}/{'merge_requests' if kind == 'gitlab' else 'pulls'}"

    @property
    def settings(self) -> dict[str, str]:
        """What the settings say of it."""
        return {"kind": self.kind, "url": self.url, "project": "acme/access"}

    def opened(self, branch: str, base: str = "main", by: str = "ada", given: Any = None, *, fork: bool = False) -> int:
        """Open a pull request, and return its number; with `fork` of a branch of another repository."""
        number = len(self.pulls) + 1
        url = f"{self.url}/acme/access/pulls/{number}"
        if self.kind == "gitlab":
            made: dict[str, Any] = {"iid": number, "web_url": url, "source_branch": branch, "target_branch": base}
            made |= {"state": "opened", "author": self._user(by)}
            made |= {"source_project_id": 2 if fork else 1, "target_project_id": 1}
        else:
            made = {"number": number, "html_url": url, "head": {"ref": branch, "sha": ""}, "base": {"ref": base}}
            made["head"]["repo"], made["base"]["repo"] = {"id": 2 if fork else 1}, {"id": 1}
            made |= {"state": "open", "merged_at": None, "user": self._user(by)}
        self.pulls.append({**made, "given": given})
        return number

    def review(self, number: int, *words: str) -> None:
        """Take reviews, each as `login WORD`."""
        self.reviews.setdefault(number, []).extend((login, word) for login, word in map(str.split, words))

    def merged(self, number: int, commit: str, by: str = "ivy", *, known: bool = True) -> None:
        """Note that a pull request was merged as this commit; without `known` only its head is told."""
        pull = self.pulls[number - 1]
        if self.kind == "gitlab":
            pull |= {"state": "merged", "merged_at": "2026-12-01T09:00:00.000Z", "merge_user": self._user(by)}
            pull |= {"merge_commit_sha": commit} if known else {"sha": commit}
        else:
            pull |= {"state": "closed", "merged": True, "merged_at": "2026-12-01T09:00:00Z", "by": self._user(by)}
            pull |= {"merge_commit_sha": commit} if known else {"head": {**pull["head"], "sha": commit}}

    def _user(self, login: str) -> dict[str, Any]:
        user: dict[str, Any] = {"id": 7, "username" if self.kind == "gitlab" else "login": login}
        return user | ({} if self.kind == "github" else {"name": login.title(), "email": f"{login}@example.com"})

    def _reviewer(self, login: str) -> dict[str, Any] | None:
        """Who reviewed; nobody where the account was deleted, which is called `ghost` here."""
        return None if login == "ghost" else self._user(login)

    def handle(self, received: Received) -> Reply:
        reply = self._whole(received)
        if isinstance(reply.body, list) and "page" in received.query:
            first, every = self.most * (int(received.query["page"][0]) - 1), reply.body
            linked = {"Link": '<https://forge.example.com/next>; rel="next"'} if len(every) > first + self.most else {}
            told = {"X-Total-Count": str(len(every))} if self.kind == "gitea" else linked
            return Reply(200, every[first : first + self.most], told)
        return reply

    def _whole(self, received: Received) -> Reply:
        if TOKEN not in received.headers.get("Authorization", ""):
            return Reply(401, {"message": "bad credentials"})
        path = received.path.partition("?")[0]
        if path == self.base and received.method == "GET":
            [state] = received.query.get("state", ["open"])
            return Reply(200, [self._said(each) for each in self.pulls if each["state"] == state])
        if path == self.base and received.method == "POST":
            given = received.json()
            branch, base = given.get("head") or given["source_branch"], given.get("base") or given["target_branch"]
            return Reply(201, self._said(self.pulls[self.opened(branch, base, given=given) - 1]))
        if path == "/api/v4/users":
            name = received.query["username"][0]
            return Reply(200, [{"id": 7, "username": name}] if name == "grace" else [])
        if found := re.fullmatch(f"{self.project}(?:/repository)?/commits/([0-9a-f]+)/(pulls?|merge_requests)", path):
            return self._of_commit(found[1])
        if found := re.fullmatch(f"{self.base}/([0-9]+)(?:/([a-z_]+))?", path):
            return self._of_pull(received, int(found[1]), found[2])
        return Reply(404, {"message": f"no {path}"})

    def _said(self, pull: dict[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """What lists say: GitHub leaves out who merged it."""
        said = {name: value for name, value in pull.items() if name not in ("given", "by")}
        asked = [self._user(login) for login in self.asked if pull is self.pulls[-1]]
        said |= {"reviewers" if self.kind == "gitlab" else "requested_reviewers": asked}
        return said | ({"merged_by": pull["by"]} if "by" in pull and (whole or self.kind == "gitea") else {})

    def _of_commit(self, commit: str) -> Reply:
        found = [self._said(each) for each in self.pulls if each.get("merge_commit_sha") == commit]
        if self.kind == "gitea":
            return Reply(200, found[0]) if found else Reply(404, {"message": "no pull request"})
        return Reply(200, found)

    def _of_pull(self, received: Received, number: int, what: str | None) -> Reply:
        if received.method == "GET":
            match what:
                case None:
                    return Reply(200, self._said(self.pulls[number - 1], whole=True))
                case "commits":
                    return Reply(200, [self._commit(*each) for each in self.writers.get(number, [])])
                case "reviews":
                    words = self.reviews.get(number, [])
                    return Reply(200, [{"user": self._reviewer(login), "state": word} for login, word in words])
                case "approvals":
                    logins = dict(self.reviews.get(number, []))
                    by = [{"user": self._reviewer(login)} for login, word in logins.items() if word == "APPROVED"]
                    return Reply(200, {"approved_by": by})
        if what is None and received.method == "PUT":
            self.asked = ["grace"] if received.json() == {"reviewer_ids": [7]} else ["nobody"]
            return Reply(200, {})
        if what == "requested_reviewers":
            [login] = received.json()["reviewers"]
            if login != "grace":
                return Reply(422, {"message": "no collaborator"})
            self.asked.append(login)
            return Reply(201, {})
        return Reply(404, {"message": f"no {received.path}"})

    def _commit(self, login: str, address: str, parents: int) -> dict[str, Any]:
        if self.kind == "gitlab":
            return {"author_name": login.title(), "author_email": address, "parent_ids": ["a"] * parents}
        by = {"name": login.title(), "email": address}
        return {"author": self._user(login), "commit": {"author": by}, "parents": [{"sha": "a"}] * parents}
