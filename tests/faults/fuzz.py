"""Hostile input: `python -m tests.faults.fuzz [TARGET ...] --seconds N`. The suite plays a few examples of each.

Each target makes input of one kind and gives it to the program, which has to answer it: with a result, or with one of
the errors that it raises on purpose. An exception that nobody meant, an example that takes longer than two seconds and
one that wants half a gigabyte are failures; so is an error that cannot be written down.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.faults import fuzz_answers, fuzz_files, fuzz_stored
from tests.faults.fuzz_target import Target

TARGETS: dict[str, Target] = {
    target.name: target for target in (*fuzz_files.TARGETS, *fuzz_stored.TARGETS, *fuzz_answers.TARGETS)
}

LONGEST = 2.0
"""Seconds of work that one example may take; ten times as long where it waits, or others have the machine."""

ROOM = 512 << 20
"""Bytes of address space beyond what the process has when a target begins."""

BATCH = 100


class _TookTooLong(BaseException):
    """Raised by the alarm wherever the program is; nothing in it may catch this."""


@contextmanager
def bounded() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Gives what calls a function within the limits; it raises AssertionError where the function takes too long."""

    def ring(_number: int, _frame: Any) -> None:
        raise _TookTooLong

    def call(work: Callable[[], None]) -> None:
        # For what never comes back to Python, and so never hears the alarm: where it is, and the end.
        faulthandler.dump_traceback_later(30 * LONGEST, exit=True)
        before = signal.setitimer(signal.ITIMER_REAL, 10 * LONGEST)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        try:
            work()
        except _TookTooLong as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-4:])
            raise AssertionError(f"took longer than {LONGEST:g} s, and was here:\n{where}") from None
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, *before)
            faulthandler.cancel_dump_traceback_later()

    handlers = {number: signal.signal(number, ring) for number in (signal.SIGPROF, signal.SIGALRM)}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open(encoding="ascii") as counted:
        has = int(counted.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + ROOM, limits[1]))
    try:
        yield call
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def play(target: Target, examples: int, *, start: int | None = None) -> int:
    """Play so many examples of a target that is open: always the same ones, or those that a number leads to.

    Gives how many there were. Raises what the first that failed raised, with that example, made as small as it gets.
    """
    played = 0
    with bounded() as within:

        @settings(
            max_examples=examples,
            derandomize=start is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(target.examples)
        def one(example: Any) -> None:
            nonlocal played
            played += 1
            within(lambda: target.play(example))

        if start is not None:
            one = seed(start)(one)
        one()
    return played


def _play_for(target: Target, seconds: float, chance: random.Random) -> tuple[int, float, str | None]:
    """How many examples were played in how many seconds, and what failed."""
    began, played = time.monotonic(), 0
    with target.open():
        while (took := time.monotonic() - began) < seconds:
            number = chance.randrange(2**32)
            try:
                played += play(target, BATCH, start=number)
            except Exception:  # noqa: BLE001  it is told, and the next target has its turn
                return played, took, f"{target.name}, batch {number}\n{traceback.format_exc()}"
    return played, took, None


def main() -> int:
    """The command."""
    listed = "\n".join(f"  {target.name:10} {target.what}" for target in TARGETS.values())
    parser = argparse.ArgumentParser(
        description="Hostile input for whatever reads any.",
        epilog=f"targets:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="*", metavar="TARGET", help="one or more of those below; without one, all")
    parser.add_argument("--seconds", type=float, default=60, help="how long each target is played (default: 60)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    asked = parser.parse_args()
    if unknown := set(asked.target) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    print(f"seed {asked.seed}", flush=True)
    chance, broken = random.Random(asked.seed), 0
    for name in asked.target or TARGETS:
        played, took, failure = _play_for(TARGETS[name], asked.seconds, chance)
        print(f"{name:10} {played:7} examples, {took:4.0f} s, {'broken' if failure else 'clean'}", flush=True)
        if failure:
            broken += 1
            print(failure, flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
