"""Requests for access: those that wait on branches and those that hold; a new one, its branch, and its pull request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import count
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from reconciler.engine.context import Context
from reconciler.engine.run.accepted import InForce, in_force
from reconciler.intake.files import stem_of
from reconciler.intake.forge import TOKEN, ForgeClient, ForgeError, PullRequest, git_environment, token_given
from reconciler.intake.yaml_edit import flow
from reconciler.model.clock import after, first_moment, stamp
from reconciler.model.config_files import AccessRequest
from reconciler.model.errors import ReconcilerError, RepositoryError, UsageError
from reconciler.model.grant import Grant, Key, Phase, Record
from reconciler.model.hire import Entry
from reconciler.model.settings import Forge
from reconciler.model.text import hint
from reconciler.model.value import Frozen, fields
from reconciler.repository.desired import Desired
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import model_of
from reconciler.repository.documents.yaml import Loaded, read
from reconciler.repository.git import pygit2
from reconciler.repository.git.branches import commit_to_branch, has_remote
from reconciler.repository.git.program import GitFailed, git
from reconciler.repository.git.trees import OverlayTree, Tree, object_at
from reconciler.repository.parsing import REQUESTS, parse
from reconciler.review.findings import MissingValues

if TYPE_CHECKING:
    from reconciler.repository.files import Files, Reader

FOLDER = "config/requests"
PREFIX = "request/"
"""What the names of requests' branches begin with."""

LATELY = timedelta(days=2)
"""How far back names are looked for that are taken: they begin with the day."""


class NotRequestable(ReconcilerError):
    """What was asked for is refused; nothing was written."""


class State(StrEnum):
    """How far a request is."""

    WAITS = "waits"
    HOLDS = "holds"
    ENDED = "ended"


class Request(Frozen):
    """One request, and how far it is: `branch` where it waits, `refused` why it gives nothing."""

    stem: str
    asked: AccessRequest
    state: State
    until: datetime | None = None
    branch: str | None = None
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "request": self.stem,
            **fields(self.asked, "hire"),
            **fields(self.asked.access, "integration"),
            **fields(self, "state", "until"),
            **fields(self.asked, "reason", "requested_by"),
            **fields(self, "branch", *(() if self.refused is None else ("refused",))),
        }


def _made(fields: Mapping[str, Any]) -> tuple[AccessRequest, bytes]:
    """Return a request of these fields, and its file. Raises UsageError where one cannot be read."""
    content = "".join(f"{key}: {flow(value)}\n" for key, value in fields.items() if value is not None).encode()
    document = read(content, "the request")
    try:
        return model_of(document, AccessRequest), content
    except BrokenFile as error:
        raise UsageError("; ".join(each.message for each in error.problems)) from None


def refused(reader: Reader, tree: Tree, stem: str, content: bytes, now: datetime) -> str | None:
    """Return why a revision would refuse a request, with what may be asked for; or None."""
    whole = OverlayTree({f"{FOLDER}/{stem}.yaml": content}, tree)
    files = reader.load(whole)
    loaded = files.requests[stem]
    hire = loaded.model.hire
    what_for = files.offers.what_for(files.hires[hire].model)
    desired = Desired(files, now.date(), now)
    grant = desired.grant(Key(hire, stem))
    if grant is None:
        return f"its end is over; {what_for}"
    reason = _refusal(grant)
    if reason:
        told = grant.hold is None and files.offers.lacks(grant.integration)
        return reason if told else f"{reason}; {what_for}"
    if lacking := next(MissingValues(desired).of(hire, [grant]), None):
        return f"{lacking.message}; {what_for}"
    return None


def _known_requests(
    files: Files, waiting: Mapping[str, Tree], merged: set[str], records: Mapping[Key, Record], now: datetime
) -> list[Request]:
    """List the requests of a revision, and those that wait on branches that have one more.

    `merged` are the names that the branch in force has, or had: a branch that stays when its request is over, or that
    began where another one was, waits for none of these. `records` is what the ledger has, where there is one: else
    what a request says of itself counts.
    """
    desired = Desired(files, now.date(), now)
    found = [_known(desired, loaded, records, now) for stem, loaded in sorted(files.requests.items())]
    for branch, tree in sorted(waiting.items()):
        for file in tree.files(FOLDER):
            if PurePosixPath(file.path).stem in merged:
                continue
            if (parsed := parse(tree, file, REQUESTS).loaded) is not None:
                found.append(Request(parsed.stem, parsed.model, State.WAITS, None, branch))
    return found


def _known(desired: Desired, loaded: Loaded[AccessRequest], records: Mapping[Key, Record], now: datetime) -> Request:
    key, lasts = Key(loaded.model.hire, loaded.stem), loaded.model.access.for_
    record = records.get(key)
    grant = desired.grant(key)
    acted = None if record is None else record.acted_at or record.executed_at or record.confirmed_at
    first = None if grant is None else first_moment(grant.begins, desired.files.settings.timezone)
    begun = acted or max((each for each in (loaded.model.requested_at, first) if each is not None), default=None)
    ends = [None if grant is None else grant.over_at, None if lasts is None or begun is None else after(begun, lasts)]
    until = min((end for end in ends if end is not None), default=None)
    refused = None if grant is None or (record is not None and record.acted_on) else _refusal(grant)
    if record is not None and (record.acted_on or record.phase is Phase.REVOKED):
        over = record.phase is Phase.REVOKED
    else:  # without the ledger, what was allowed before may run
        over = grant is None or (until is not None and until <= now) or (refused is not None and bool(records))
    return Request(loaded.stem, loaded.model, State.ENDED if over else State.HOLDS, until, refused=refused)


def _refusal(grant: Grant) -> str | None:
    """Return why a request's grant is refused, by the files."""
    if grant.hold is not None:
        return grant.hold.reason
    return None if grant.requested is None else grant.requested.refusal


def _free_stem(stem: str, taken: set[str]) -> str:
    """Return the stem, or with the first number behind it that makes it free."""
    numbered = (f"{stem}-{number}" for number in count(2))
    return stem if stem not in taken else next(name for name in numbered if name not in taken)


def _on_one_line(text: object) -> str:
    return " ".join(str(text).split())


def _account_of(entry: Entry) -> tuple[str, str]:
    """Return what an entry is for, as far as it says."""
    return entry.integration, str(sorted((name, str(value)) for name, value in entry.values.items()))


class Asked(Frozen):
    """What somebody asks for; without a `hire` whose address is git's."""

    integration: str
    reason: str
    hire: str | None
    values: Mapping[str, Any]
    at: str | None = None
    until: str | None = None
    lasts: str | None = None
    asker: tuple[str, str] | None = None
    """Name and address of who asks; git's user by default."""


class Asking:
    """The newest commit of the branch in force, what waits for it, and the forge."""

    def __init__(self, context: Context, *, fetch: bool = True) -> None:
        """With `fetch`, fetch where there is a remote; `fault` says why that failed."""
        self.context = context
        self.force: InForce = in_force(context)
        if self.force.branch is None or context.checkout.repository is None:
            raise RepositoryError("requests are commits: this needs a git checkout, and `source: commit`")
        self.branch = self.force.branch
        self.remote = self.force.settings.git.remote
        self._repository = context.checkout.repository
        self.fault = self._fetched() if fetch and has_remote(context.checkout, self.remote) else None
        self.tree = self._newest()
        self.files = context.reader.load(self.tree)

    def _fetched(self) -> str | None:
        here = f"refs/remotes/{self.remote}"
        specs = [f"+refs/heads/{self.branch}:{here}/{self.branch}", f"+refs/heads/{PREFIX}*:{here}/{PREFIX}*"]
        url, forge = self._repository.remotes[self.remote].url or "", self.force.settings.forge
        what = ("fetch", "--prune", "--no-recurse-submodules", "--", self.remote, *specs)
        try:
            git(self.context.root, *what, environment=git_environment(forge, url, token_given()))
        except GitFailed as error:
            return f"{self.remote} cannot be fetched, so this is of what is here: {_on_one_line(error)}"
        return None

    def _newest(self) -> Tree:
        checkout = self.context.checkout
        local = checkout.tip(self.branch, self.remote)
        there = self._repository.references.get(f"refs/remotes/{self.remote}/{self.branch}")
        revision = None if there is None else str(there.resolve().target)
        ahead = revision is not None and revision != local.revision and checkout.descends(revision, local.revision)
        return checkout.at(revision) if ahead and revision is not None else local

    def known(self, records: Mapping[Key, Record]) -> list[Request]:
        """List the requests that wait, hold and ended."""
        waiting = self._waiting()
        merged = self._names_since(min(map(self._begun, waiting.values()), default=self.context.clock.now()) - LATELY)
        return _known_requests(self.files, waiting, merged, records, self.context.clock.now())

    def _begun(self, branch: Tree) -> datetime:
        """Return when the commit was made that a branch began from."""
        base = self._repository.merge_base(branch.revision, self.tree.revision)
        return datetime.fromtimestamp(self._repository[base or branch.revision].peel(pygit2.Commit).commit_time, UTC)

    def _waiting(self) -> dict[str, Tree]:
        """Return the branches of requests, but those that somebody has deleted at the remote since."""
        return {name: tree for name, tree in self._branches().items() if not self._is_deleted(name)}

    def _branches(self) -> dict[str, Tree]:
        """Return the branches of requests: here, else at the remote."""
        places = (f"refs/remotes/{self.remote}/", "refs/heads/")
        names = [(place, name) for place in places for name in self._repository.references]
        ours = [(place, name) for place, name in names if name.startswith(f"{place}{PREFIX}")]
        return {name.removeprefix(place): self.context.checkout.at(name) for place, name in ours}

    def _is_deleted(self, branch: str) -> bool:
        """Whether a branch was pushed, and is at the remote no more: the request was refused there."""
        pushed = f"branch.{branch}.remote" in self._repository.config
        return pushed and f"refs/remotes/{self.remote}/{branch}" not in self._repository.references

    def wait_or_commit(self, asked: Asked, *, opens: bool) -> Request:
        """Return the request that waits and asks for the same, or commit a new one to a branch of its own.

        Raises NotRequestable, or UsageError, where it is refused, with what may be asked for; ForgeError where it is to
        be opened and there is no forge. Then nothing was written.
        """
        if opens:
            self._forge()
        now = self.context.clock.now()
        address = self._own_address() if asked.asker is None else asked.asker[1]
        hire = asked.hire or self.files.hires.index.owner(address)
        if hire is None:
            whose = f"no hire has the address {address or 'that git has for you'}: give one with --hire"
            raise NotRequestable(f"{whose}; {self.files.offers.what_for(None)}")
        loaded = self.files.hires.get(hire)
        if loaded is None:
            there = f"there is no hires/{hire}.yaml that can be read{hint(hire, self.files.hires.index)}"
            raise NotRequestable(f"{there}; {self.files.offers.what_for(None)}")
        what_for = self.files.offers.what_for(loaded.model)
        if (asked.lasts is None) is (asked.until is None):
            raise UsageError(f"--for 8h or --until WHEN: one of them says when it ends; {what_for}")
        access = {
            "integration": asked.integration,
            "values": dict(asked.values) or None,
            "at": asked.at,
            "until": asked.until,
            "for": asked.lasts,
        }
        fields = {
            "hire": hire,
            "access": {key: value for key, value in access.items() if value is not None},
            "reason": asked.reason,
            "requested_by": address or None,
            "requested_at": stamp(now),
        }
        try:
            request, content = _made(fields)
        except UsageError as error:
            raise UsageError(f"{error}; {what_for}") from None
        others, granted = self.known({}), Desired(self.files, now.date(), now).grants(hire)
        allowed = {grant.key.access for grant in granted if not grant.refused}
        for each in others:
            if each.state is State.WAITS and (each.asked.hire, each.asked.access) == (hire, request.access):
                return each
            theirs = each.asked.hire == hire and _account_of(each.asked.access) == _account_of(request.access)
            if each.state is State.HOLDS and theirs and each.stem in allowed:
                already = f"{hire} has that account already, by the request {each.stem}, which holds"
                raise NotRequestable(f"{already}; {what_for}")
        taken = {name.removeprefix(PREFIX) for name in self._branches()} | self._names_since(now - LATELY)
        named = stem_of(f"{now.date()}-{hire}-{asked.integration}").replace("..", ".-")
        stem = _free_stem(named, taken)  # a branch's name has no blanks, and no two dots in a row
        reason = refused(self.context.reader, self.tree, stem, content, now)
        if reason is not None:
            raise NotRequestable(reason)
        # Of one paragraph behind a name of its own: no words of a reason are read as who approved.
        message = f"Ask for {asked.integration} for {hire}\n\nReason: {_on_one_line(asked.reason)}\n"
        files = {f"{FOLDER}/{stem}.yaml": content}
        branch = f"{PREFIX}{stem}"
        commit_to_branch(self.context.checkout, self.tree.revision, branch, files, message, author=asked.asker)
        return Request(stem, request, State.WAITS, None, branch)

    def _names_since(self, since: datetime) -> set[str]:
        """Return the stems of the files that the newest commit has, read or not, and that were there since a time.

        A request that ended and was tidied is known by its name: another one of that name would count as over, too.
        """
        found = {PurePosixPath(file.path).stem for file in self.tree.files(FOLDER)}
        for commit in self._repository.walk(pygit2.Oid(hex=self.tree.revision), pygit2.enums.SortMode.TIME):
            if commit.commit_time < since.timestamp():
                break
            inside = object_at(commit.tree, FOLDER)
            if isinstance(inside, pygit2.Tree):
                found |= {PurePosixPath(each.name or "").stem for each in inside}
        return found

    def _own_address(self) -> str:
        """Return git's `user.email`, which may stand without a `user.name`; empty where it is not set."""
        try:
            return (self._repository.config["user.email"] or "").strip()
        except (KeyError, ValueError, pygit2.GitError):
            return ""

    def opened(self, request: Request, text: Callable[[str, str], str]) -> tuple[PullRequest, list[str]]:
        """Push a request's branch, open its pull request and ask for reviews, but for what was done; warnings, too.

        `text` makes the description from two revisions. Raises ForgeError; the branch is kept.
        """
        assert request.branch is not None
        forge, token = self._forge()
        kept = f"the branch {request.branch} is kept: run this again"
        self.context.redactor.learn([token])
        with asyncio.Runner() as runner, ExitStack() as after:
            client = ForgeClient(forge, token, self.files.settings.limits.timeout.total_seconds())
            after.callback(lambda: runner.run(client.aclose()))
            try:
                self._push(request.branch, token)
                pull = runner.run(client.find(request.branch))
                if pull is None:
                    title = f"Ask for {request.asked.access.integration} for {request.asked.hire}"
                    description = text(self.tree.revision, self._waiting()[request.branch].revision)
                    pull = runner.run(client.open(request.branch, self.branch, title, description))
            except ForgeError as error:
                raise ForgeError(f"{error}; {kept}") from None
            return pull, runner.run(client.ask_reviewers(pull, self._approvers(request.asked)))

    def _forge(self) -> tuple[Forge, str]:
        """Return where pull requests are opened, and the token for it. Raises ForgeError where one is not given."""
        forge, token = self.files.settings.forge, token_given()
        if forge is None:
            raise ForgeError("the settings have no `forge`, where a pull request could be opened")
        if token is None:
            raise ForgeError(f"{TOKEN} is not set")
        return forge, token

    def _push(self, branch: str, token: str) -> None:
        ref = f"refs/heads/{branch}"
        if ref not in self._repository.references:
            return  # it is at the remote
        url = self._repository.remotes[self.remote].url if has_remote(self.context.checkout, self.remote) else None
        if url is None:
            raise ForgeError(f"there is no remote {self.remote} to push to")
        environment = git_environment(self.files.settings.forge, url, token)
        try:
            git(self.context.root, "push", "--set-upstream", "--", self.remote, f"{ref}:{ref}", environment=environment)
        except GitFailed as error:
            raise ForgeError(f"{branch} cannot be pushed to {self.remote}: {_on_one_line(error)}") from None
        there = self._repository.references[ref].target  # git notes it only where all branches are fetched
        self._repository.references.create(f"refs/remotes/{self.remote}/{branch}", there, force=True)

    def _approvers(self, request: AccessRequest) -> list[str]:
        offers = self.files.offers.of(self.files.hires[request.hire].model)
        own = (each for each in offers if each.integration == request.access.integration)
        return [*dict.fromkeys(login for each in own for login in each.approvers)]
