"""Read from a forge who approved and who merged the pull request that brought a commit.

Of each reviewer the last word counts; who wrote the pull request, or a commit of it, approves nothing. Each request has
a bound on its time as a whole and on what is read of its answer, and can be cancelled at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from reconciler.intake.forge import PAGE, ForgeError, ForgeProject, NotKnown
from reconciler.model.attribution import Merged
from reconciler.model.settings import Forge
from reconciler.repository.people import identity, is_named

__all__ = ["ApprovalReader"]

LONGEST_LOGIN = 255
APPROVED = "APPROVED"
WORDS = frozenset({APPROVED, "CHANGES_REQUESTED", "REQUEST_CHANGES", "DISMISSED"})
"""The reviews that say something of approval, as GitHub and Gitea call them; a comment takes nothing back."""


class ApprovalReader:
    """The merged pull requests of one project. An answer that cannot be read is a ForgeError."""

    def __init__(self, forge: Forge, token: str, timeout: float) -> None:
        self._kind = forge.kind
        self._at = ForgeProject(forge, token, timeout)
        self._client = self._at.client()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

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
            match self._kind:
                case "github":
                    path = f"{self._at.path}/commits/{commit}/pulls"
                case "gitlab":
                    path = f"{self._at.path}/repository/commits/{commit}/merge_requests"
                case _:
                    path = f"{self._at.path}/commits/{commit}/pull"
            found = await self._known(path) or []
            for pull in [found] if isinstance(found, dict) else found:
                if self._is_merged(pull, branch):
                    return dict(pull)
        # Not every forge knows of every commit which pull request brought it: a rebased one, a fast-forward.
        known = await self._at.read(self._client, "GET", self._at.pulls, params=self._closed(branch))
        own = (pull for pull in known if self._is_merged(pull, branch) and self._brought(pull, commits))
        return next((dict(pull) for pull in own), None)

    def _closed(self, branch: str) -> dict[str, str]:
        match self._kind:
            case "github":
                return {
                    "state": "closed",
                    "base": branch,
                    "sort": "updated",
                    "direction": "desc",
                    "per_page": str(PAGE),
                }
            case "gitlab":
                return {"state": "merged", "target_branch": branch, "order_by": "updated_at", "per_page": str(PAGE)}
            case _:
                return {"state": "closed", "sort": "recentupdate", "limit": str(PAGE)}

    def _is_merged(self, pull: Mapping[str, Any], branch: str) -> bool:
        if self._kind == "gitlab":
            return bool(pull["state"] == "merged" and pull["target_branch"] == branch)
        return bool(pull.get("merged_at") or pull.get("merged")) and pull["base"]["ref"] == branch

    def _brought(self, pull: Mapping[str, Any], commits: Sequence[str]) -> bool:
        head = pull.get("sha") if self._kind == "gitlab" else (pull.get("head") or {}).get("sha")
        return not {pull.get("merge_commit_sha"), pull.get("squash_commit_sha"), head}.isdisjoint(commits)

    async def _said_of(self, pull: dict[str, Any]) -> Merged:
        number = int(pull["iid"] if self._kind == "gitlab" else pull["number"])
        path = f"{self._at.pulls}/{number}"
        if self._kind == "github" and "merged_by" not in pull:  # lists leave it out
            pull |= await self._known(path) or {}
        by = pull.get("merge_user") or pull.get("merged_by")
        wrote = pull.get("author") if self._kind == "gitlab" else pull.get("user")
        writers = _Writers([wrote] if wrote else [])
        with suppress(NotKnown):  # a forge of another release may not have the list
            for commit in await self._at.listed(self._client, f"{path}/commits"):
                writers.add(commit)
        if self._kind == "gitlab":
            approvals = (await self._at.read(self._client, "GET", f"{path}/approvals"))["approved_by"]
            approvers = [each["user"] for each in approvals]
        else:
            approvers = [*_approvers(await self._at.listed(self._client, f"{path}/reviews"))]
        return Merged(number, tuple(_login(each) for each in approvers if each not in writers), by and _login(by))

    async def _known(self, path: str) -> Any:
        """Return an answer; None where the forge does not know what is asked about."""
        try:
            return await self._at.read(self._client, "GET", path)
        except NotKnown:
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
