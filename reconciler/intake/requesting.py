"""Requests: those that wait on branches, those that hold, and a new one on a branch of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reconciler.intake.yaml_edit import flow
from reconciler.model.clock import first_moment, stamp
from reconciler.model.config_files import AccessRequest
from reconciler.model.errors import ReconcilerError, UsageError
from reconciler.model.grant import Key, Phase, Record
from reconciler.model.hire import Entry
from reconciler.model.text import hint
from reconciler.model.value import Frozen
from reconciler.repository.desired import Desired
from reconciler.repository.documents.problems import explain, validated
from reconciler.repository.documents.yaml import Loaded, read
from reconciler.repository.git.trees import OverlayTree, Tree
from reconciler.repository.parsing import REQUESTS, parse
from reconciler.review.findings import MissingValues

if TYPE_CHECKING:
    from reconciler.repository.files import Files, Reader

__all__ = [
    "FOLDER",
    "PREFIX",
    "NotRequestable",
    "Request",
    "State",
    "account_of",
    "free_stem",
    "known_requests",
    "made",
    "refused",
    "same",
]

FOLDER = "config/requests"
PREFIX = "request/"
"""What the names of requests' branches begin with."""

MAX_SUFFIX = 1000


class NotRequestable(ReconcilerError):
    """What was asked for is refused; nothing was written."""


class State(StrEnum):
    """How far a request is."""

    WAITS = "waits"
    HOLDS = "holds"
    ENDED = "ended"


class Request(Frozen):
    """One request, and how far it is; `branch` where it waits."""

    stem: str
    asked: AccessRequest
    state: State
    until: datetime | None = None
    branch: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {
            "request": self.stem,
            "hire": self.asked.hire,
            "integration": self.asked.access.integration,
            "state": self.state,
            "until": stamp(self.until),
            "reason": self.asked.reason,
            "requested_by": self.asked.requested_by,
            "branch": self.branch,
        }


def made(fields: Mapping[str, Any]) -> tuple[AccessRequest, bytes]:
    """Return a request of these fields, and its file. Raises UsageError where one cannot be read."""
    content = "".join(f"{key}: {flow(value)}\n" for key, value in fields.items() if value is not None).encode()
    document = read(content, "the request")
    try:
        return validated(AccessRequest, document.data), content
    except ValidationError as error:
        raise UsageError("; ".join(each.message for each in explain(error, AccessRequest, document))) from None


def refused(reader: Reader, tree: Tree, stem: str, content: bytes, now: datetime) -> str | None:
    """Return why a revision would refuse a request, with what may be asked for; or None."""
    whole = OverlayTree({f"{FOLDER}/{stem}.yaml": content}, tree)
    files = reader.load(whole)
    loaded = files.requests[stem]
    hire = loaded.model.hire
    if hire not in files.hires:
        there = f"there is no hires/{hire}.yaml that can be read{hint(hire, files.hires.index)}"
        return f"{there}; {files.offers.what_for(None)}"
    what_for = files.offers.what_for(files.hires[hire].model)
    desired = Desired(files, now.date(), now)
    grant = next((each for each in desired.grants(hire) if each.key.access == stem), None)
    if grant is None:
        return f"its end is over; {what_for}"
    reason = grant.hold.reason if grant.hold is not None else grant.requested and grant.requested.refusal
    if reason:
        told = grant.hold is None and files.offers.lacks(grant.integration)
        return reason if told else f"{reason}; {what_for}"
    if lacking := next(MissingValues(desired, whole).of(hire, [grant]), None):
        return f"{lacking.message}; {what_for}"
    return None


def known_requests(
    files: Files, waiting: Mapping[str, Tree], records: Mapping[Key, Record], now: datetime
) -> list[Request]:
    """List the requests of a revision, and those that wait on branches that have one more.

    `records` is what the ledger has, where there is one: else what a request says of itself counts.
    """
    desired = Desired(files, now.date(), now)
    found = [
        Request(stem, loaded.model, *_state(desired, loaded, records.get(_key(loaded)), now))
        for stem, loaded in sorted(files.requests.items())
    ]
    for branch, tree in sorted(waiting.items()):
        for file in tree.files(FOLDER):
            parsed = parse(tree, file, REQUESTS).loaded
            if parsed is not None and parsed.stem not in files.requests:
                found.append(Request(parsed.stem, parsed.model, State.WAITS, None, branch))
    return found


def _state(
    desired: Desired, loaded: Loaded[AccessRequest], record: Record | None, now: datetime
) -> tuple[State, datetime | None]:
    key, lasts = _key(loaded), loaded.model.access.for_
    grant = (
        next((each for each in desired.grants(key.hire) if each.key == key), None)
        if key.hire in desired.hires
        else None
    )
    acted = None if record is None else record.acted_at or record.executed_at or record.confirmed_at
    first = None if grant is None else first_moment(grant.begins, desired.files.settings.timezone)
    begun = acted or max((each for each in (loaded.model.requested_at, first) if each is not None), default=None)
    ends = [None if grant is None else grant.over_at, None if lasts is None or begun is None else begun + lasts]
    until = min((end for end in ends if end is not None), default=None)
    if record is not None:
        return (State.ENDED if record.phase is Phase.REVOKED else State.HOLDS), until
    over = grant is None or (until is not None and until <= now)
    return (State.ENDED if over else State.HOLDS), until


def _key(loaded: Loaded[AccessRequest]) -> Key:
    return Key(loaded.model.hire, loaded.stem)


def free_stem(stem: str, taken: set[str]) -> str:
    """Return the stem, or with the first number behind it that makes it free."""
    names = [stem, *(f"{stem}-{number}" for number in range(2, MAX_SUFFIX))]
    for name in names:
        if name not in taken:
            return name
    raise NotRequestable(f"there are {MAX_SUFFIX} requests of that name today")


def same(one: AccessRequest, other: AccessRequest) -> bool:
    """Whether two requests ask for the same."""
    return one.hire == other.hire and one.access == other.access


def account_of(entry: Entry) -> tuple[str, str]:
    """Return what an entry is for, as far as it says."""
    return entry.integration, str(sorted((name, str(value)) for name, value in entry.values.items()))
