"""Pull requests at a forge, GitHub, GitLab, Gitea or Forgejo: open one, and read who approved and who merged one.

The token is `RECONCILE_FORGE_TOKEN` of the environment, and goes to the settings' forge alone: no redirect is followed.
An error is named, and a second try finds what the first one opened. Each request has a bound on its time as a whole and
on what is read of its answer, and can be cancelled at any moment.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from reconciler.model.attribution import Merged
from reconciler.model.errors import ReconcilerError
from reconciler.model.settings import Forge
from reconciler.model.value import Frozen, replace
from reconciler.repository.people import identity, is_named
from reconciler.transports.transport import tls_context

TOKEN = "RECONCILE_FORGE_TOKEN"  # noqa: S105  the variable's name
MAX_ANSWER = 10 << 20
MAX_SHOWN = 300
PAGE, MAX_PAGES = 50, 20
LONGEST_PAUSE = 3600.0
LONGEST_LOGIN = 255
APPROVED = "APPROVED"
WORDS = frozenset({APPROVED, "CHANGES_REQUESTED", "REQUEST_CHANGES", "DISMISSED"})
"""The reviews that say something of approval, as GitHub and Gitea call them; a comment takes nothing back."""


class ForgeError(ReconcilerError):
    """The forge could not be asked, or refused; what was committed and pushed stays."""


class PullRequest(Frozen):
    """A pull request: its number, its address, and who is asked for a review, each login with the forge's id."""

    number: int
    url: str
    reviewers: Mapping[str, int] = {}


class _NotKnown(ForgeError):
    """There is no such thing at the forge, or the token may not see it."""


class Limited(ForgeError):
    """The forge wants to be asked later: after so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


_tls = cache(tls_context)


class ForgeProject:
    """Where the API of one project of a forge is, and how it is asked."""

    def __init__(self, forge: Forge, token: str, timeout: float) -> None:
        self._forge, self._token, self._timeout = forge, token, timeout
        host = urlsplit(forge.url).hostname
        paths = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
        self.base = "https://api.github.com" if host == "github.com" else f"{forge.url.rstrip('/')}{paths[forge.kind]}"
        gitlab, quoted = forge.kind == "gitlab", quote(forge.project, safe="" if forge.kind == "gitlab" else "/")
        self.path = f"/projects/{quoted}" if gitlab else f"/repos/{quoted}"
        self.pulls = f"{self.path}/{'merge_requests' if gitlab else 'pulls'}"
        scheme = "token" if forge.kind == "gitea" else "Bearer"
        accepted = "application/vnd.github+json" if forge.kind == "github" else "application/json"
        headers = {"Authorization": f"{scheme} {token}", "Accept": accepted}
        self._client = httpx.AsyncClient(timeout=timeout, verify=_tls(), follow_redirects=False, headers=headers)
        self._size = "limit" if forge.kind == "gitea" else "per_page"

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def read(self, method: str, path: str, **given: Any) -> Any:
        """Send a request; return what its answer says."""
        return (await self._read(method, path, **given))[1]

    async def listed(self, path: str, params: Mapping[str, str] = {}) -> list[Any]:
        """Return the items of a list, page by page."""
        found: list[Any] = []
        for page in range(1, MAX_PAGES + 1):
            wanted = {**params, self._size: str(PAGE), "page": str(page)}
            answer, items = await self._read("GET", path, params=wanted)
            if not isinstance(items, list):
                raise ForgeError(f"{self.base}{path} answered with no list: look at forge.kind and forge.url")
            found += items
            if _is_last(answer, items, len(found)):
                break
        return found

    async def _read(self, method: str, path: str, **given: Any) -> tuple[httpx.Response, Any]:
        """Return an answer, which is whole within the timeout and no longer than `MAX_ANSWER`, and its JSON."""
        asked, body = f"{method} {self.base}{path}", bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(method, f"{self.base}{path}", **given) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > MAX_ANSWER:
                        raise ForgeError(f"{asked}: the answer is too long: look at forge.url")
        except TimeoutError:
            raise ForgeError(f"{asked}: no answer within {self._timeout:g} seconds; try again") from None
        except httpx.HTTPError as error:
            raise ForgeError(f"{asked}: {str(error) or type(error).__name__}; try again") from None
        if not answer.is_success:
            raise self._failed(asked, answer, body.decode(errors="replace"))
        try:
            return answer, json.loads(body)
        except ValueError as error:
            raise ForgeError(f"{asked}: the answer cannot be read ({error}): look at forge.url") from None

    def _failed(self, asked: str, answer: httpx.Response, text: str) -> ForgeError:
        """Return the error of an answer that is none."""
        code = answer.status_code
        said = " ".join(text.replace(self._token, "***")[:MAX_SHOWN].split())  # a cut token would not be found
        message = f"{asked}: {code} {said}; {_advice(code)}"
        if code in (404, 422):  # GitHub says 422 of a commit that it does not have
            return _NotKnown(message)
        seconds = _pause(answer)
        return ForgeError(message) if seconds is None else Limited(message, seconds)


class ForgeClient(ForgeProject):
    """The calls to one project of a forge."""

    async def find(self, branch: str) -> PullRequest | None:
        """Return the open pull request of a branch; None if there is none."""
        params: dict[str, str]
        match self._forge.kind:
            case "github":
                params = {"head": f"{self._forge.project.partition('/')[0]}:{branch}", "state": "open"}
            case "gitlab":
                params = {"source_branch": branch, "state": "opened"}
            case _:
                params = {"state": "open"}
        found = await self.listed(self.pulls, params)
        pull = next((_pull(each) for each in found if _head(each) in (None, branch)), None)
        return None if pull is None else replace(pull, reviewers={**pull.reviewers, **await self._reviewed(pull)})

    async def open(self, branch: str, base: str, title: str, text: str) -> PullRequest:
        """Open a pull request of a branch into `base`."""
        if self._forge.kind == "gitlab":
            given = {"source_branch": branch, "target_branch": base, "title": title, "description": text}
        else:
            given = {"head": branch, "base": base, "title": title, "body": text}
        return _pull(await self.read("POST", self.pulls, json=given))

    async def ask_reviewers(self, pull: PullRequest, logins: Iterable[str]) -> list[str]:
        """Ask for reviews who is not asked and has given none; return why, for each login whom the forge refuses."""
        path, ids, refused = f"{self.pulls}/{pull.number}", [*pull.reviewers.values()], []
        for login in (login for login in logins if login.lower() not in pull.reviewers):
            try:
                if self._forge.kind == "gitlab":
                    known = await self.read("GET", "/users", params={"username": login})
                    its = [int(each["id"]) for each in known if each["username"].lower() == login.lower()]
                    ids += its[:1] or _nobody()
                    await self.read("PUT", path, json={"reviewer_ids": ids})
                else:
                    await self.read("POST", f"{path}/requested_reviewers", json={"reviewers": [login]})
            except (ForgeError, KeyError, TypeError, ValueError) as error:
                refused.append(f"{login} is not asked for a review: {error}")
        return refused

    async def _reviewed(self, pull: PullRequest) -> Mapping[str, int]:
        """Return who has given a review: GitHub and Gitea name those no more among the ones who are asked."""
        if self._forge.kind == "gitlab":
            return {}
        try:
            return _users(each.get("user") for each in await self.listed(f"{self.pulls}/{pull.number}/reviews"))
        except (ForgeError, AttributeError, TypeError, ValueError):
            return {}  # at worst somebody is asked twice


def _is_last(answer: httpx.Response, items: Sized, read: int) -> bool:
    """Whether no page follows one of these items, the last of so many that were read.

    A forge may have a limit of its own below the page that was asked for, and says then that there is more.
    """
    total = answer.headers.get("X-Total-Count", "")
    more = "next" in answer.links or (total.isdecimal() and read < int(total))
    return not items or (len(items) < PAGE and not more)


def _pause(answer: httpx.Response) -> float | None:
    """Return how long a forge that limits wants to be left alone; None if it does not limit."""
    after = answer.headers.get("Retry-After", "")
    spent = answer.headers.get("X-RateLimit-Remaining") == "0"
    if answer.status_code != 429 and not (answer.status_code in (403, 503) and (after or spent)):
        return None
    return min(float(after), LONGEST_PAUSE) if after.isdecimal() else LONGEST_PAUSE / 60


def git_environment(forge: Forge | None, remote_url: str, token: str | None) -> dict[str, str]:
    """Return what gives git the token, for a remote at the forge's host over https; nothing for any other."""
    remote = urlsplit(remote_url)
    if forge is None or token is None or remote.scheme != "https" or remote.hostname != urlsplit(forge.url).hostname:
        return {}
    user = "x-access-token" if forge.kind == "github" else "oauth2"
    told = base64.b64encode(f"{user}:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.https://{remote.netloc.rpartition('@')[2]}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {told}",
    }


def token_given() -> str | None:
    """Return the token of the environment."""
    return os.environ.get(TOKEN) or None


def _pull(data: Any) -> PullRequest:
    try:
        number = data["iid"] if "iid" in data else data["number"]
        url = str(data["web_url"] if "web_url" in data else data["html_url"])
        asked = data.get("reviewers") or data.get("requested_reviewers") or ()
        return PullRequest(int(number), url, _users(asked))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ForgeError("the forge's answer is no pull request: look at forge.kind and forge.url") from None


def _users(given: Iterable[Any]) -> Mapping[str, int]:
    return {str(each.get("username") or each.get("login")).lower(): int(each.get("id", 0)) for each in given if each}


def _head(data: Any) -> str | None:
    """Return the branch that a pull request is of: none of the project's own if it is of a fork's."""
    if not isinstance(data, dict) or _of_fork(data):
        return ""
    head = data.get("head")
    return data.get("source_branch") or (head.get("ref") if isinstance(head, dict) else None)


def _of_fork(data: Mapping[str, Any]) -> bool:
    """Whether a pull request is of another repository's branch, to which anybody may give the same name."""
    ids = [data.get("source_project_id"), data.get("target_project_id")]
    if ids == [None, None]:
        repos = [(data.get(side) or {}).get("repo") for side in ("head", "base")]
        ids = [repo.get("id") if isinstance(repo, dict) else None for repo in repos]
    return None not in ids and ids[0] != ids[1]


def _nobody() -> list[int]:
    raise ForgeError("the forge knows nobody of that login")


def _advice(code: int) -> str:
    if code in (401, 403):
        return f"look at what the token of {TOKEN} may do"
    if code == 404:
        return "look at forge.project, and at what the token may see"
    if 300 <= code < 400:
        return "no redirect is followed: mend forge.project, which may have another name by now, or forge.url"
    return "try again"


class ApprovalReader(ForgeProject):
    """The merged pull requests of one project. An answer that cannot be read is a ForgeError.

    Of each reviewer the last word counts; who wrote the pull request, or a commit of it, approves nothing.
    """

    async def merged(self, commits: Sequence[str], branch: str) -> Merged | None:
        """Return the pull request that brought the first of these into a branch; the others are merges of it.

        None if the forge knows none.
        """
        try:
            pull = await self._pull(commits, branch)
            return None if pull is None else await self._said_of(pull)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ForgeError(f"the forge's answer cannot be read ({error}): look at forge.kind and forge.url") from None

    async def _pull(self, commits: Sequence[str], branch: str) -> dict[str, Any] | None:
        for commit in commits:
            match self._forge.kind:
                case "github":
                    path = f"{self.path}/commits/{commit}/pulls"
                case "gitlab":
                    path = f"{self.path}/repository/commits/{commit}/merge_requests"
                case _:
                    path = f"{self.path}/commits/{commit}/pull"
            found = await self._known(path) or []
            own = [each for each in ([found] if isinstance(found, dict) else found) if self._is_merged(each, branch)]
            if own:  # of several that have the commit the first one brought it
                return dict(min(own, key=lambda pull: str(pull.get("merged_at") or "")))
        # Not every forge knows of every commit which pull request brought it: a rebased one, a fast-forward.
        params = {**self._closed(branch), self._size: str(PAGE)}
        known = await self.read("GET", self.pulls, params=params)
        closed = (pull for pull in known if self._is_merged(pull, branch) and self._brought(pull, commits))
        return next((dict(pull) for pull in closed), None)

    def _closed(self, branch: str) -> dict[str, str]:
        match self._forge.kind:
            case "github":
                return {"state": "closed", "base": branch, "sort": "updated", "direction": "desc"}
            case "gitlab":
                return {"state": "merged", "target_branch": branch, "order_by": "updated_at"}
            case _:
                return {"state": "closed", "sort": "recentupdate"}

    def _is_merged(self, pull: Mapping[str, Any], branch: str) -> bool:
        if self._forge.kind == "gitlab":
            return bool(pull["state"] == "merged" and pull["target_branch"] == branch)
        return bool(pull.get("merged_at") or pull.get("merged")) and pull["base"]["ref"] == branch

    def _brought(self, pull: Mapping[str, Any], commits: Sequence[str]) -> bool:
        head = pull.get("sha") if self._forge.kind == "gitlab" else (pull.get("head") or {}).get("sha")
        return not {pull.get("merge_commit_sha"), pull.get("squash_commit_sha"), head}.isdisjoint(commits)

    async def _said_of(self, pull: dict[str, Any]) -> Merged:
        number = int(pull["iid"] if self._forge.kind == "gitlab" else pull["number"])
        path = f"{self.pulls}/{number}"
        if self._forge.kind == "github" and "merged_by" not in pull:  # lists leave it out
            pull |= await self._known(path) or {}
        by = pull.get("merge_user") or pull.get("merged_by")
        wrote = pull.get("author") if self._forge.kind == "gitlab" else pull.get("user")
        writers = _Writers([wrote] if wrote else [])
        with suppress(_NotKnown):  # a forge of another release may not have the list
            for commit in await self.listed(f"{path}/commits"):
                writers.add(commit)
        if self._forge.kind == "gitlab":
            approvals = (await self.read("GET", f"{path}/approvals"))["approved_by"]
            approvers = [each["user"] for each in approvals if each["user"]]  # an account that was deleted has none
        else:
            approvers = [*_approvers(await self.listed(f"{path}/reviews"))]
        return Merged(number, tuple(_login(each) for each in approvers if each not in writers), by and _login(by))

    async def _known(self, path: str) -> Any:
        """Return an answer; None where the forge does not know what is asked about."""
        try:
            return await self.read("GET", path)
        except _NotKnown:
            return None


class _Writers:
    """Who wrote a pull request: who opened it, and the authors of its commits."""

    def __init__(self, users: Iterable[Mapping[str, Any]]) -> None:
        self._logins = {_login(user).casefold() for user in users}
        self._people: list[str] = []

    def add(self, commit: Mapping[str, Any]) -> None:
        """Add the author of a commit. A merge brings what others wrote."""
        if len(commit.get("parents") or commit.get("parent_ids") or ()) > 1:
            return
        if commit.get("author"):
            self._logins.add(_login(commit["author"]).casefold())
        by = (commit.get("commit") or {}).get("author") or {}
        name, address = commit.get("author_name") or by.get("name"), commit.get("author_email") or by.get("email")
        self._people.append(f"{name or ''} <{address or ''}>")

    def __contains__(self, user: Mapping[str, Any]) -> bool:
        names = [user.get(key) for key in ("name", "full_name", "email")]
        known = [name for name in names if isinstance(name, str) and (identity(name) or "@" not in name) and name]
        return _login(user).casefold() in self._logins or any(
            is_named(name, person) for name in known for person in self._people
        )


def _approvers(reviews: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield those whose last word is an approval."""
    last: dict[str, Mapping[str, Any]] = {}
    for review in reviews:
        if review.get("user") and review["state"] in WORDS:
            last[_login(review["user"])] = review
    for review in last.values():
        if review["state"] == APPROVED and not review.get("dismissed"):
            yield review["user"]


def _login(user: Mapping[str, Any]) -> str:
    login = str(user["username"] if "username" in user else user["login"])
    return "".join(each for each in login if each.isprintable())[:LONGEST_LOGIN]
