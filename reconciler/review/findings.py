"""What is found of one hire after another, and summed up over all of them.

A hire's findings follow from its own file, from the files of those that it names, from what is in `config/` and
`manifests/`, and from the day: what was found once holds as long as these stand.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from reconciler.model.base import jsonable
from reconciler.model.condition import HireValues
from reconciler.model.errors import Blocked, Problem, Severity
from reconciler.model.grant import Grant
from reconciler.model.manifest import Manifest
from reconciler.model.scope import Layer, Scope
from reconciler.model.template import names
from reconciler.model.value import Frozen
from reconciler.repository.config_files import Offers
from reconciler.repository.desired import Desired
from reconciler.repository.joined_problems import conditions_of, problems_of, refused_by
from reconciler.repository.policy import Judge, Share
from reconciler.requests.render import question
from reconciler.review.missing_values import MissingValues

__all__ = ["Findings", "Inspector", "Total", "used_names"]


class Findings(Frozen):
    """What is found of one hire: its problems, and what it adds to what is judged over all.

    `assigned` are the sequences that its file is given by what it says; `dated` says that another day may change this,
    `ended` that its `end` is over. `values` are its fields that conditions compare with its values, `lacking` the
    numbers of conditions that hold only because it lacks a field.
    """

    problems: tuple[Problem, ...]
    share: Share
    assigned: tuple[str, ...]
    dated: bool
    ended: bool = False
    values: tuple[tuple[str, str], ...] = ()
    lacking: tuple[tuple[int, str], ...] = ()


@dataclass(slots=True)
class Total:
    """The findings of all hires."""

    problems: set[Problem] = field(default_factory=set)
    counted: Counter[int] = field(default_factory=Counter)
    meant: set[int] = field(default_factory=set)
    access: set[str] = field(default_factory=set)
    assigned: set[str] = field(default_factory=set)
    ended: int = 0
    values: set[tuple[str, str]] = field(default_factory=set)
    lacking: set[tuple[int, str, str]] = field(default_factory=set)

    def add(self, hire: str, findings: Findings) -> None:
        """Add one hire's."""
        self.problems.update(findings.problems)
        self.counted.update(findings.share.counted)
        self.meant.update(findings.share.meant)
        self.access.update(findings.share.access)
        self.assigned.update(findings.assigned)
        self.ended += findings.ended
        self.values.update(findings.values)
        self.lacking.update((number, hire, name) for number, name in findings.lacking)


class Inspector:
    """Looks at the hires of a revision, one after the other; `offers` are another's, which judge its requests too."""

    def __init__(self, desired: Desired, judge: Judge, missing: MissingValues, offers: Offers | None = None) -> None:
        self.desired = desired
        self._judge = judge
        self._missing = missing
        self._offers = offers
        self._used: dict[str, frozenset[str]] = {}
        self.conditions = conditions_of(desired)
        self._compared = HireValues.of(placed.condition for placed in self.conditions)

    def of(self, hire: str) -> Findings:
        """What is found of one hire."""
        desired, judge = self.desired, self._judge
        grants = desired.grants(hire)
        found = {
            *problems_of(desired, hire, grants),
            *_same_checks(grants, self._used),
            *self._missing.of(hire, grants),
        }
        found.update(problem for grant in grants for problem in judge.problems_of(grant))
        found.update(judge.lacks_of(hire, grants))
        if self._offers is not None:
            found.update(refused_by(desired, self._offers, hire, grants))
        share, dated = judge.share(hire, grants), desired.entries.ends(hire) or judge.bounded_by_today()
        model = desired.hires[hire].model
        lacking = (
            (number, name) for number, placed in enumerate(self.conditions) for name in placed.condition.lacking(model)
        )
        return Findings(
            problems=tuple(found),
            share=share,
            assigned=tuple(desired.entries.assigned_to(model)),
            dated=dated,
            ended=model.end is not None and model.end < desired.today,
            values=self._compared.had_by(model),
            lacking=tuple(lacking),
        )

    def of_all(self, hires: Sequence[str]) -> list[Findings]:
        """What is found of these hires, in their order."""
        return [self.of(hire) for hire in hires]


def _same_checks(grants: Iterable[Grant], used: dict[str, frozenset[str]]) -> Iterator[Problem]:
    """Warn of two entries of a hire whose checks are the same (docs/design/states.md, `present`).

    `used` caches the names that each integration's manifest uses.
    """
    seen: dict[str, Grant] = {}
    for grant in _several(grants):
        assert grant.manifest is not None
        if grant.integration not in used:
            used[grant.integration] = used_names(grant.manifest)
        question = _question(grant, grant.manifest, used[grant.integration])
        first = grant if question is None else seen.setdefault(question, grant)
        if first is not grant:
            file, _, line = grant.source.rpartition(":")
            message = (
                f"access {grant.key.access}: its exists check asks the same as that of {first.key.access}, so the "
                "two cannot be told apart: use a form value in `exists`, or make them one entry"
            )
            yield Problem(file, int(line), message, Severity.WARNING)


def _several(grants: Iterable[Grant]) -> list[Grant]:
    """List the grants of services that the hire has several of; only their checks can be the same."""
    of_service: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        refused = grant.requested is not None and grant.requested.refusal is not None
        if grant.hold is None and not refused and grant.manifest is not None and grant.manifest.exists is not None:
            of_service[grant.service].append(grant)
    return [grant for several in of_service.values() if len(several) > 1 for grant in several]


def _question(grant: Grant, manifest: Manifest, used: frozenset[str]) -> str | None:
    """Write what a grant's check asks and expects, without initial data; None if a value is missing."""
    if manifest.exists is None:
        return None
    layers = tuple(Layer(layer.origin, jsonable(layer.values)) for layer in grant.layers)
    known = {name for layer in layers for name, value in layer.values.items() if value is not None}
    scope = Scope(layers, frozenset(name.partition(".")[0] for name in used) - known)
    try:
        return json.dumps([grant.service, question(manifest.exists, scope, manifest)], sort_keys=True, default=str)
    except Blocked:
        return None


def used_names(manifest: Manifest) -> frozenset[str]:
    """List the names, with their dots, that a manifest's requests and notifications use."""
    parts = {"exists", "execute", "update", "revoke", "withdraw", "lock", "post_execute_notification", "headers"}
    return names(manifest.model_dump(include=parts))
