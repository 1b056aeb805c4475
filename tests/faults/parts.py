"""The same history twice: in passes over everybody, and in passes over a few hires, services or grants, in any order.

A daemon makes the parts of a sweep at different times, and a person passes over one hire: in the end each service has
the same accounts. `python -m tests.faults.parts --examples 1000 --steps 50` is the large run; the suite plays a few.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import rule

from reconciler.model.selection import Selection
from tests.faults.former import ADDRESSES, LOGINS, NAMES, Changes, Desks, people, run, same
from tests.faults.model import Program


class Parts(Changes):
    """One history of two repositories; nothing fails, for what fails would meet another request in each."""

    def __init__(self) -> None:
        super().__init__()
        root = Path(self.folder.name, "parts")
        self.others = Desks()
        self.parts = Program(root, self.others, self.clock)
        (root / ".reconciler").mkdir(mode=0o700)
        self.programs.append(self.parts)

    @rule(integration=st.sampled_from(tuple(NAMES)), name=st.sampled_from((*LOGINS, *ADDRESSES)))
    def appear(self, integration: str, name: str) -> None:
        """Somebody makes an account by hand."""
        for desks in (self.desks, self.others):
            desks.appear_as(integration, same(name))

    @rule(integration=st.sampled_from(tuple(NAMES)), name=st.sampled_from((*LOGINS, *ADDRESSES)))
    def disappear(self, integration: str, name: str) -> None:
        """Somebody deletes an account by hand."""
        for desks in (self.desks, self.others):
            desks.accounts[integration].pop(same(name), None)

    @rule(name=people)
    def break_or_mend(self, name: str) -> None:
        """A hire's file cannot be read any more, or can be again."""
        self.broken ^= {name}
        self._commit()

    @rule(integration=st.sampled_from(tuple(NAMES)), name=st.sampled_from(tuple(NAMES.values())))
    def mean(self, integration: str, name: str) -> None:
        """A manifest tells its accounts by something else."""
        self.told = {**self.told, integration: name}
        self._commit()

    @rule(who=people | st.sampled_from(tuple(NAMES)))
    def suspend(self, who: str) -> None:
        """Somebody or an integration is suspended, or is no more."""
        self.suspended ^= {who}
        self._commit()

    @rule(kind=st.sampled_from(["lock", "unlock"]), name=people)
    def lock(self, kind: str, name: str) -> None:
        """Somebody is locked out, or is no more."""
        data = {"reason": "left", "addresses": [self.hires[name]["email"]]} if name in self.hires else {}
        for program in self.programs:
            program.ledger.commands.enqueue(kind, now=self.clock.now(), by="ida@here", hire=name, data=data)

    @rule(minutes=st.sampled_from([0, 60]), order=st.randoms(use_true_random=False))
    def whole_pass(self, minutes: int = 0, order: Random | None = None) -> None:
        self.clock.turn(minutes=minutes)
        for _ in range(2):  # what was free only at the end of the first is done by the second
            self._made(self.program, Selection())
            for selection in self._cut(order or Random(0)):
                self._made(self.parts, selection)
        found, in_parts = self.desks.names(), self.others.names()
        assert in_parts == found
        assert (self.others.twice, self.others.misplaced) == ([], [])

    def _made(self, program: Program, selection: Selection) -> None:
        assert program.reconcile(selection, released=True, fuse=None)

    def _cut(self, order: Random) -> Iterator[Selection]:
        records = list(self.parts.ledger.grants.records())
        for record in order.sample(records, min(2, len(records))):
            yield Selection.of([record.key])
        hires = sorted({*self.hires, *(record.key.hire for record in records)})
        order.shuffle(hires)
        while hires:
            some = frozenset(hires[: order.choice([1, 1, 2])])
            hires = [hire for hire in hires if hire not in some]
            if order.random() < 0.5:
                yield Selection(hires=some)
            else:
                yield from (Selection(some, frozenset({name})) for name in order.sample(tuple(NAMES), len(NAMES)))


if __name__ == "__main__":
    run(Parts, "parts", __doc__)
    print("each service had the same accounts, whatever the passes covered")
