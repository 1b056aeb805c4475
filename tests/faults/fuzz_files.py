"""Targets for `tests.faults.fuzz`: the files of a repository."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from structlog.testing import capture_logs

from reconciler.engine.context import Context
from reconciler.engine.context import Revision as AtCommit
from reconciler.engine.run.runner import LockedState, PassRunner
from reconciler.engine.state import locking
from reconciler.model.errors import LedgerError, RepositoryError, SettingsError
from reconciler.model.secret import Redactor
from reconciler.model.selection import PassRequest
from reconciler.notify.delivery import Notifier
from reconciler.repository.desired import Desired
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.yaml import read
from reconciler.repository.files import Reader
from reconciler.repository.joined_problems import problems_of
from tests.engine.harness import Hands, Outbox
from tests.faults.fuzz_samples import ANY, KEYS, SETTINGS, SOUND, long, one_of
from tests.faults.fuzz_target import Target, can_be_written, names_its_place
from tests.faults.hostile import altered, bombs, spelled, spoiled, structures, written
from tests.secrets.keys import Files

TODAY = date(2026, 12, 1)


class OneFile(Target):
    """The reader of YAML, or of JSON."""

    def __init__(self, ending: str) -> None:
        self.name = ending
        self.what = f"one file of {ending.upper()}: bytes, bombs, and samples gone wrong"
        self._file = f"hires/x.{ending}"
        data = altered(ANY) | structures()
        self.examples = st.one_of(
            spelled(data, as_json=ending == "json"), spoiled(bombs()), st.binary(max_size=60), st.text().map(str.encode)
        )

    def play(self, example: bytes) -> None:
        try:
            document = read(example, self._file)
        except BrokenFile as error:
            names_its_place(error.problem, self._file, example)
            return
        waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document.data)]
        while waiting:
            path, here = waiting.pop()
            assert len(path) <= 50
            line = document.line(path)
            assert line is None or line >= 1
            if len(waiting) < 2000:
                items = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
                waiting += [((*path, step), below) for step, below in items]
        json.dumps(document.data, default=str, ensure_ascii=False).encode()


class Revision(Target):
    """All files of a revision, joined."""

    name = "revision"
    what = "settings, manifests, hires and sequences of one revision, joined into grants"
    examples = st.fixed_dictionaries(
        {
            "config/reconciler.yaml": spelled(one_of("settings"), as_json=False) | st.just(b"") | long(),
            "config/sequences/engineering.yaml": spelled(one_of("sequences"), as_json=False),
            "manifests/asana.json": spelled(one_of("manifests"), as_json=True),
            "manifests/slack.yaml": spelled(one_of("manifests"), as_json=False) | long(),
            "hires/ada.yaml": spelled(one_of("hires"), as_json=False) | long(),
            "hires/bob.yml": spelled(one_of("hires"), as_json=False) | spoiled(bombs()),
        }
    )

    def play(self, example: dict[str, bytes]) -> None:
        try:
            files = Reader().load(Files(example))
        except SettingsError as error:
            for problem in error.problems:
                names_its_place(problem, "config/reconciler.yaml", example["config/reconciler.yaml"])
            return
        for problem in files.problems:
            names_its_place(problem, problem.file, example[problem.file])
        for kind, broken in files.broken.items():
            for stem, problems in broken.items():
                assert problems, f"{kind}/{stem} is set aside, and nobody knows why"
        desired = Desired(files, TODAY)
        for hire in ("ada", "bob"):
            for grant in desired.grants(hire):
                can_be_written(f"{grant.key} {grant.hold}")
            for problem in problems_of(desired, hire, desired.grants(hire)):
                can_be_written(str(problem))


def _mostly_sound(wrong: str) -> st.SearchStrategy[dict[str, Any]]:
    """A repository of which one file is altered."""
    return altered([SOUND[wrong]], KEYS).map(lambda data: {**SOUND, wrong: data})


EDGES = [
    0,
    1,
    0.001,
    5e-324,
    1e-300,
    "1e-320",
    "inf",
    "nan",
    10_000,
    1e8,
    99_999_999,
    "0s",
    "1s",
    "999999d",
    "null",
    date.max,
]


def _at_the_edges() -> st.SearchStrategy[dict[str, Any]]:
    """Settings whose numbers are the smallest and largest that there are."""

    def edged(numbers: list[Any]) -> dict[str, Any]:
        interval, delay, fetch, concurrency, per_host, rate, timeout, percent, until = numbers
        limits = {"concurrency": concurrency, "per_host": per_host, "rate": rate, "timeout": timeout}
        given = {"interval": interval, "retry_delay": delay, "git": {"fetch": fetch}, "limits": limits}
        held = [{"hire": "bob", "until": until}]
        return {
            **SOUND,
            "config/reconciler.yaml": {**SETTINGS, **given, "max_change_percent": percent, "suspend": held},
        }

    usual = ["10m", "1h", "1m", 9, 3, 2.5, "3s", 25, date(2026, 12, 24)]
    return st.tuples(*(st.just(value) | st.sampled_from(EDGES) for value in usual)).map(list).map(edged)


class Pass(Target):
    """A whole pass over a folder that nobody would commit."""

    name = "pass"
    what = "a pass over a folder of which a file is odd and in order, at services that are not there"
    examples = (st.sampled_from([*SOUND]).flatmap(_mostly_sound) | _at_the_edges()).map(
        lambda files: {path: written(data, as_json=path.endswith("json")) for path, data in files.items()}
    )

    def play(self, example: dict[str, bytes]) -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            root = Path(folder, "repo")
            for path, raw in example.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(raw)
            with suppress(SettingsError, RepositoryError, LedgerError), capture_logs():
                asyncio.run(self._pass(root))

    async def _pass(self, root: Path) -> None:
        clock, redactor = Hands(), Redactor()
        context = Context(root, clock, redactor)
        try:
            head = AtCommit.at(context, context.checkout.head())
            if not head.settings.state.startswith("sqlite:///.reconciler/"):
                return  # it would write where it likes
            with locking(head, "fuzz") as held:
                passes = PassRunner(
                    clock=clock,
                    leases=LockedState(held),
                    revision=lambda: head,
                    notifier=Notifier(lambda _: Outbox()),
                )
                for _ in range(2):
                    report = await passes.run(PassRequest())
                    for row in report.rows:
                        can_be_written(json.dumps(row.as_json(), ensure_ascii=False))
                    clock.turn(hours=1)
        finally:
            await context.aclose()


TARGETS: tuple[Target, ...] = (OneFile("yaml"), OneFile("json"), Revision(), Pass())
