"""Members that the network cuts off from the database, as one where packets are lost does: no connection is closed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.faults.fleet import TAKEN_OVER, Member, Stage, staged, until
from tests.postgres import Databases, Wire
from tests.repo import run_cli

LATE = 10.0
"""Seconds after which nobody sends anything any more without the database."""


@contextmanager
def wired(databases: Databases, count: int) -> Iterator[tuple[Stage, list[Member], list[Wire]]]:
    """Members that each have a way of their own to the database; commands have that of the last."""
    with staged(databases, people=20, delay=0.05) as stage, ExitStack() as ends:
        wires: list[Wire] = []
        for number in range(count):
            port = wires[0].port if wires else 0
            wires.append(ends.enter_context(Wire(databases, address=(f"127.0.0.{count - number}", port))))
        stage.settings(state=wires[-1].url(stage.url.partition("?")[0].rpartition("/")[2]))
        members = []
        for number, wire in enumerate(wires):
            members.append(Member(stage, "abc"[number], env={"PGHOSTADDR": f"127.0.0.{count - number}"}))
            ends.callback(members[-1].close)
            ends.callback(wire.flowing.set)
        until(lambda: sum(stage.posts().values()) > 10, members)
        yield stage, members, wires


def requests(stage: Stage) -> int:
    return sum(len(service.requests) for service in stage.services)


def all_cut_off(databases: Databases, seconds: float) -> None:
    """Nobody reaches the database: nobody sends anything any more, all stay, and go on; commands say so."""
    with wired(databases, 2) as (stage, members, wires):
        for wire in wires:
            wire.flowing.clear()
        began = time.monotonic()
        time.sleep(LATE)
        sent = requests(stage)
        assert all(member.ready()[0] == 503 for member in members), [member.ready() for member in members]
        said = run_cli(stage.repo, "status")
        assert (said.code, "see that the server runs" in said.err) == (1, True), said
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        assert requests(stage) == sent
        assert all(member.process.poll() is None for member in members), [member.log for member in members]
        for wire in wires:
            wire.flowing.set()
        until(lambda: not stage.missing(), members)
        stage.judge()
        assert all(member.process.poll() is None for member in members), [member.log for member in members]


def one_cut_off(databases: Databases, seconds: float) -> float:
    """One does not reach it: others take over, and what it had on its way comes too late; gives how long that took."""
    with wired(databases, 3) as (stage, members, wires):
        wires[0].flowing.clear()
        took = until(lambda: not stage.missing(), members)
        time.sleep(max(0.0, seconds - took))
        wires[0].flowing.set()
        until(lambda: all(row["status"] == "present" for row in stage.status().json["grants"]), members)
        stage.judge()
        assert members[0].process.poll() in (None, 1), members[0].log
        assert all(member.process.poll() is None for member in members[1:])
        assert took < TAKEN_OVER
        return took
