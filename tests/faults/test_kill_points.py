"""A fault at each point that the program tells of. `python -m tests.faults.kill_points` plays every one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.model.failpoints import Failpoint
from tests.faults.injected import Fault, play
from tests.faults.kill_points import Case, cases, disk, undisturbed, verify
from tests.faults.scenarios import SCENARIOS, stage
from tests.forked import Nursery
from tests.repo import GnupgHome

AT = {
    "first start": {Failpoint.MIGRATION, Failpoint.SEALING_KEY},
    "provisioned": {
        Failpoint.LOCK,
        Failpoint.LEASE,
        Failpoint.PLAN,
        Failpoint.NOTE,
        Failpoint.CACHE,
        Failpoint.INTENT,
        Failpoint.LEAVING,
        Failpoint.REQUEST,
        Failpoint.RESPONSE,
        Failpoint.ANSWER,
        Failpoint.OUTCOME,
        Failpoint.CHECKED,
        Failpoint.NOTICE,
        Failpoint.MESSAGE,
        Failpoint.NOTIFIED,
    },
    "answer lost": {Failpoint.SEALED, Failpoint.OUTCOME, Failpoint.NOTICE},
    "dropped": {Failpoint.DROPPED},
    "renamed": {Failpoint.RENAMED},
    "updated": {Failpoint.PLAN, Failpoint.REQUEST, Failpoint.ANSWER, Failpoint.OUTCOME, Failpoint.CHECKED},
    "told apart": {Failpoint.RENAMED},
    "token refreshed": {Failpoint.TOKEN},
    "asked to run": {Failpoint.INTENT},
    "asked to retry": {Failpoint.TAKEN_UP},
    "locked": {Failpoint.LOCKED},
    "over": {Failpoint.PLAN, Failpoint.INTENT, Failpoint.REQUEST, Failpoint.OUTCOME},
    "fetched": {Failpoint.CHECKOUT, Failpoint.ACCEPTED},
    "command enqueued": {Failpoint.COMMAND},
    "forgotten": {Failpoint.FORGOTTEN, Failpoint.WIPED},
}
"""Where the suite looks at which point."""

DISK = (Fault.ERROR, Fault.POWER, Fault.TORN, Fault.FULL)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery(play.__module__) as made:
        yield made


def test_no_point_is_left_out() -> None:
    assert set().union(*AT.values()) == set(Failpoint)


@pytest.mark.parametrize("scenario", AT)
def test_a_kill_or_a_broken_disk_loses_nothing_and_repeats_nothing(
    scenario: str, nursery: Nursery, gnupg_home: GnupgHome
) -> None:
    with disk() as (folder, own), stage(nursery, folder, gnupg_home, SCENARIOS[scenario]) as on:
        there = list(cases(scenario, undisturbed(on, scenario), full=own))
        for point in sorted(AT[scenario]):
            here = [case for case in there if case.step.point is point]
            assert here, f"nothing comes to {point} any more"
            for case in chosen(here):
                verify(on, case)


def chosen(here: list[Case]) -> Iterator[Case]:
    """Of the cases at one point: a kill once it is over, and one kind of broken disk, another at each point."""
    yield next(case for case in here if case.fault is Fault.KILL and case.step.done)
    wanted = DISK[list(Failpoint).index(here[0].step.point) % len(DISK)]
    broken = [case for case in here if case.fault in DISK]
    yield from [case for case in broken if case.fault is wanted][:1] or broken[:1]
