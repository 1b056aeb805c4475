"""The engine compared with `judgement`, step by step, over whatever may happen to a repository and its services.

`python -m tests.faults.model --examples 1000 --steps 100` is the large run; the suite plays a few. Planning, the ledger
on its disk and the attempts are the real ones; the services are in this process, in the place of the HTTP client, so
that they can break anywhere, and the clock is the test's.

After every pass the rows of the ledger have to be those of the model, the attempts that were made those that it asks
for; and what no model is needed for is seen at the services and in the ledger's own list of attempts: nobody whom a
check finds is made again, nothing is sent for what is unknown, blocked, suspended or held, no grant has two attempts at
once, no third one comes by itself, and no retry before its time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

import pygit2
import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from reconciler.engine.apply.plan import Plan
from reconciler.engine.context import Context, Revision
from reconciler.engine.run.runner import LockedState, PassRunner
from reconciler.engine.state import OpenState, locking
from reconciler.ledger.entries import Attempt, Sent
from reconciler.ledger.writer import LedgerWriter
from reconciler.model.errors import TransportError
from reconciler.model.failpoints import Failpoint
from reconciler.model.grant import Key, Record
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest, Selection
from reconciler.model.settings import Limits
from reconciler.notify.delivery import Notifier
from reconciler.requests.client import Client, Leaving
from reconciler.requests.excerpt import excerpt
from reconciler.requests.hosts import AllowedHosts
from reconciler.transports.messages import RenderedRequest, Response
from tests.engine.harness import Crash, Hands, Outbox
from tests.faults.judgement import (
    AWAY,
    BASE,
    EXPIRES,
    REQUESTS,
    RESEND,
    REVOKED,
    UPDATED,
    WITH_DEPARTMENT,
    Came,
    Duty,
    Entry,
    Git,
    Grant,
    Judgement,
    Person,
    Row,
    Scope,
    Seat,
    Seen,
    Tried,
    needs_tool,
)
from tests.ledgers import inside

AT_ONCE = 100
"""So many examples are of one seed: what hypothesis remembers of them is bounded."""

PEOPLE = ("ada", "bob", "cy", "dan", "eve", "flo", "gus", "hal")
EVERYBODY = frozenset(PEOPLE)
HOST = "127.0.0.1:1"

MEMORY = Path("/dev/shm")
"""A disk in memory, where there is one: what is written is written at once."""

POINTS = frozenset(
    {
        Failpoint.INTENT,
        Failpoint.LEAVING,
        Failpoint.REQUEST,
        Failpoint.RESPONSE,
        Failpoint.ANSWER,
        Failpoint.OUTCOME,
        Failpoint.CHECKED,
    }
)
"""Where the program may end in the middle of attempts."""


# The services


@dataclass
class Call:
    """A request that was about to leave for a service, and what the ledger can know of it."""

    grant: Grant
    method: str
    place: int
    came: Came


class Services(Client):
    """All services, in the place of the client that speaks HTTP.

    `checks` says how an integration answers checks, `answers` what becomes of a request, by integration and place.
    """

    def __init__(self) -> None:
        self.there: dict[str, set[str]] = {integration: set() for integration in REQUESTS}
        self.invited: dict[str, set[str]] = {integration: set() for integration in REQUESTS}
        """Who was made and is not seen yet. The club always invites, and says whom."""
        self.invites = False
        self.seats: dict[str, Seat] = {}
        self.deaf = False
        """Whether seats stay as they are, whatever is asked for."""
        self.checks = dict.fromkeys((*REQUESTS, "pending"), "answered")
        self.answers: dict[str, str] = {}
        self.calls: list[Call] = []
        self.confirmed: dict[Grant, Seat | None] = {}
        """Who was seen since `calls` began, and how their seat was."""
        self.blinded: set[Grant] = set()
        """Of whom no check is answered any more since `calls` began."""
        self.numbers: dict[Grant, str] = {}
        """The number that the last request to make each tool was answered with, or would have been."""
        self.misplaced: list[Grant] = []
        """Whose place in a team was asked for with another number."""
        self.repeated: list[Grant] = []
        """Who was to be made while a check would have found them."""
        self.fuse: int | None = None
        """How many points are left until the program ends."""
        self.dead = False
        self._last: tuple[Failpoint, bool] | None = None

    def of(self, integration: str) -> Self:
        """Stay one: what happens at one integration is seen by all."""
        return self

    async def aclose(self) -> None:
        """There is nothing to close."""

    def begin(self, fuse: int | None) -> None:
        """The attempts of a pass begin."""
        self.calls, self.confirmed, self.repeated, self.blinded = [], {}, [], set()
        self.fuse = fuse

    def reached(self, point: Failpoint, *, done: bool) -> None:
        """The program comes to a point; where the fuse is burnt down, it ends there, and writes nothing any more."""
        if self.dead:
            raise Crash(point)
        if self.fuse is not None and point in POINTS:
            self.fuse -= 1
            if self.fuse < 0:
                self._end(point, done=done)
        self._last = (point, done)

    def _end(self, point: Failpoint, *, done: bool) -> None:
        self.dead = True
        self._last = (point, done)
        raise Crash(point)

    def seen(self, grant: Grant) -> Seen:
        """What a check finds now."""
        if grant[1] == "hook":
            return Seen.NOT_ASKED
        if self.checks[grant[1]] != "answered" or grant in self.blinded:
            return Seen.NOTHING_KNOWN
        name, integration = grant
        if name in self.there[integration]:
            return Seen.OFF if integration == "seat" and self.seats[name].off else Seen.THERE
        if integration != "club":
            return Seen.AWAY
        if self.checks["pending"] != "answered":
            return Seen.NOTHING_KNOWN
        return Seen.INVITED if name in self.invited["club"] else Seen.AWAY

    def appear(self, name: str, integration: str, level: str = "1") -> None:
        """An account is there."""
        self.invited[integration].discard(name)
        self.there[integration].add(name)
        if integration == "seat":
            self.seats[name] = Seat(level)

    def excerpt(self, answer: Response) -> str:
        return excerpt(answer, Redactor())

    def redact(self, value: Any) -> Any:
        return value

    async def send(
        self, wire: RenderedRequest, *, follow: bool = False, leaving: Leaving | None = None, behind: bool = False
    ) -> Response:
        """Take a request; hang up where that is what comes of it."""
        await asyncio.sleep(0)
        if self.dead:
            raise Crash
        _, _, path = wire.url.removeprefix("http://").partition("/")
        integration, address, *more = path.split("/")
        grant = (address.partition("%40")[0], integration)
        if leaving is None:
            return self._pending() if address == "pending" else self._check(grant)
        value = json.loads(wire.content).get("value", "") if wire.content else ""
        return await self._change(Call(grant, wire.method, int(bool(more)), Came.IN_DOUBT), value, leaving)

    def _weather(self, what: str) -> Response | None:
        """The answer of a check that fails."""
        match self.checks[what]:
            case "down":
                return Response(500)
            case "refused":
                return Response(401)
            case "cut":
                raise TransportError("hung up", left=True)
        return None

    def _pending(self) -> Response:
        """The club's open invitations."""
        return self._weather("pending") or _json([{"email": address_of(name)} for name in sorted(self.invited["club"])])

    def _check(self, grant: Grant) -> Response:
        if (failed := self._weather(grant[1])) is not None:
            return failed
        if grant in self.blinded:
            return Response(500)
        if grant[0] not in self.there[grant[1]]:
            return Response(404)
        seat = self.seats[grant[0]] if grant[1] == "seat" else None
        self.confirmed[grant] = seat
        more = {} if seat is None else {"level": seat.level, "state": "off" if seat.off else "on"}
        return _json({"email": address_of(grant[0]), **more})

    async def _change(self, call: Call, value: str, leaving: Leaving) -> Response:
        try:
            await leaving()
        except Crash:
            if self._last == (Failpoint.LEAVING, True):
                self.calls.append(call)
            raise
        self.calls.append(call)
        self.reached(Failpoint.REQUEST, done=False)
        weather = self.answers.get(f"{call.method} {call.grant[1]} {call.place}", "answered")
        status, answer = 200, {"id": self._numbered(call, value)}
        if weather in ("answered", "lost", "blinded"):
            status = self._happens(call, value)
        if weather in ("blinded", "ignored and blinded"):
            self.blinded.add(call.grant)
        if weather == "accepted":
            self.appear(*call.grant)
            status = 404
        match weather:
            case "answered" | "ignored" | "accepted" | "blinded" | "ignored and blinded":
                call.came = Came.DONE if status in (200, 404) else Came.REFUSED
            case "refused":
                status, call.came = 500, Came.REFUSED
            case "never left":
                call.came = Came.UNSENT
        self.reached(Failpoint.RESPONSE, done=True)
        if weather in ("lost", "cut", "never left"):
            raise TransportError("hung up", left=weather != "never left")
        return Response(status, {}, json.dumps(answer).encode())

    def _numbered(self, call: Call, value: str) -> str:
        """Give what is made a number, which the request after it has to be sent with: no former account's."""
        if call.grant[1] == "tool" and call.method == "POST":
            if call.place == 0:
                self.numbers[call.grant] = str(len(self.numbers) + int(self.numbers.get(call.grant, "0")) + 1)
            elif value != self.numbers.get(call.grant):
                self.misplaced.append(call.grant)
        return self.numbers.get(call.grant, "")

    def _happens(self, call: Call, value: str) -> int:
        """What a request does; the status of the answer."""
        (name, integration), there = call.grant, self.there[call.grant[1]]
        match call.method:
            case "DELETE" if integration == "club":  # it takes an invitation back
                status = 200 if name in self.invited["club"] else 404
                self.invited["club"].discard(name)
                return status
            case "DELETE":
                there.discard(name)
                self.invited[integration].discard(name)
            case "PUT" if integration == "seat" and call.place == 0 and name in there and not self.deaf:
                self.seats[name] = Seat(value)
            case "POST" if call.place == 0 and integration != "hook":
                if name in there:
                    self.repeated.append(call.grant)
                    return 500
                if integration == "club" or self.invites:
                    self.invited[integration].add(name)
                    if integration == "seat":
                        self.seats[name] = Seat(value)
                else:
                    self.appear(name, integration, "1" if self.deaf else value)
        return 200


def _json(content: Any) -> Response:
    return Response(200, {"content-type": "application/json"}, json.dumps(content).encode())


def address_of(name: str) -> str:
    """The address of a person."""
    return f"{name}@example.com"


# The program


class StagedWorld(Context):
    """The context, with all its services in this process."""

    services: Services

    def client(self, service: str, hosts: AllowedHosts, limits: Limits) -> Client:
        """Whichever it is."""
        return self.services


class Program:
    """The program on a repository: started, ended, and told to make passes."""

    def __init__(self, root: Path, services: Services, clock: Hands) -> None:
        self.root, self.services, self.clock = root, services, clock
        self._git = pygit2.init_repository(str(root), initial_head="main")
        self._began = ExitStack()
        self.opened: OpenState | None = None
        self.cut_off: set[int] = set()
        """The attempts of the last pass that were under way where the program ended."""

    @property
    def ledger(self) -> LedgerWriter:
        assert self.opened is not None
        return inside(self.opened.ledger)

    def commit(self, files: Mapping[str, Any]) -> None:
        """Make a commit of these files and nothing else."""
        index = pygit2.Index()
        for path, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            blob = self._git.create_blob(text.encode())
            index.add(pygit2.IndexEntry(path, blob, pygit2.enums.FileMode.BLOB))
        who = pygit2.Signature("Ida Admin", "ida@example.com", int(time.time()), 0)
        parents = [] if self._git.head_is_unborn else [self._git.head.target]
        self._git.create_commit("refs/heads/main", who, who, "change", index.write_tree(self._git), parents)

    def start(self) -> None:
        """Open the state."""
        self.services.dead, self.services.fuse = False, None
        self.redactor = Redactor()
        self.context = StagedWorld(self.root, self.clock, self.redactor, self.services.reached)
        self.context.services = self.services
        self.opened = self._began.enter_context(locking(self._head(), "model"))

    def _head(self) -> Revision:
        return Revision.at(self.context, self.context.checkout.head())

    def end(self) -> None:
        """End as the program ends, or, where it is dead already, as its process would."""
        with suppress(Crash):
            self._began.close()
        self.opened = None

    def reconcile(self, selection: Selection, *, released: bool, fuse: int | None) -> bool:
        """One pass. Whether it came to its end."""
        try:
            asyncio.run(self._reconcile(selection, released=released, fuse=fuse))
        except Crash:
            self.cut_off = {attempt.id for attempt in self.ledger.attempts.open()}
            return False
        finally:
            self.services.fuse = None
        self.cut_off = set()
        assert not self.ledger.attempts.open(), "an attempt has no end"
        return True

    async def _reconcile(self, selection: Selection, *, released: bool, fuse: int | None) -> None:
        opened, head = self.opened, self._head()
        assert opened is not None

        async def begin(_plan: Plan) -> bool:
            self.services.begin(fuse)
            return True

        passes = PassRunner(
            clock=self.clock,
            leases=LockedState(opened),
            revision=lambda: head,
            notifier=Notifier(lambda _: Outbox()),
            approve=begin,
        )
        await passes.apply_commands(inside(opened.ledger).commands.waiting())
        if released:
            await passes.let_through(opened, selection)
        await passes.run(PassRequest(selection, released="ida@here" if released else None))


# The files


def manifest(integration: str, edition: int) -> dict[str, Any]:
    """An integration's manifest, of an edition."""
    url, values = f"http://{HOST}/{integration}", {"value": "{{VALUE}}", "edition": edition}
    whole: dict[str, Any] = {"form": [{"id": "VALUE", "name": "Value", "type": "input"}]}
    if integration == "hook":
        one = {"url": f"{url}/{{{{email}}}}"}
        return {**whole, "execute": [{**one, "data": values}], "revoke": [{**one, "method": "DELETE"}]}
    if integration in WITH_DEPARTMENT:
        values["department"] = "{{department}}"
    exists: dict[str, Any] = {"url": f"{url}/{{{{email}}}}", "expected": "{{email}}"}
    whole["exists"] = {**exists, "fail_when_4xx_response_code": False}
    whole["execute"] = [{"url": f"{url}/{{{{email}}}}", "data": values}]
    away = [{"url": f"{url}/{{{{email}}}}", "method": "DELETE"}]
    if integration == "tool":
        whole["execute"][0]["store_data"] = {"ID": "id"}
        whole["execute"].append({"url": f"{url}/{{{{email}}}}/team", "data": {"edition": edition, "value": "{{ID}}"}})
    if integration == "seat":
        whole["exists"] |= {"where": {"level": "{{VALUE}}"}, "inactive": {"state": "off"}}
    if integration == "club":
        whole["exists"]["pending"] = {"url": f"{url}/pending", "data_from": "", "match": "email"}
        whole["withdraw"] = away
        whole["invitation"] = {"expires": f"{EXPIRES.days}d", "resend": RESEND}
    if integration in UPDATED:
        whole["update"] = [{"url": f"{url}/{{{{email}}}}", "method": "PUT", "data": values}]
    if integration == "seat":
        whole["update"].append({"url": f"{url}/{{{{email}}}}/told", "method": "PUT"})
    if integration in REVOKED:
        whole["revoke"] = away
    return whole


def files(git: Git) -> dict[str, Any]:
    """What a commit holds."""
    suspended = [
        {
            **({"hire": git.people[name].stem} if name in git.people else {"integration": name}),
            **({"until": str(until)} if until else {}),
        }
        for name, until in git.suspended
    ]
    found: dict[str, Any] = {
        "config/reconciler.yaml": {
            "drift": "heal" if git.heal else "report",
            "prune": "revoke" if git.prune else "report",
            "expire": "revoke" if git.expire else "prune",
            "max_change_percent": git.percent,
            "max_new": git.most,
            "suspend": suspended,
        },
        "hires/.gitkeep": "",
    }
    match git.sequence:
        case "there":
            given = [{"integration": name, "values": {"VALUE": git.given}} for name in sorted(BASE)]
            found["config/sequences/base.yaml"] = {"access": given}
        case "broken":
            found["config/sequences/base.yaml"] = "access: {}\n"
    for integration in REQUESTS:
        broken = integration in git.broken
        whole = "execute: {}\n" if broken else manifest(integration, git.edition[integration])
        found[f"manifests/{integration}.yaml"] = whole
    for name, person in git.people.items():
        if person.file != "gone":
            found[f"hires/{person.stem}.yaml"] = hire(name, person)
    return found


def hire(name: str, person: Person) -> Any:
    """A hire's file."""
    if person.file == "broken":
        return (
            f"email: {address_of(name)}\nfirst_name: [\n# {name * 40}\n"  # like nobody else's, so that git renames none
        )
    entries = []
    for integration, entry in person.access.items():
        whole: dict[str, Any] = {"integration": integration, "values": {"VALUE": entry.value}}
        if entry.begins is not None:
            whole["at"] = str(entry.begins)
        match entry.until:
            case datetime() as moment:
                whole["until"] = f"{moment:%Y-%m-%dT%H:%M}Z"
            case date() as day:
                whole["until"] = str(day)
        if entry.lasts is not None:
            whole["for"] = f"{entry.lasts // timedelta(hours=1)}h"
        if entry.keep:
            whole["keep"] = True
        if entry.needs:
            whole["needs"] = ["tool"]
        entries.append(whole)
    fields: dict[str, Any] = {"department": person.department} if person.department else {}
    if person.base:
        fields["sequences"] = ["base"]
    if person.end is not None:
        fields["end"] = str(person.end)
    return {"email": address_of(name), "first_name": name.title(), "last_name": "", **fields, "access": entries}


@cache
def template() -> tempfile.TemporaryDirectory[str]:
    """A repository whose state was just made: to make one takes longer than a hundred steps."""
    folder = tempfile.TemporaryDirectory(prefix="model-")
    program = Program(Path(folder.name), Services(), Hands())
    program.commit(files(Git({})))
    program.start()
    program.end()
    return folder


# What may happen

people = st.integers(1, 2 ** len(PEOPLE) - 1).map(
    lambda mask: frozenset(name for place, name in enumerate(PEOPLE) if mask >> place & 1)
)
somebody = st.sampled_from(PEOPLE)
integrations = st.sampled_from(tuple(REQUESTS))
fuses = st.none() | st.integers(0, 12)
many_or_all = people | st.just(EVERYBODY)
changes = st.sampled_from(
    ["POST tool 1", "PUT seat 0", "PUT seat 1", *(f"POST {name} 0" for name in REQUESTS)]
    + [f"PUT {name} 0" for name in ("tool", "seat")]
    + [f"DELETE {name} 0" for name in ("tool", "seat", "club", "hook")]
)
checked = st.sampled_from([name for name in REQUESTS if name != "hook"])
removals = st.sampled_from([f"DELETE {name} 0" for name in ("tool", "seat", "club")])
failures = st.sampled_from(["refused", "never left", "lost", "cut"])
days = st.none() | st.integers(-2, 3)
new_ends = st.tuples(st.just("day"), st.integers(-1, 4)) | st.tuples(
    st.sampled_from(["hour", "for"]), st.integers(1, 30)
)
befores = st.sampled_from(["broken", "gone", "taken", "down", "refused", "cut", "ignored", "blinded", "healthy"])
ends = st.none() | st.tuples(st.just("hour"), st.integers(-3, 0)) | new_ends
End = tuple[str, int] | None


class Model(RuleBasedStateMachine):
    """One repository, its services and its clock, and the model beside them."""

    ended: Callable[[int], None] = staticmethod(lambda _steps: None)
    """Told of how many steps an example had."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="model-", dir=MEMORY if MEMORY.is_dir() else None)
        self.services, self.clock = Services(), Hands()
        root = Path(self.folder.name, "repo")
        self.program = Program(root, self.services, self.clock)
        shutil.copytree(Path(template().name, ".reconciler"), root / ".reconciler")
        self.git = Git({name: Person(name) for name in PEOPLE})
        self.judgement = Judgement(self.services.seats)
        self.asked: list[tuple[str, Grant]] = []
        """Commands that the ledger alone answers, once a pass begins."""
        self.steps = 0

    def teardown(self) -> None:
        self.program.end()
        self.folder.cleanup()
        self.ended(self.steps)

    @invariant()
    def count(self) -> None:
        self.steps += 1

    @initialize(
        many=many_or_all,
        whole=st.booleans(),
        needs=st.booleans(),
        end=st.none() | new_ends,
        prune=st.booleans(),
        invites=st.booleans(),
        answers=st.dictionaries(changes, failures, max_size=3),
        begins=days,
        broken=st.frozensets(integrations, max_size=1),
    )
    def start(
        self,
        many: frozenset[str],
        answers: dict[str, str],
        begins: int | None,
        broken: frozenset[str],
        end: End = None,
        *,
        whole: bool,
        needs: bool,
        prune: bool,
        invites: bool,
    ) -> None:
        self.services.answers, self.services.invites = answers, invites
        tool = Entry("1", begins=None if begins is None else self.clock.now().date() + timedelta(begins))
        more = {"mail": Entry("1", needs=needs), "hook": Entry("1"), "seat": Entry("1"), "club": Entry("1")}
        access = {name: self._ending(entry, end) for name, entry in ({"tool": tool} | (more if whole else {})).items()}
        self._commit(prune=prune, broken=broken)
        self._people(dict.fromkeys(many, access))
        self.program.start()
        self._pass(Scope())

    # Commits

    def _commit(self, **changes: Any) -> None:
        self.git = replace(self.git, **changes)
        self.program.commit(files(self.git))

    def _people(self, wanted: Mapping[str, Mapping[str, Entry]]) -> None:
        changed = {name: replace(self.git.people[name], file="there", access=access) for name, access in wanted.items()}
        self._commit(people={**self.git.people, **changed})

    @rule(
        name=somebody,
        integration=integrations,
        value=st.sampled_from("12"),
        begins=days,
        end=st.none() | ends,
        needs=st.booleans(),
        keep=st.sampled_from([False, False, False, True]),
    )
    def give(
        self, name: str, integration: str, value: str, begins: int | None, end: End, *, needs: bool, keep: bool = False
    ) -> None:
        """A grant is new, or changes."""
        day = None if begins is None else self.clock.now().date() + timedelta(begins)
        entry = self._ending(Entry(value, day, keep=keep, needs=needs and integration == "mail"), end)
        self._people({name: {**self.git.people[name].access, integration: entry}})

    def _ending(self, entry: Entry, end: End) -> Entry:
        """An entry with another end, or none."""
        match end:
            case ("for", hours):
                return replace(entry, until=None, lasts=timedelta(hours=hours))
            case ("hour", hours) if entry.begins is None:
                until: date = self.clock.now().replace(second=0, microsecond=0) + timedelta(hours=hours)
            case ("day", number) if entry.begins is None:
                until = self.clock.now().date() + timedelta(number)
            case _:
                return replace(entry, until=None, lasts=None)
        return replace(entry, until=until, lasts=None)

    @rule(many=many_or_all, integration=st.none() | integrations, end=ends)
    def move_ends(self, many: frozenset[str], integration: str | None, end: End) -> None:
        """Entries end earlier, later, in the past, or no more."""
        changed = {
            name: {
                one: self._ending(entry, end) if integration in (None, one) else entry
                for one, entry in self.git.people[name].access.items()
            }
            for name in sorted(many)
        }
        people = {name: replace(self.git.people[name], access=access) for name, access in changed.items()}
        self._commit(people={**self.git.people, **people})

    @rule(many=people, number=st.none() | st.integers(-1, 3))
    def last_days(self, many: frozenset[str], number: int | None) -> None:
        """Hires leave at the end of a day, or do not."""
        day = None if number is None else self.clock.now().date() + timedelta(number)
        self._commit(people={**self.git.people, **{name: replace(self.git.people[name], end=day) for name in many}})

    @rule(name=somebody, integration=integrations, value=st.sampled_from("12"))
    def edit(self, name: str, integration: str, value: str) -> None:
        """A value changes."""
        access = self.git.people[name].access
        if integration in access:
            self._people({name: {**access, integration: replace(access[integration], value=value)}})

    @rule(name=somebody, integration=integrations)
    def take(self, name: str, integration: str) -> None:
        """A grant is removed."""
        access = self.git.people[name].access
        self._people({name: {other: entry for other, entry in access.items() if other != integration}})

    @rule(many=many_or_all, file=st.sampled_from(["there", "there", "gone"]))
    def move(self, many: frozenset[str], file: str) -> None:
        """Hires come and go."""
        self._commit(people={**self.git.people, **{name: replace(self.git.people[name], file=file) for name in many}})

    @rule(name=somebody, department=st.sampled_from(["R&D", "Design", None]))
    def transfer(self, name: str, department: str | None) -> None:
        """Somebody's department changes, or is nowhere: then what uses it is blocked."""
        person = replace(self.git.people[name], department=department)
        self._commit(people={**self.git.people, name: person})

    @rule(name=somebody)
    def break_a_file(self, name: str) -> None:
        if self.git.people[name].file == "there":
            self._commit(people={**self.git.people, name: replace(self.git.people[name], file="broken")})

    @rule(name=somebody)
    def rename(self, name: str) -> None:
        """A hire's file gets another name, and a pass follows."""
        person = self.git.people[name]
        if person.file == "there" and not self.asked and not self.judgement.commands:
            stem = person.stem.swapcase() if person.stem == name else name
            self._commit(people={**self.git.people, name: replace(person, stem=stem)})
            self._pass(Scope())

    @rule(integration=integrations, broken=st.booleans())
    def break_a_manifest(self, integration: str, *, broken: bool) -> None:
        self._commit(broken=self.git.broken | {integration} if broken else frozenset[str]())

    @rule(many=many_or_all, base=st.booleans())
    def name_the_sequence(self, many: frozenset[str], *, base: bool) -> None:
        """Hires name the sequence from now on, or do no longer."""
        self._commit(people={**self.git.people, **{name: replace(self.git.people[name], base=base) for name in many}})

    @rule(sequence=st.sampled_from(["there", "broken", "gone"]), given=st.sampled_from("12"))
    def change_the_sequence(self, sequence: str, given: str) -> None:
        self._commit(sequence=sequence, given=given)

    @rule(integration=integrations)
    def edit_a_manifest(self, integration: str) -> None:
        self._commit(edition={**self.git.edition, integration: self.git.edition[integration] + 1})

    @rule(
        heal=st.sampled_from([True, True, False]),
        prune=st.booleans(),
        expire=st.sampled_from([True, True, True, False]),
        percent=st.sampled_from([0, 25, 60, 100]),
        most=st.sampled_from([None, None, 0, 2, 6]),
    )
    def set(self, percent: int, most: int | None, *, heal: bool, prune: bool, expire: bool = True) -> None:
        self._commit(heal=heal, prune=prune, expire=expire, percent=percent, most=most)

    @rule(who=st.none() | somebody | integrations, until=st.none() | st.integers(1, 2))
    def suspend(self, who: str | None, until: int | None) -> None:
        """Somebody or an integration is suspended, or nothing is any more."""
        day = None if until is None else self.clock.now().date() + timedelta(until)
        self._commit(suspended=() if who is None else (*self.git.suspended[-1:], (who, day)))

    # The services

    @rule(what=checked | st.just("pending"), how=st.sampled_from(["down", "refused", "cut"]))
    def checks_fail(self, what: str, how: str) -> None:
        self.services.checks[what] = how

    @rule()
    def checks_recover(self) -> None:
        self.services.checks = dict.fromkeys((*REQUESTS, "pending"), "answered")

    @rule(what=changes, how=failures)
    def requests_fail(self, what: str, how: str) -> None:
        self.services.answers[what] = how

    @rule(what=removals, how=st.sampled_from(["ignored", "blinded", "ignored and blinded"]))
    def removals_are_ignored(self, what: str, how: str) -> None:
        """A service says yes, and does nothing; or it cannot be asked afterwards."""
        self.services.answers[what] = how

    @rule()
    def invitations_are_accepted(self) -> None:
        """Between the check and the request that takes them back."""
        self.services.answers["DELETE club 0"] = "accepted"

    @rule()
    def requests_recover(self) -> None:
        self.services.answers.clear()

    @rule(many=many_or_all, integration=checked)
    def vanish(self, many: frozenset[str], integration: str) -> None:
        """Somebody deletes accounts."""
        self.services.there[integration] -= many

    @rule(name=somebody, integration=checked)
    def appear(self, name: str, integration: str) -> None:
        """Somebody makes an account by hand."""
        self.services.appear(name, integration)

    @rule(many=many_or_all, level=st.sampled_from("123"), off=st.booleans())
    def change_seats(self, many: frozenset[str], level: str, *, off: bool) -> None:
        """Somebody gives seats another level at the service, or switches them off or on."""
        for name in many & self.services.there["seat"]:
            self.services.seats[name] = Seat(level, off)

    @rule(deaf=st.booleans())
    def ignore(self, *, deaf: bool) -> None:
        """Seats stay as they are from now on, whatever is asked for, or do no longer."""
        self.services.deaf = deaf

    @rule(name=somebody, accepts=st.booleans())
    def answer_an_invitation(self, name: str, *, accepts: bool) -> None:
        """Somebody accepts the club's invitation, or it is taken back there."""
        if accepts and name in self.services.invited["club"]:
            self.services.appear(name, "club")
        self.services.invited["club"].discard(name)

    @rule(name=somebody)
    def invite_by_hand(self, name: str) -> None:
        """Somebody invites into the club by hand."""
        if name not in self.services.there["club"]:
            self.services.invited["club"].add(name)

    @rule(invites=st.booleans())
    def invite(self, *, invites: bool) -> None:
        """The services invite from now on, or do not; who was invited accepts."""
        self.services.invites = invites
        for integration, names in self.services.invited.items():
            for name in sorted(names) if integration != "club" else ():
                level = self.services.seats[name].level if integration == "seat" else "1"
                self.services.appear(name, integration, level)

    @rule()
    def calm(self) -> None:
        """All is well again: what is broken is mended, nothing is suspended, every service answers."""
        self.checks_recover()
        self.requests_recover()
        mended = {
            name: replace(person, file="there" if person.file == "broken" else person.file, department="R&D")
            for name, person in self.git.people.items()
        }
        self._commit(people=mended, broken=frozenset[str](), suspended=(), sequence="there")

    # Time

    @rule(minutes=st.sampled_from([1, 10, 29, 30, 59, 60, 61]))
    def wait(self, minutes: int) -> None:
        self.clock.turn(minutes=minutes)

    @rule(hours=st.integers(1, 30))
    def wait_long(self, hours: int) -> None:
        self.clock.turn(hours=hours)

    @rule(days=st.sampled_from([-1, 1]))
    def jump(self, days: int) -> None:
        """The clock jumps by a day."""
        self.clock.turn(days=days)

    # People

    @rule(kind=st.sampled_from(["retry", "accept", "run", "revoke"]), name=somebody, integration=integrations)
    def ask(self, kind: str, name: str, integration: str) -> None:
        """Somebody asks for something by hand, of what the ledger has."""
        grant = (name, integration)
        row = self.judgement.rows.get(grant)
        differs = integration == "seat" and row is not None and row.status == "differs"
        if row is None or (kind == "accept" and (row.off or (row.phase not in ("retrying", "failed") and not differs))):
            return
        stem = self.git.people[name].stem
        now = self.clock.now()
        self.program.ledger.commands.enqueue(kind, now=now, by="ida@here", hire=stem, access=integration)
        if kind in ("retry", "accept"):
            self.asked.append((kind, grant))
        else:
            self.judgement.commands[grant] = kind

    @rule()
    def forget(self) -> None:
        """Whoever is in git no more, and has nothing any more, is erased; and may come again as somebody new."""
        judgement = self.judgement
        for name, person in self.git.people.items():
            rows = {grant: row for grant, row in judgement.rows.items() if grant[0] == name}
            if person.file == "gone" and all(row.phase == "revoked" for row in rows.values()):
                self.program.ledger.forget(person.stem, self.clock.now(), by="ida@here")
                judgement.forget(rows)

    @rule()
    def restart(self) -> None:
        self.program.end()
        self.program.start()

    # Passes

    @rule(fuse=fuses, down=st.sampled_from([0, 10, 90]), released=st.sampled_from([False, False, True]))
    def whole_pass(self, fuse: int | None, down: int, *, released: bool) -> None:
        self._pass(Scope(), fuse=fuse, down=down, released=released)

    @rule(minutes=st.sampled_from([0, 59, 60, 90]))
    def pass_after_a_while(self, minutes: int) -> None:
        self.clock.turn(minutes=minutes)
        self._pass(Scope())

    @rule(
        many=many_or_all,
        integration=checked,
        minutes=st.sampled_from([0, 1440]),
        whole=st.booleans(),
    )
    def pass_after_a_loss(self, many: frozenset[str], integration: str, minutes: int, *, whole: bool) -> None:
        """Accounts are gone; one pass, or several that count together, meet that."""
        self.vanish(many, integration)
        self.clock.turn(minutes=minutes)
        for scope in [Scope()] if whole else [Scope(people=frozenset({name})) for name in PEOPLE]:
            self._pass(scope)

    @rule(many=many_or_all, level=st.sampled_from("123"), off=st.booleans(), minutes=st.sampled_from([0, 1440]))
    def pass_after_a_change(self, many: frozenset[str], level: str, minutes: int, *, off: bool) -> None:
        """Seats are changed at the service, and a pass meets that."""
        self.change_seats(many, level, off=off)
        self.clock.turn(minutes=minutes)
        self._pass(Scope())

    @rule(days=st.sampled_from([6, 7, 8]), fuse=fuses)
    def pass_after_days(self, days: int, fuse: int | None) -> None:
        """Invitations expire."""
        self.clock.turn(days=days)
        self._pass(Scope(), fuse=fuse)

    @rule(many=people, fuse=fuses)
    def pass_over_people(self, many: frozenset[str], fuse: int | None) -> None:
        self._pass(Scope(people=many), fuse=fuse)

    @rule(integration=integrations)
    def pass_over_an_integration(self, integration: str) -> None:
        self._pass(Scope(integrations=frozenset({integration})))

    @rule()
    def resync_in_slices(self) -> None:
        """As the daemon's interval goes over everybody."""
        self.program.ledger.guard.begin_resync()
        self.judgement.resync()
        for name in PEOPLE:
            self._pass(Scope(people=frozenset({name})))

    @rule(fuse=fuses)
    def due(self, fuse: int | None) -> None:
        """What is due has its turn, as in the daemon."""
        names = {person.stem: name for name, person in self.git.people.items()}
        keys = self.program.ledger.grants.due(self.clock.now())
        grants = frozenset((names[key.hire], key.access) for key in keys)
        for grant in grants:
            row = self.judgement.rows[grant]
            assert row.phase == "retrying", f"{grant} is {row.phase}, and is due"
            assert row.retry_at is not None
            assert row.retry_at <= self.clock.now(), f"{grant} is due before its time"
        if grants:
            self._pass(Scope(people=frozenset(name for name, _ in grants), grants=grants), fuse=fuse)

    @rule(fuse=fuses)
    def over(self, fuse: int | None) -> None:
        """What is over has its turn, as in the daemon."""
        names, now = {person.stem: name for name, person in self.git.people.items()}, self.clock.now()
        grants = frozenset((names[key.hire], key.access) for key in self.program.ledger.grants.expiring(now))
        rows = self.judgement.rows.items()
        assert grants == {grant for grant, row in rows if row.ask_at is not None and row.ask_at <= now}
        if grants:
            self._pass(Scope(people=frozenset(name for name, _ in grants), grants=grants), fuse=fuse)

    @rule(
        which=st.integers(0, 2),
        many=people,
        end=new_ends,
        before=st.none() | befores,
        noticed=st.booleans(),
        seconds=st.sampled_from([-1, 0, 0, 1, 60]),
        whole=st.booleans(),
        fuse=fuses,
    )
    def pass_at_an_end(
        self,
        which: int,
        many: frozenset[str],
        end: End,
        before: str | None,
        seconds: int,
        fuse: int | None,
        *,
        noticed: bool,
        whole: bool,
    ) -> None:
        """The first, or another, of the times to come is over now, or just not yet; and something happened before."""
        if not (ahead := self._ahead()):
            self.move_ends(many, None, end)
            self._pass(Scope())
        if not (ahead := ahead or self._ahead()):
            return
        now = self.clock.now()
        moments = sorted({moment for moment, _ in ahead})
        moment = moments[min(which, len(moments) - 1)]
        if before is not None:
            for grant in sorted(grant for at, grant in ahead if at == moment):
                self._happens_before(before, *grant)
            if noticed:
                self._pass(Scope())
        self.clock.turn(seconds=(moment - now).total_seconds() + seconds)
        if whole:
            self._pass(Scope(), fuse=fuse)
        else:
            self.over(fuse)

    def _ahead(self) -> list[tuple[datetime, Grant]]:
        """When which grants have their turn because of their end."""
        now, rows = self.clock.now(), self.judgement.rows.items()
        return [(row.ask_at, grant) for grant, row in rows if row.ask_at is not None and row.ask_at > now]

    def _happens_before(self, what: str, name: str, integration: str) -> None:
        """Something happens to whoever's time is about to be over."""
        person = self.git.people[name]
        match what:
            case "broken" | "gone" if person.file == "there":
                self._commit(people={**self.git.people, name: replace(person, file=what)})
            case "taken":
                self.take(name, integration)
            case "down":
                self.services.checks[integration] = "down"
            case "refused" | "cut" | "ignored" | "blinded":
                self.services.answers[f"DELETE {integration} 0"] = what
            case "healthy":
                self.calm()

    @rule(noticed=st.booleans(), end=ends)
    def come_again(self, end: End, *, noticed: bool) -> None:
        """What was over is taken out, and comes again."""
        found = [grant for grant, row in self.judgement.rows.items() if row.is_over(self.clock.now())]
        for again in (False, True):
            for name, integration in found:
                access = dict(self.git.people[name].access)
                if again:
                    access[integration] = self._ending(Entry("1"), end)
                else:
                    access.pop(integration, None)
                self._people({name: access})
            if again or noticed:
                self._pass(Scope())

    def _pass(self, scope: Scope, *, fuse: int | None = None, down: int = 0, released: bool = False) -> None:
        """One pass, compared with the model's. Where the program ended in it, it is down for some minutes."""
        now, judgement, git = self.clock.now(), self.judgement, self.git
        self.services.begin(None)
        for kind, grant in self.asked:
            judgement.act_on(kind, grant, now)
        self.asked = []
        judgement.count_revision(git, files(git), now)
        duties, gone = judgement.duties(git, scope, now, self.services.seen, released=released)
        newest, rows = self.program.ledger.guard.newest_attempt(), dict(judgement.rows)
        whole = self.program.reconcile(self._selection(scope), released=released, fuse=fuse)
        if not whole:
            self.clock.turn(minutes=down)
            self.restart()
        made = self._attempts(newest)
        judgement.planned(git, duties, gone, now)
        if scope.everything:
            judgement.resync()
        self._carried_out(duties, made, now, whole=whole)
        if released and whole:
            judgement.released()
        self._hold_in_any_case(made, rows, now)
        self._compare(duties if whole else {})
        if whole and git.expire:
            # What needs it comes first, in a pass over that.
            waits = {(name, "tool") for name in PEOPLE if not scope.covers((name, "mail"))}
            left = {grant: rows[grant] for grant, duty in duties.items() if not duty.wanted and grant not in waits}
            self._gone_in_time(
                {grant for grant, row in left.items() if row.is_over(now) and row.phase != "revoked"}, now
            )
        self._commands(duties, whole=whole)

    def _selection(self, scope: Scope) -> Selection:
        stems = {name: person.stem for name, person in self.git.people.items()}
        return Selection(
            hires=None if scope.people is None else frozenset(stems[name] for name in scope.people),
            integrations=scope.integrations,
            grants=None if scope.grants is None else frozenset(Key(stems[name], one) for name, one in scope.grants),
        )

    def _attempts(self, before: int) -> dict[Grant, tuple[Attempt, tuple[Sent, ...]]]:
        """The attempts of the pass, as the ledger has them."""
        found: dict[Grant, tuple[Attempt, tuple[Sent, ...]]] = {}
        ledger = self.program.ledger
        count = ledger.guard.newest_attempt() - before
        for grant, key in self._keys():
            if count == len(found):
                break
            new = [(attempt, sent) for attempt, sent in ledger.attempts.of(key) if attempt.id > before]
            assert len(new) <= 1, f"{grant} had two attempts in one pass"
            if new:
                found[grant] = new[0]
        assert len(found) == count
        return found

    def _keys(self) -> Iterator[tuple[Grant, Key]]:
        for name, person in self.git.people.items():
            yield from (((name, integration), Key(person.stem, integration)) for integration in REQUESTS)

    def _carried_out(
        self,
        duties: Mapping[Grant, Duty],
        made: Mapping[Grant, tuple[Attempt, tuple[Sent, ...]]],
        now: datetime,
        *,
        whole: bool,
    ) -> None:
        """What was tried is what had to be, each from the request at which it had to go on; it is remembered."""
        judgement = self.judgement
        for grant, duty in duties.items():
            if duty.act is None:
                continue
            if grant in made:
                calls = [call for call in self.services.calls if call.grant == grant]
                places = [_place(duty, call) for call in calls]
                assert places == [duty.resume + turn for turn in range(len(calls))], f"{grant}: {places}, {duty}"
                attempt, sent = made[grant]
                # Heard, and not written down; or written down, and it never left.
                doubt = {each.place: Came.IN_DOUBT for each in sent if each.answered_at is None}
                assert attempt.kind == duty.act, f"{grant}: {attempt.kind}, not {duty.act}"
                record = self.program.ledger.grants.record(dict(self._keys())[grant])
                unwritten = not whole and record is not None and (record.phase == "executed" or record.unseen)
                tried = Tried(
                    {_place(duty, call): call.came for call in calls} | doubt,
                    seen=grant in self.services.confirmed and not unwritten,
                    seat=self.services.confirmed.get(grant),
                    cut_off=attempt.id in self.program.cut_off,
                    left=self.services.seen(grant),
                )
                judgement.tried(self.git, grant, duty, now, tried)
                assert judgement.rows[grant].attempts == attempt.number, f"{grant}: attempt {attempt.number}"
            elif whole:
                tool = judgement.rows.get((grant[0], "tool"))
                put_off = duty.wanted and needs_tool(self.git, grant) and not judgement.settled(grant)
                assert put_off, f"{grant} was not tried: {duty}"
                assert tool is not None
                assert tool.status not in ("present", "differs", "done"), f"{grant} was not tried: {duty}"
                judgement.put_off(grant)
        tried_all = {grant for grant, duty in duties.items() if duty.act is not None}
        assert made.keys() <= tried_all, f"tried, and not to be: {made.keys() - tried_all}, {duties}"

    def _hold_in_any_case(
        self,
        made: Mapping[Grant, tuple[Attempt, tuple[Sent, ...]]],
        before: Mapping[Grant, Row],
        now: datetime,
    ) -> None:
        """What needs no model."""
        today = now.date()
        for grant, (attempt, _) in made.items():
            name, integration = grant
            assert attempt.number <= 2, f"{grant}: attempt {attempt.number}"
            if attempt.kind != "run":
                assert self.services.checks[integration] == "answered" or integration == "hook", f"{grant} is unknown"
            assert integration not in self.git.broken, f"{grant} is blocked"
            ends = attempt.kind in AWAY and before[grant].is_over(now)  # by itself, or by hand
            assert ends or self.git.people[name].file != "broken", f"{grant} is invalid"
            for who, until in self.git.suspended:
                assert who not in grant or (until is not None and until <= today), f"{grant} is suspended"
            if attempt.number == 2:
                at = before[grant].retry_at
                assert at is not None
                assert at <= now, f"{grant}: a retry before its time"
        assert not self.services.misplaced, "a request had what was stored of a former account"
        for grant in self.services.repeated:
            kind, accepts = made[grant][0].kind, self.services.answers.get("DELETE club 0") == "accepted"
            between = kind == "reinvite" and accepts  # accepted after the check
            assert kind == "run" or between, f"{grant} was there, and was made again"

    def _gone_in_time(self, over: Collection[Grant], now: datetime) -> None:
        """What is over and still there is there for a reason: it is held, its revocation failed, or nobody knows."""
        for grant in over:
            (name, integration), git = grant, self.git
            held = any(who in grant and (until is None or until > now.date()) for who, until in git.suspended)
            may = not (held or integration in git.broken or self.judgement.rows[grant].keep)
            if may and integration in REVOKED and self.services.seen(grant) is Seen.THERE:
                record = self.program.ledger.grants.record(Key(git.people[name].stem, integration))
                assert record is not None
                assert record.status in ("retrying", "failed") or record.guarded, f"{grant} is there, and over"

    def _compare(self, covered: Mapping[Grant, Duty]) -> None:
        """The ledger's rows are the model's; the standing of those that a pass was about, too."""
        found = {record.key: record for record in self.program.ledger.grants.records()}
        ours = {key: self.judgement.rows[grant] for grant, key in self._keys() if grant in self.judgement.rows}
        assert found.keys() == ours.keys()
        for grant, key in self._keys():
            if key in found:
                theirs, wants = _of(found[key]), _ours(ours[key])
                differs = {name: (theirs[name], wants[name]) for name in wants if theirs[name] != wants[name]}
                assert not differs, f"{grant}: {found[key].status}: {found[key].reason}: {differs}"
                if grant in covered:
                    assert found[key].status == ours[key].status, f"{grant}: {found[key].reason}"

    def _commands(self, covered: Mapping[Grant, Duty], *, whole: bool) -> None:
        """Commands are acted on by the pass that covers their grant."""
        names = {person.stem: name for name, person in self.git.people.items()}
        left = {
            (names[command.hire or ""], command.access or ""): command.kind
            for command in self.program.ledger.commands.waiting()
        }
        assert left.items() <= self.judgement.commands.items()
        assert not whole or not left.keys() & covered.keys(), "a command was not acted on"
        self.judgement.commands = left


def _place(duty: Duty, call: Call) -> int:
    """Which request of its attempt it was: where an invitation is sent again, the open one was withdrawn before."""
    return int(call.method == "POST") if duty.act == "reinvite" else call.place


def _of(record: Record) -> dict[str, Any]:
    return {
        "phase": record.phase,
        "attempts": record.attempts if record.phase in ("retrying", "failed") else None,
        "retry_at": record.retry_at,
        "healed_at": record.healed_at,
        "executed": record.executed_at is not None,
        "confirmed": record.confirmed_at is not None,
        "lost": record.lost,
        "fresh": record.fresh,
        "revoking": record.revoking,
        "unchecked": record.unchecked,
        "by_hand": record.run.by_hand,
        "orphan": record.orphaned_at is not None,
        "guarded": record.guarded,
        "of_sequence": record.origin is not None,
        "unseen": record.unseen,
        "invitations": record.invitations,
        "acted_at": record.acted_at,
        "ends_at": record.ends_at,
        "of_hire": record.ends_with_hire,
        "first": record.first_ends_at,
        "over": {None: None, "out": "out", "reached": "stays", "left": "left"}[record.over],
        "ask_at": record.expire_at,
    }


def _ours(row: Row) -> dict[str, Any]:
    kept = ("phase", "retry_at", "healed_at", "executed", "confirmed", "lost", "fresh", "revoking", "by_hand")
    attempts = row.attempts if row.phase in ("retrying", "failed") else None
    more = ("orphan", "guarded", "of_sequence", "unseen", "unchecked", "invitations")
    ends = ("acted_at", "ends_at", "of_hire", "first", "over", "ask_at")
    return {name: getattr(row, name) for name in (*kept, *more, *ends)} | {"attempts": attempts}


def play(examples: int, steps: int, number: int | None, ended: Callable[[int], None] = lambda _steps: None) -> None:
    """Play this many examples of this many steps; raises where the engine and the model do not agree."""

    class Watched(Model):
        pass

    Watched.ended = staticmethod(ended)
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=number is None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if number is not None else [Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(Watched if number is None else seed(number)(Watched), settings=how)


def main(arguments: list[str] | None = None) -> int:
    """As many examples as are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.model", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="each hundred examples are of the next number")
    asked = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    began, played = time.monotonic(), list[int]()

    def whole() -> int:
        return sum(steps >= asked.steps for steps in played)

    def ended(steps: int) -> None:
        played.append(steps)
        if len(played) % 20 == 0:
            _tell(whole(), sum(played), began)

    number = asked.seed
    while (left := asked.examples - whole()) > 0:  # hypothesis cuts some examples short: those come on top
        play(min(left, AT_ONCE), asked.steps, number, ended)
        number += 1
    _tell(whole(), sum(played), began)
    print("nothing disagreed")
    return 0


def _tell(whole: int, steps: int, began: float) -> None:
    print(f"{whole} whole examples, {steps} steps, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
