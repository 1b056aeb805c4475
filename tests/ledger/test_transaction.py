"""Writes of several threads or tasks in one transaction: each is durable, refused or failed as it would be alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reconciler.ledger import schema
from reconciler.ledger.lease import Lease
from reconciler.ledger.ledger import OpenLedger
from reconciler.ledger.opening import StateLocation
from reconciler.ledger.rows import event_row
from reconciler.ledger.transaction import Transaction
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import LeaseLostError
from reconciler.model.failpoints import Failpoint
from tests.ledger.states import STATE, change
from tests.ledger.test_chain import line, verified
from tests.servers import PATIENCE, eventually

pytestmark = pytest.mark.anyio

Work = Callable[[Transaction], Any]


def together(ledger: LedgerWriter, *works: tuple[Lease | None, Work]) -> list[Future[Any]]:
    """Write all of these at the same time: a first write goes on until the others wait."""
    transactions = ledger.session.transactions
    begun, waiting = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert waiting.wait(PATIENCE)

    def write(lease: Lease | None, work: Work) -> Any:
        with transactions.one(lease) as transaction:
            return work(transaction)

    def queued(number: int) -> bool:
        return len(transactions._waiting) == number

    with ThreadPoolExecutor(len(works) + 1) as threads:
        leading = threads.submit(transactions.share, first)
        assert begun.wait(PATIENCE)
        found = []
        for number, (lease, work) in enumerate(works, 1):
            found.append(threads.submit(transactions.share, partial(write, lease, work)))
            eventually(partial(queued, number))
        waiting.set()
        leading.result()
    return found


def telling(hire: str) -> Work:
    def work(transaction: Transaction) -> Transaction:
        transaction.append_events([event_row(line(hire)), event_row(line(hire, 1))])
        return transaction

    return work


def test_writes_at_the_same_time_share_a_transaction(ledger: LedgerWriter, location: StateLocation) -> None:
    found = together(ledger, *((None, telling(hire)) for hire in ("ada", "bob", "eve")))
    assert len({each.result() for each in found}) == 1
    assert sorted(each.key.hire for each in ledger.history.lines()) == ["ada", "ada", "bob", "bob", "eve", "eve"]
    assert verified(location) == (6, 0, None)


def test_write_that_fails_takes_no_other_with_it(ledger: LedgerWriter, location: StateLocation) -> None:
    def broken(transaction: Transaction) -> None:
        transaction.append_events([event_row(line("eve"))])
        raise ValueError("not this one")

    ada, eve, bob = together(ledger, (None, telling("ada")), (None, broken), (None, telling("bob")))
    assert ada.result() is not bob.result()
    with pytest.raises(ValueError, match="not this one"):
        eve.result()
    assert sorted(each.key.hire for each in ledger.history.lines()) == ["ada", "ada", "bob", "bob"]
    assert verified(location) == (4, 0, None)


def test_write_that_is_interrupted_keeps_nobody_waiting(ledger: LedgerWriter) -> None:
    def interrupted(_: Transaction) -> None:
        raise KeyboardInterrupt

    for each in together(ledger, (None, telling("ada")), (None, interrupted), (None, telling("bob"))):
        with pytest.raises(KeyboardInterrupt):
            each.result()
    assert list(ledger.history.lines()) == []


@pytest.mark.parametrize("lost", [{"one": 1}, {"two": 7}, {"nobody": 1}])
def test_lost_lease_refuses_only_its_own_writes(
    ledger: LedgerWriter, location: StateLocation, lost: dict[str, int]
) -> None:
    change(location, "INSERT INTO shards (service, epoch) VALUES ('one', 2), ('two', 3)")
    one, gone, two = together(
        ledger,
        (Lease({"one": 2}), telling("ada")),
        (Lease(lost), telling("eve")),
        (Lease({"two": 3}), telling("bob")),
    )
    assert one.result() is not two.result()
    with pytest.raises(LeaseLostError, match=next(iter(lost))):
        gone.result()
    assert sorted(each.key.hire for each in ledger.history.lines()) == ["ada", "ada", "bob", "bob"]


def test_large_values_are_written_whole(ledger: LedgerWriter, location: StateLocation) -> None:
    def keeping(name: str) -> Work:
        def work(transaction: Transaction) -> None:
            transaction.put(schema.sealed, name, name.encode() * 4_000_000)
            transaction.append_events([event_row(line("ada"))])

        return work

    for each in together(ledger, (None, keeping("a")), (None, keeping("b"))):
        each.result()
    assert [ledger.sealed.get(name) for name in "ab"] == [b"a" * 4_000_000, b"b" * 4_000_000]
    assert verified(location) == (2, 0, None)


async def test_tasks_that_write_at_the_same_time_share_a_commit(tmp_path: Path) -> None:
    """Nothing counts as done before it is durable: another process reads it by then."""

    def reached(point: Failpoint, *, done: bool) -> None:
        if done and point is Failpoint.CHECKED:
            with location.reader() as others:
                there.append(sum(1 for _ in others.history.lines()))

    location, there = StateLocation(STATE, tmp_path), list[int]()
    with closing(location.writer(reached)) as ledger:
        statements = list[str]()
        ledger.backend._connection.set_trace_callback(statements.append)  # type: ignore[union-attr]
        saves = [partial(LedgerWriter.save, records=(), events=[line(f"p{number}")]) for number in range(20)]
        await asyncio.gather(*map(OpenLedger(ledger).together, saves))
        assert statements.count("COMMIT") == 1
        assert there == [20] * 20


async def test_task_whose_write_fails_takes_no_other_with_it(ledger: LedgerWriter, location: StateLocation) -> None:
    def broken(_ledger: LedgerWriter) -> None:
        raise ValueError("not this one")

    def telling(hire: str) -> Callable[[LedgerWriter], None]:
        return partial(LedgerWriter.save, records=(), events=[line(hire)])

    change(location, "INSERT INTO shards (service, epoch) VALUES ('one', 2)")
    leased, lost = ledger.under(Lease({"one": 2})), ledger.under(Lease({"one": 1}))
    works = ((leased, telling("ada")), (ledger, broken), (lost, telling("bob")))
    writes = (OpenLedger(each).together(work) for each, work in works)
    ada, *failed = await asyncio.gather(*writes, return_exceptions=True)
    assert ada is None
    assert [type(each) for each in failed] == [ValueError, LeaseLostError]
    assert [each.key.hire for each in ledger.history.lines()] == ["ada"]


async def test_task_that_is_cancelled_has_written(tmp_path: Path) -> None:
    """What a service answered is not lost where the program ends between the answer and the commit."""
    location = StateLocation(STATE, tmp_path)
    with closing(location.writer()) as ledger:
        task = asyncio.create_task(OpenLedger(ledger).together(lambda to: to.save((), [line("ada")])))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    with location.reader() as others:
        assert [each.key.hire for each in others.history.lines()] == ["ada"]


def adding(name: str, to: str = "stored/ada") -> Work:
    """Add a name to a sealed value."""

    def add(before: bytes | None) -> bytes:
        return json.dumps([*json.loads(before or b"[]"), name]).encode()

    return lambda transaction: transaction.put(schema.sealed, to, add)


def test_changes_of_one_value_in_one_transaction_are_all_there(ledger: LedgerWriter) -> None:
    for each in together(ledger, (None, adding("one")), (None, adding("two"))):
        each.result()
    assert json.loads(ledger.sealed.get("stored/ada") or b"") == ["one", "two"]


def test_members_that_change_the_same_values_do_not_wait_for_each_other(
    ledger: LedgerWriter, location: StateLocation
) -> None:
    """Each stores something of the same two people, in another order, at the same time."""
    if not ledger.backend.remote:
        pytest.skip("a file has one writer")
    begun = threading.Barrier(2)

    def write(writer: LedgerWriter, name: str, *people: str) -> None:
        with writer.session.writing(Failpoint.SEALED) as transaction:
            for person in people:
                adding(name, f"stored/{person}")(transaction)
                begun.wait(PATIENCE)

    with closing(location.writer()) as other, ThreadPoolExecutor(2) as threads:
        both = [threads.submit(write, ledger, "one", "ada", "bob"), threads.submit(write, other, "two", "bob", "ada")]
        for each in both:
            each.result()
    found = [sorted(json.loads(ledger.sealed.get(f"stored/{person}") or b"")) for person in ("ada", "bob")]
    assert found == [["one", "two"]] * 2


def test_writers_of_one_state_append_to_one_chain(ledger: LedgerWriter, location: StateLocation) -> None:
    if not ledger.backend.remote:
        pytest.skip("a file has one writer")

    def write(writer: LedgerWriter, number: int) -> None:
        for second in range(10):
            writer.save((), [line(f"p{number}", second)])

    with closing(location.writer()) as other, ThreadPoolExecutor(6) as threads:
        for each in [threads.submit(write, (ledger, other)[number % 2], number) for number in range(6)]:
            each.result()
    ledger.save((), [line("many", second) for second in range(1500)])
    assert verified(location) == (1560, 0, None)
