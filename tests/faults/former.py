"""Former accounts, and two hires on one account, over whatever may happen to hires' files and to a service.

`python -m tests.faults.former --examples 1000 --steps 50` is the large run; the suite plays a few. Answers get lost,
requests fail or are answered with success and do nothing, the program is killed, and entries end by the hour. After
every pass it is seen at the service and in the ledger what needs no model: each account that the program made and that
is still there is in some row, nobody is made twice, no request has what was stored of another account, nothing is taken
away that somebody in git has, however it is spelt, and nothing counts as revoked that is there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from reconciler.model.errors import TransportError
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Phase as Stage
from reconciler.model.selection import Selection
from reconciler.transports.messages import Response
from tests.engine.harness import Crash, Hands
from tests.faults.judgement import Came
from tests.faults.model import MEMORY, Call, Program, Services, fuses

URL = "http://127.0.0.1:1"
PEOPLE = ("ada", "bob", "cy")
LOGINS = ("ann", "Ann", "ann ", "ben", "B\u200ben", "cat")
ADDRESSES = tuple(f"{name}@example.com" for name in ("ada", "bob", "cy", "dan"))
NAMES = {"desk": "LOGIN", "post": "email"}
"""What tells the accounts of each integration."""


def same(text: str) -> str:
    """What the spellings of a name share at this service."""
    return text.replace("\u200b", "").strip().lower()


class Desks(Services):
    """Accounts at two integrations, by the name in the path; spellings are one to it.

    Each account has a number of its own, which the second request to make one has to be sent with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, dict[str, int]] = {integration: {} for integration in NAMES}
        self.count = 0
        self.made: set[tuple[str, str]] = set()
        self.twice: list[str] = []
        self.deleted: set[tuple[str, str]] = set()
        self.down = False

    async def send(self, wire: Any, *, follow: bool = False, leaving: Any = None, behind: bool = False) -> Response:
        """Take a request; what becomes of it is as `answers` says of its method and place."""
        if self.dead:
            raise Crash
        integration, name, *more = wire.url.removeprefix(f"{URL}/").split("/")
        whose, there = same(unquote(name)), self.accounts[integration]
        if leaving is None:
            if self.down:
                return Response(500)
            return self._account(unquote(name), there[whose]) if whose in there else Response(404)
        self.calls.append(Call((whose, integration), wire.method, len(more), Came.IN_DOUBT))
        await leaving()
        self.reached(Failpoint.REQUEST, done=False)
        weather = self.answers.get(f"{wire.method} {len(more)}", "answered")
        if weather in ("answered", "lost"):
            self._do(wire, integration, whose, team=bool(more))
        self.reached(Failpoint.RESPONSE, done=True)
        if weather in ("lost", "cut", "never left"):
            raise TransportError("hung up", left=weather != "never left")
        return Response(500) if weather == "refused" else self._account(whose, there.get(whose, 0))

    def _do(self, wire: Any, integration: str, whose: str, *, team: bool) -> None:
        there = self.accounts[integration]
        if team:
            if json.loads(wire.content)["id"] != there.get(whose, 0):  # as what was ignored is answered
                self.misplaced.append((whose, integration))
        elif wire.method == "DELETE":
            self.deleted.add((integration, whose))
            self.made.discard((integration, whose))
            there.pop(whose, None)
        elif whose in there:
            self.twice.append(whose)
        else:
            self.appear_as(integration, whose)
            self.made.add((integration, whose))

    def appear_as(self, integration: str, whose: str) -> None:
        """An account is there, with a number that none had."""
        self.count += 1
        self.accounts[integration].setdefault(whose, self.count)

    def names(self) -> dict[str, set[str]]:
        """Who has an account, by integration."""
        return {integration: {*there} for integration, there in self.accounts.items()}

    def _account(self, name: str, number: int) -> Response:
        return Response(200, {}, json.dumps({"name": name, "id": number}).encode())


def manifest(integration: str, name: str) -> dict[str, Any]:
    one = f"{URL}/{integration}/{{{{{name}}}}}"
    return {
        "exists": {
            "url": one,
            "expected": f"{{{{{name}}}}}",
            "fail_when_4xx_response_code": False,
            "store_data": {"ID": "id"},
        },
        "execute": [{"url": one, "store_data": {"ID": "id"}}, {"url": f"{one}/team", "data": {"id": "{{ID}}"}}],
        "revoke": [{"url": one, "method": "DELETE"}],
    }


people = st.sampled_from(PEOPLE)
failures = st.sampled_from(["refused", "never left", "lost", "cut", "ignored"])


class Changes(RuleBasedStateMachine):
    """What people change in the files; `whole_pass` says what is done about it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="former-", dir=MEMORY if MEMORY.is_dir() else None)
        self.desks, self.clock = Desks(), Hands()
        root = Path(self.folder.name, "repo")
        self.program = Program(root, self.desks, self.clock)
        (root / ".reconciler").mkdir(mode=0o700)
        self.programs = [self.program]
        self.hires: dict[str, dict[str, Any]] = {}
        self.prune = True
        self.told = NAMES
        self.broken: set[str] = set()
        """Whose files cannot be read."""
        self.suspended: set[str] = set()

    def teardown(self) -> None:
        for program in self.programs:
            program.end()
        self.folder.cleanup()

    def _commit(self) -> None:
        prune = "revoke" if self.prune else "report"
        held = [{"integration" if each in NAMES else "hire": each} for each in sorted(self.suspended)]
        settings = {"prune": prune, "drift": "report", "suspend": held}
        found: dict[str, Any] = {"config/reconciler.yaml": settings, "hires/.gitkeep": ""}
        found |= {f"manifests/{each}.yaml": manifest(each, name) for each, name in self.told.items()}
        for stem, hire in self.hires.items():
            person = {"email": hire["email"], "first_name": "A", "last_name": "", "extra": {"LOGIN": hire["login"]}}
            entries = [
                {"integration": each, **({"until": until.isoformat()} if (until := hire["ends"].get(each)) else {})}
                for each in hire["access"]
            ]
            found[f"hires/{stem}.yaml"] = "email: [" if stem in self.broken else {**person, "access": entries}
        for program in self.programs:
            program.commit(found)

    @initialize()
    def start(self) -> None:
        self.hires = {
            name: {"email": address, "login": login, "access": ["desk", "post"], "ends": {}}
            for name, address, login in zip(PEOPLE, ADDRESSES, ("ann", "ben", "cat"), strict=False)
        }
        self._commit()
        for program in self.programs:
            program.start()
        self.whole_pass()

    @rule(name=people, login=st.sampled_from(LOGINS))
    def change_login(self, name: str, login: str) -> None:
        if name in self.hires:
            self.hires[name]["login"] = login
            self._commit()

    @rule(name=people, address=st.sampled_from(ADDRESSES))
    def change_address(self, name: str, address: str) -> None:
        if name in self.hires:
            self.hires[name]["email"] = address
            self._commit()

    @rule(name=people, access=st.sampled_from([[], ["desk"], ["post"], ["desk", "post"]]))
    def change_access(self, name: str, access: list[str]) -> None:
        if name in self.hires:
            self.hires[name]["access"] = access
            self._commit()

    @rule(name=people)
    def leave(self, name: str) -> None:
        if self.hires.pop(name, None) is not None:
            self._commit()

    @rule(name=people, address=st.sampled_from(ADDRESSES), login=st.sampled_from(LOGINS))
    def come(self, name: str, address: str, login: str) -> None:
        """Somebody comes, or comes back, perhaps with a name that somebody else had."""
        if name not in self.hires:
            self.hires[name] = {"email": address, "login": login, "access": ["desk", "post"], "ends": {}}
            self._commit()

    @rule(one=people, other=people)
    def rename(self, one: str, other: str) -> None:
        """A file gets another name, or two swap theirs."""
        moved = {other: self.hires.get(one), one: self.hires.get(other)}
        self.hires |= {name: hire for name, hire in moved.items() if hire is not None}
        for name in [name for name, hire in moved.items() if hire is None]:
            self.hires.pop(name, None)
        self._commit()

    @rule(prune=st.booleans())
    def change_prune(self, *, prune: bool) -> None:
        self.prune = prune
        self._commit()

    @rule(name=people, integration=st.sampled_from(tuple(NAMES)), hours=st.sampled_from([None, 1, 2]))
    def end_soon(self, name: str, integration: str, hours: int | None) -> None:
        """An entry ends in some hours, or does no more."""
        if name in self.hires:
            ends = self.hires[name]["ends"]
            self.hires[name]["ends"] = {**ends, integration: hours and self.clock.now() + timedelta(hours=hours)}
            self._commit()

    def whole_pass(self) -> None:
        """Pass over everybody."""
        raise NotImplementedError


class FormerAccounts(Changes):
    """One repository and its service, which may fail, and be changed by hand."""

    @rule(integration=st.sampled_from(tuple(NAMES)), name=st.sampled_from((*LOGINS, *ADDRESSES)))
    def appear(self, integration: str, name: str) -> None:
        """Somebody makes an account by hand."""
        self.desks.appear_as(integration, same(name))

    @rule(down=st.booleans())
    def checks_fail(self, *, down: bool) -> None:
        self.desks.down = down

    @rule(name=people, integration=st.sampled_from(tuple(NAMES)), kind=st.sampled_from(["run", "revoke"]))
    def ask(self, name: str, integration: str, kind: str) -> None:
        if kind == "run" and self.desks.down:
            return  # who runs it by hand has looked
        if kind == "run" and any((integration, whose) in self._wanted() for whose in self.desks.accounts[integration]):
            return
        self.program.ledger.commands.enqueue(kind, now=self.clock.now(), by="ida@here", hire=name, access=integration)
        if kind == "run":  # before anything changes that they saw
            self.pass_over_one(name)

    @rule(what=st.sampled_from(["POST 0", "POST 1", "DELETE 0"]), how=failures)
    def requests_fail(self, what: str, how: str) -> None:
        self.desks.answers[what] = how

    @rule()
    def requests_recover(self) -> None:
        self.desks.answers.clear()

    @rule(one=people)
    def pass_over_one(self, one: str) -> None:
        self._pass(Selection(hires=frozenset({one})))

    @rule(minutes=st.sampled_from([0, 60]), fuse=fuses)
    def whole_pass(self, minutes: int = 0, fuse: int | None = None) -> None:
        self.clock.turn(minutes=minutes)
        self._pass(Selection(), fuse)

    def _wanted(self) -> set[tuple[str, str]]:
        """The accounts that git wants now; two files with one address are an error each, and say nothing."""
        addresses = Counter(hire["email"] for hire in self.hires.values())
        return {
            (integration, same(hire["email"] if integration == "post" else hire["login"]))
            for hire in self.hires.values()
            if addresses[hire["email"]] == 1
            for integration in hire["access"]
            if (ends := hire["ends"].get(integration)) is None or ends > self.clock.now()
        }

    def _over(self) -> set[tuple[str, str]]:
        """The accounts whose time is over by what a pass acted on: a commit that none saw before made it no longer."""
        now = self.clock.now()
        return {
            (record.integration, same(str(record.values.get(NAMES[record.integration]))))
            for record in self.program.ledger.grants.records()
            if record.ends_at is not None and record.ends_at <= now
        }

    def _pass(self, selection: Selection, fuse: int | None = None) -> None:
        desks, wanted = self.desks, self._wanted() - self._over()
        desks.deleted.clear()
        if not self.program.reconcile(selection, released=True, fuse=fuse):
            self.program.end()
            self.program.start()
        assert desks.twice == [], "made while it was there"
        assert desks.misplaced == [], "a request had what was stored of another account"
        records = self.program.ledger.grants.records()
        rows = {
            (record.integration, same(str(record.values.get(NAMES[record.integration]))))
            for record in records
            if record.phase is not Stage.REVOKED
        }
        assert desks.made <= rows, f"forgotten: {desks.made - rows}"
        assert not desks.deleted & wanted, f"taken away, and wanted: {desks.deleted & wanted}"


def play(examples: int, steps: int, number: int | None = None, machine: type[Changes] = FormerAccounts) -> None:
    """Play this many examples of this many steps."""
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if number is not None else [Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(machine if number is None else seed(number)(machine), settings=how)


def run(machine: type[Changes], name: str, about: str | None) -> None:
    """Play as many examples as the command's arguments ask for."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.faults.{name}", description=about)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    play(asked.examples, asked.steps, asked.seed, machine)


if __name__ == "__main__":
    run(FormerAccounts, "former", __doc__)
    print("nothing was forgotten, made twice or taken from anybody")
