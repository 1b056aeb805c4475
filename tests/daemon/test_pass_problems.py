"""The problems that a daemon's passes find: each holds until a pass over the same hire, or a resync, says otherwise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reconciler.daemon.runtime import PassProblems
from reconciler.model.errors import Problem
from reconciler.model.grant import Key, Record
from reconciler.model.report import Report, Row

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
INTERVAL = timedelta(minutes=10)
ADA, BOB = (Problem(f"hires/{hire}.yaml", 5, "access tool: it does not fit") for hire in ("ada", "bob"))
FILE = Problem("manifests/tool.yaml", 1, "not YAML")


def report(*problems: Problem, hires: tuple[str, ...] = ()) -> Report:
    rows = [Row.of(Record(Key(hire, "tool"), "", "tool", "tool", f"hires/{hire}.yaml:5")) for hire in hires]
    return Report("abc", dry_run=False, rows=rows, problems=list(problems))


def test_a_pass_over_others_takes_nothing_back_and_one_over_the_same_hire_does() -> None:
    found = PassProblems()
    found.record(report(ADA, FILE, hires=("ada",)), [FILE], NOW, INTERVAL)
    found.record(report(BOB, hires=("bob",)), [], NOW, INTERVAL)
    assert set(found()) == {ADA, BOB}
    found.record(report(hires=("ada",)), [], NOW, INTERVAL)
    assert set(found()) == {BOB}


def test_problem_is_dropped_after_two_intervals() -> None:
    found = PassProblems()
    found.record(report(ADA), [], NOW, INTERVAL)
    found.record(report(), [], NOW + 2 * INTERVAL, INTERVAL)
    assert set(found()) == {ADA}
    found.record(report(), [], NOW + 2 * INTERVAL + timedelta(seconds=1), INTERVAL)
    assert found() == ()
