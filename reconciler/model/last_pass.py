"""The ledger's note of the pass that finished last, with the problems that passes found in files.

Some problems are those of a file. Others show only where files are joined, such as an entry that does not match its
manifest or a broken rule of the policy: a pass finds those of whom it covers. One of these is kept until a pass that
covers the same hire, or everything, no longer finds it, or for two intervals: by then a resync has covered everybody.
One of another file may be found by passes over everything alone, and lasts as long as the revision.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from msgspec import convert

from reconciler.model.clock import stamp
from reconciler.model.errors import Problem
from reconciler.model.selection import Selection
from reconciler.model.value import Frozen, replace

LAST = "last_pass"
"""The note's name."""

MAX_PROBLEMS = 100
"""The most problems of each sort that are noted; `reconcile validate` shows all."""


class LastPass(Frozen):
    """A pass: its revision, when it finished, and what is known of the files since."""

    revision: str | None = None
    at: datetime | None = None
    of_files: tuple[Problem, ...] = ()
    joined: tuple[tuple[Problem, datetime], ...] = ()
    """With when it was found last."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return all problems, sorted."""
        found = {*self.of_files, *(problem for problem, _ in self.joined)}
        return tuple(sorted(found, key=lambda problem: problem.order))

    @classmethod
    def read(cls, noted: bytes | None) -> LastPass:
        """Read the note. An earlier release noted no joined problems, an even earlier one no time."""
        found: dict[str, Any] = json.loads(noted or b"{}")
        return cls(
            found.get("revision"),
            datetime.fromisoformat(found["at"]) if found.get("at") else None,
            convert(found.get("problems") or [], tuple[Problem, ...]),
            tuple((convert(each, Problem), datetime.fromisoformat(each["at"])) for each in found.get("joined") or ()),
        )

    def written(self) -> bytes:
        """Write the note."""
        joined = [{**problem.as_json(), "at": stamp(at)} for problem, at in self.joined[:MAX_PROBLEMS]]
        problems = [problem.as_json() for problem in self.of_files[:MAX_PROBLEMS]]
        return json.dumps(
            {"revision": self.revision, "at": stamp(self.at), "problems": problems, "joined": joined}
        ).encode()

    def recounted(self, file: str, found: Iterable[Problem], now: datetime) -> LastPass:
        """Return what is known once all of a file's problems were found that show only over everybody."""
        others = (each for each in self.joined if each[0].file != file)
        return replace(self, joined=(*others, *((problem, now) for problem in found)))

    def followed(
        self,
        revision: str,
        now: datetime,
        selection: Selection,
        *,
        of_files: Collection[Problem],
        found: Iterable[Problem],
        interval: timedelta,
    ) -> LastPass:
        """Return what is known after another pass. `found` are all of its problems, those `of_files` too."""
        joined = dict.fromkeys((each for each in found if each not in of_files), now)
        kept = {}
        for problem, at in self.joined:
            lasts = _hire_of(problem) is None and revision == self.revision
            if not _covers(selection, problem) and (lasts or abs(now - at) <= 2 * interval):
                kept[problem] = now if lasts else at
        return LastPass(revision, now, tuple(of_files), tuple((kept | joined).items()))


def _covers(selection: Selection, problem: Problem) -> bool:
    """Whether a pass finds a problem if it is still there."""
    if selection.integrations is not None or selection.grants is not None or selection.without:
        return False
    return selection.hires is None or _hire_of(problem) in selection.hires


def _hire_of(problem: Problem) -> str | None:
    """Return whose file has a problem; None for another file."""
    path = PurePosixPath(problem.file)
    return path.stem if path.parts[0] == "hires" else None
