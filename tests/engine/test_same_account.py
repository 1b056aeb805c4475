"""The prints of all that is wanted: rendered once for the passes that want the same, and in short slices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from reconciler.engine.context import Context, Revision
from reconciler.engine.observe.same_account import WantedFingerprints, wanted_prints
from reconciler.engine.run.planning import Planning
from reconciler.engine.state import reading
from reconciler.model.errors import RepositoryError
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.value import replace
from reconciler.repository.git.trees import CommitTree
from reconciler.requests.render import question
from reconciler.requests.tasks import Yielder
from tests.engine.harness import Machine
from tests.repo import Repo
from tests.servers import AccountService

ADA = Selection(hires=frozenset(["ada"]))
HIRES = [f"h{number:02}" for number in range(30)]


@pytest.fixture
def leaving(machine: Machine, repo: Repo, accounts: AccountService) -> Machine:
    """Thirty hires with an account each; Ada's entry has left git."""
    manifest = accounts.manifest(revoke=True)
    manifest["initial_data_form"] = [{"id": "AREA", "name": "Area", "secret": False}]
    manifest["headers"]["X-Area"] = "{{AREA}}"
    repo.manifest("tool", manifest)
    repo.initial_data("tool", {"AREA": "north"})
    repo.hire("ada", "tool")
    repo.commit()
    machine.reconcile()
    repo.hire("ada")
    for hire in HIRES:
        repo.hire(hire, "tool")
    repo.commit()
    return machine


def test_wanted_grants_are_rendered_once_for_all_passes_and_in_slices(
    leaving: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, rendered, slices = count(), Counter[str](), Counter[int]()
    of, turn = "first", 0

    def asked(*given: Any) -> object:
        rendered[of] += 1
        slices[turn] += 1
        return question(*given)

    async def counting() -> None:
        nonlocal turn
        while True:
            turn = next(turns)
            await asyncio.sleep(0)

    async def plan() -> None:
        nonlocal of
        context = Context(leaving.repo.root, leaving.clock, leaving.redactor)
        head, ticking = Revision.at(context, context.checkout.head()), asyncio.create_task(counting())
        try:
            with reading(head) as opened:
                await (await Planning(head, opened, PassRequest(ADA)).begin()).whole()
                of = "second"
                planning = await Planning(head, opened, PassRequest(ADA)).begin()
                (orphan,) = (await planning.whole()).grants
                assert not orphan.wanted
                of = "locked"
                locked = {name: replace(each, initial=None) for name, each in planning.integrations.items()}
                await context.wanted_prints.of(planning.desired, locked)
        finally:
            ticking.cancel()
            await context.aclose()

    ticks = count()
    monkeypatch.setattr("reconciler.requests.tasks.monotonic", lambda: next(ticks) / 1000)
    monkeypatch.setattr("reconciler.engine.observe.same_account.question", asked)
    asyncio.run(plan())
    assert rendered["first"] - rendered["second"] == len(HIRES)
    assert rendered["locked"] == len(HIRES), "anew, where they are rendered with other initial data"
    assert max(slices.values()) <= 6, "other tasks have their turn in between"


@pytest.fixture
def shared(machine: Machine, repo: Repo, accounts: AccountService) -> Machine:
    """Accounts by a login that two people can have, or by who is somebody's manager. Ada's entry has left git."""
    manifest = accounts.manifest()
    form = [{"id": "LOGIN", "name": "Login", "type": "input"}]
    for name, address, of_form in (("tool", "{{LOGIN}}", form), ("desk", "{{manager_email}}", [])):
        exists = {**manifest["exists"], "url": f"{accounts.url}/users/{address}", "expected": address}
        repo.manifest(name, {**manifest, "exists": exists, "form": of_form})
    accounts.add("shared@example.com")
    repo.hire("ada", entry("shared"))
    repo.commit()
    machine.reconcile()
    repo.hire("ada")
    for hire in HIRES:
        repo.hire(hire, entry(hire))
    return machine


def entry(login: str) -> dict[str, Any]:
    return {"integration": "tool", "values": {"LOGIN": f"{login}@example.com"}}


def itself(repo: Repo, *, same: bool) -> None:
    repo.hire("bob", entry("shared" if same else "bob"))


def its_manager(repo: Repo, *, same: bool) -> None:
    repo.hire("bob", "desk", manager={"hire": "meg"})
    repo.hire("meg", email="shared@example.com" if same else "meg@example.com")


def its_twin(repo: Repo, *, same: bool) -> None:
    """Neither file of two with one address can be used."""
    repo.hire("bob", entry("shared"))
    repo.hire("eve", email="eve@example.com" if same else "bob@example.com")


def its_sequence(repo: Repo, *, same: bool) -> None:
    repo.hire("bob", sequences=["team"])
    repo.write("config/sequences/team.yaml", {"access": [entry("shared" if same else "bob")]})


Change = Callable[..., None]


async def reasons(machine: Machine, change: Change, *states: bool, planned: Callable[[bool], None]) -> list[str]:
    """Commit a change to each state, and return what is said of Ada's account. `planned` is called before it is."""
    context, found = Context(machine.repo.root, machine.clock, machine.redactor), list[str]()
    try:
        for same in states:
            change(machine.repo, same=same)
            machine.repo.commit()
            head = Revision.at(context, context.checkout.head())
            with reading(head) as opened:
                planning = await Planning(head, opened, PassRequest(ADA)).begin()
                planned(same)
                (orphan,) = (await planning.whole()).grants
            found.append(orphan.decision.reason)
    finally:
        await context.aclose()
    return found


@pytest.mark.parametrize("same", [True, False], ids=["from now on", "no longer"])
@pytest.mark.parametrize("changes", [itself, its_manager, its_twin, its_sequence])
def test_commit_has_those_rendered_again_whose_accounts_it_may_change(
    shared: Machine, monkeypatch: pytest.MonkeyPatch, changes: Change, same: bool
) -> None:
    rendered = Counter[str]()

    def asked(*given: Any) -> object:
        rendered["in all"] += 1
        return question(*given)

    monkeypatch.setattr("reconciler.engine.observe.same_account.question", asked)
    before, after = asyncio.run(reasons(shared, changes, not same, same, planned=lambda _: rendered.clear()))
    assert ("it is the same account as bob/" in after) is same
    assert ("it is the same account as bob/" in before) is not same
    assert (rendered["in all"] >= len(HIRES)) is (changes is its_sequence)


def test_prints_that_could_not_be_read_are_read_again() -> None:
    """By the next pass over the same revision: it must not fail for what one pass met."""

    class Desired:
        whole = False

        @property
        def hires(self) -> list[str]:
            if not self.whole:
                raise OSError("the disk is full")
            return []

    async def walk() -> None:
        desired, wanted = Desired(), WantedFingerprints(Yielder(), wanted_prints)
        with pytest.raises(OSError, match="disk"):
            await wanted.of(desired, {})  # type: ignore[arg-type]
        desired.whole = True
        index = await wanted.of(desired, {})  # type: ignore[arg-type]
        assert await wanted.of(desired, {}) is index  # type: ignore[arg-type]

    asyncio.run(walk())


def test_everybody_is_rendered_again_if_the_commit_before_is_pruned(
    shared: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history that was rewritten may leave nothing to compare with."""

    def pruned(*_given: Any) -> frozenset[str]:
        raise RepositoryError("git has no such object")

    def prune(same: bool) -> None:
        if same:
            monkeypatch.setattr(CommitTree, "changed", pruned)

    before, after = asyncio.run(reasons(shared, itself, False, True, planned=prune))
    assert "the same account" not in before
    assert "it is the same account as bob/tool" in after
