"""Open pull requests at a forge: GitHub, GitLab, Gitea and Forgejo; `approvals` reads who approved one.

The token is `RECONCILE_FORGE_TOKEN` of the environment, and goes to the settings' forge alone: no redirect is followed.
An error is named, and a second try finds what the first one opened.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from reconciler.model.errors import ReconcilerError
from reconciler.model.settings import Forge
from reconciler.model.value import Frozen, replace
from reconciler.transports.transport import tls_context

__all__ = [
    "MAX_PAGES",
    "PAGE",
    "TOKEN",
    "ForgeClient",
    "ForgeError",
    "ForgeProject",
    "PullRequest",
    "answered",
    "git_environment",
    "is_last",
    "token_given",
]

TOKEN = "RECONCILE_FORGE_TOKEN"  # noqa: S105  the variable's name
MAX_ANSWER = 10 << 20
MAX_SHOWN = 300
PAGE, MAX_PAGES = 50, 20


class ForgeError(ReconcilerError):
    """The forge could not be asked, or refused; what was committed and pushed stays."""


class PullRequest(Frozen):
    """A pull request: its number, its address, and who is asked for a review, each login with the forge's id."""

    number: int
    url: str
    reviewers: Mapping[str, int] = {}


class ForgeProject:
    """Where the API of one project of a forge is, and how it is asked."""

    def __init__(self, forge: Forge, token: str) -> None:
        self._token = token
        host = urlsplit(forge.url).hostname
        paths = {"github": "/api/v3", "gitlab": "/api/v4", "gitea": "/api/v1"}
        self.base = "https://api.github.com" if host == "github.com" else f"{forge.url.rstrip('/')}{paths[forge.kind]}"
        gitlab, quoted = forge.kind == "gitlab", quote(forge.project, safe="" if forge.kind == "gitlab" else "/")
        self.path = f"/projects/{quoted}" if gitlab else f"/repos/{quoted}"
        self.pulls = f"{self.path}/{'merge_requests' if gitlab else 'pulls'}"
        scheme = "token" if forge.kind == "gitea" else "Bearer"
        accepted = "application/vnd.github+json" if forge.kind == "github" else "application/json"
        self.headers = {"Authorization": f"{scheme} {token}", "Accept": accepted}

    def client(self, timeout: float) -> httpx.AsyncClient:
        """Return a client that has the token, and follows no redirect with it."""
        return httpx.AsyncClient(timeout=timeout, verify=tls_context(), follow_redirects=False, headers=self.headers)

    def failed(self, asked: str, code: int, text: str) -> ForgeError:
        """Return the error of an answer that is none."""
        said = " ".join(text.replace(self._token, "***")[:MAX_SHOWN].split())  # a cut token would not be found
        return ForgeError(f"{asked}: {code} {said}; {_advice(code)}")


class ForgeClient:
    """The calls to one project of a forge."""

    def __init__(self, forge: Forge, token: str, timeout: float) -> None:
        self._forge = forge
        self._at = ForgeProject(forge, token)
        self._timeout = timeout
        self._pulls = self._at.pulls

    def find(self, branch: str) -> PullRequest | None:
        """Return the open pull request of a branch; None if there is none."""
        params: dict[str, str]
        match self._forge.kind:
            case "github":
                params = {"head": f"{self._forge.project.partition('/')[0]}:{branch}", "state": "open"}
            case "gitlab":
                params = {"source_branch": branch, "state": "opened"}
            case _:
                params = {"state": "open"}
        own = (each for each in self._listed(self._pulls, params) if _head(each) in (None, branch))
        pull = next(map(_pull, own), None)
        return None if pull is None else replace(pull, reviewers={**pull.reviewers, **self._reviewed(pull)})

    def open(self, branch: str, base: str, title: str, text: str) -> PullRequest:
        """Open a pull request of a branch into `base`."""
        if self._forge.kind == "gitlab":
            given = {"source_branch": branch, "target_branch": base, "title": title, "description": text}
        else:
            given = {"head": branch, "base": base, "title": title, "body": text}
        return _pull(self._ask("POST", self._pulls, json=given))

    def ask_reviewers(self, pull: PullRequest, logins: Iterable[str]) -> Iterator[str]:
        """Ask for reviews who is not asked and has given none; yield why, for each login whom the forge refuses."""
        logins = [login for login in logins if login.lower() not in pull.reviewers]
        if self._forge.kind == "gitlab":
            yield from self._ask_reviewers_by_id(pull, logins)
            return
        for login in logins:
            try:
                self._ask("POST", f"{self._pulls}/{pull.number}/requested_reviewers", json={"reviewers": [login]})
            except ForgeError as error:
                yield f"{login} is not asked for a review: {error}"

    def _ask_reviewers_by_id(self, pull: PullRequest, logins: Iterable[str]) -> Iterator[str]:
        ids = [*pull.reviewers.values()]
        for login in logins:
            try:
                known = self._ask("GET", "/users", params={"username": login})
                ids += [int(each["id"]) for each in known if each["username"].lower() == login.lower()][:1] or _nobody()
                self._ask("PUT", f"{self._pulls}/{pull.number}", json={"reviewer_ids": ids})
            except (ForgeError, KeyError, TypeError, ValueError) as error:
                yield f"{login} is not asked for a review: {error}"

    def _reviewed(self, pull: PullRequest) -> Mapping[str, int]:
        """Return who has given a review: GitHub and Gitea name those no more among the ones who are asked."""
        if self._forge.kind == "gitlab":
            return {}
        try:
            return _users(each.get("user") for each in self._listed(f"{self._pulls}/{pull.number}/reviews", {}))
        except (ForgeError, AttributeError, TypeError, ValueError):
            return {}  # at worst somebody is asked twice

    def _listed(self, path: str, params: Mapping[str, str]) -> list[Any]:
        found: list[Any] = []
        size = "limit" if self._forge.kind == "gitea" else "per_page"
        for page in range(1, MAX_PAGES + 1):
            answer, items = self._sent("GET", path, params={**params, size: str(PAGE), "page": str(page)})
            if not isinstance(items, list):
                raise ForgeError(f"{self._at.base}{path} answered with no list: look at forge.kind and forge.url")
            found += items
            if is_last(answer, items, len(found)):
                break
        return found

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        return self._sent(method, path, **given)[1]

    def _sent(self, method: str, path: str, **given: Any) -> tuple[httpx.Response, Any]:
        url = f"{self._at.base}{path}"

        async def sent() -> tuple[httpx.Response, bytes]:
            async with self._at.client(self._timeout) as client:
                return await answered(client, method, url, self._timeout, **given)

        answer, body = asyncio.run(sent())
        if not answer.is_success:
            raise self._at.failed(f"{method} {url}", answer.status_code, body.decode(errors="replace"))
        try:
            return answer, json.loads(body)
        except ValueError as error:
            raise ForgeError(f"{method} {url}: the answer cannot be read ({error}): look at forge.url") from None


async def answered(
    client: httpx.AsyncClient, method: str, url: str, seconds: float, **given: Any
) -> tuple[httpx.Response, bytes]:
    """Send a request; return its answer, which is whole within `seconds` and no longer than `MAX_ANSWER`."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds), client.stream(method, url, **given) as answer:
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER:
                    raise ForgeError(f"{method} {url}: the answer is too long: look at forge.url")
    except TimeoutError:
        raise ForgeError(f"{method} {url}: no answer within {seconds:g} seconds; try again") from None
    except httpx.HTTPError as error:
        raise ForgeError(f"{method} {url}: {str(error) or type(error).__name__}; try again") from None
    return answer, bytes(body)


def is_last(answer: httpx.Response, items: Sized, read: int) -> bool:
    """Whether no page follows one of these items, the last of so many that were read.

    A forge may have a limit of its own below the page that was asked for, and says then that there is more.
    """
    total = answer.headers.get("X-Total-Count", "")
    more = "next" in answer.links or (total.isdecimal() and read < int(total))
    return not items or (len(items) < PAGE and not more)


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
    if not isinstance(data, dict):
        return ""
    head = data.get("head")
    return data.get("source_branch") or (head.get("ref") if isinstance(head, dict) else None)


def _nobody() -> list[int]:
    raise ForgeError("the forge knows nobody of that login")


def _advice(code: int) -> str:
    if code in (401, 403):
        return f"look at what the token of {TOKEN} may do"
    if code == 404:
        return "look at forge.project, and at what the token may see"
    if 300 <= code < 400:
        return "no redirect is followed: mend forge.url"
    return "try again"
