"""What is found of one hire after another, and summed up over all of them.

A hire's findings follow from its own file, from the files of those that it names, from what is in `config/` and
`manifests/`, and from the day: what was found once holds as long as these stand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from reconciler.model.base import jsonable
from reconciler.model.condition import HireValues
from reconciler.model.errors import Blocked, MissingVariable, Problem, Severity
from reconciler.model.grant import Grant
from reconciler.model.manifest import Manifest
from reconciler.model.scope import HIRE_NAMES, KNOWN_NAMES, Layer, Scope
from reconciler.model.template import FILL_IN, names, roots
from reconciler.model.text import loosely_folded, same_text, some
from reconciler.model.value import Frozen
from reconciler.repository.config_files import read_requestable
from reconciler.repository.desired import Desired
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import came_with
from reconciler.repository.git.trees import Tree
from reconciler.repository.joined_problems import conditions_of, problems_of, refused_by
from reconciler.repository.policy import PolicyRules, Share
from reconciler.requests.accounts import account, told_by_address
from reconciler.requests.render import question
from reconciler.requests.template import render_url
from reconciler.secrets.initial_data import FOLDER, service_of

AT_RUN = KNOWN_NAMES - frozenset(HIRE_NAMES)

MOST = 3
"""The most others that are named."""


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


class Inspector:
    """Looks at the hires of a revision, one after the other; what its `base` offers judges requests too."""

    def __init__(
        self, desired: Desired, tree: Tree, policy: PolicyRules, missing: MissingValues, base: Files | None
    ) -> None:
        self.desired = desired
        self._tree = tree
        self._policy = policy
        self._missing = missing
        self._base = base
        self.conditions = conditions_of(desired)
        self._compared = HireValues.of(placed.condition for placed in self.conditions)

    def of(self, hire: str) -> Findings:
        """What is found of one hire."""
        desired, policy = self.desired, self._policy
        grants = desired.grants(hire)
        found = {
            *problems_of(desired, hire, grants, {grant.key for grant in grants if self._was_allowed(grant)}),
            *_same_checks(grants),
            *self._missing.of(hire, grants),
        }
        found.update(problem for grant in grants for problem in policy.problems_of(grant))
        found.update(policy.lacks_of(hire, grants))
        if self._base is not None:
            found.update(refused_by(desired, self._base.offers, hire, grants))
        share, dated = policy.share(hire, grants), desired.entries.ends(hire) or policy.bounded_by_today()
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

    def _was_allowed(self, grant: Grant) -> bool:
        """Whether a request that may not be asked for any more could be when it was committed, and may have begun."""
        asked, desired = grant.requested, self.desired
        if asked is None or asked.not_offered is None or (asked.begins and asked.begins.date() > desired.today):
            return False
        (hire, access) = grant.key
        if self._base is not None and access not in self._base.requests:
            return False
        came = came_with(self._tree, desired.files.requests[access].path)
        return came is None or desired.join.refusal(desired.hires[hire], access, read_requestable(came)) is None

    def of_all(self, hires: Sequence[str]) -> list[Findings]:
        """What is found of these hires, in their order."""
        return [self.of(hire) for hire in hires]


def _same_checks(grants: Iterable[Grant]) -> Iterator[Problem]:
    """Warn of two entries of a hire whose checks are the same (docs/design/states.md, `present`)."""
    seen: dict[str, Grant] = {}
    for grant in _several(grants):
        question = _question(grant)
        first = grant if question is None else seen.setdefault(question, grant)
        if first is not grant:
            message = (
                f"access {grant.key.access}: its exists check asks the same as that of {first.key.access}, so the "
                "two cannot be told apart: use a form value in `exists`, or make them one entry"
            )
            yield Problem(*grant.place, message, Severity.WARNING)


def _several(grants: Iterable[Grant]) -> list[Grant]:
    """List the grants of services that the hire has several of; only their checks can be the same."""
    of_service: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        checked = grant.manifest is not None and grant.manifest.exists is not None
        if checked and grant.hold is None and not grant.refused:
            of_service[grant.service].append(grant)
    return [grant for several in of_service.values() if len(several) > 1 for grant in several]


def _question(grant: Grant) -> str | None:
    """Write what a grant's check asks and expects, without initial data; None if a value is missing."""
    manifest = grant.manifest
    if manifest is None or manifest.exists is None:
        return None
    layers = tuple(Layer(layer.origin, jsonable(layer.values)) for layer in grant.layers)
    known = {name for layer in layers for name, value in layer.values.items() if value is not None}
    scope = Scope(layers, frozenset(name.partition(".")[0] for name in manifest.used) - known)
    try:
        return json.dumps([grant.service, question(manifest.exists, scope, manifest)], sort_keys=True, default=str)
    except Blocked:
        return None


class MissingValues:
    """Finds values that entries need and no file gives, or that no URL may have: the next pass would block the grant.

    No secret is read: a name that initial data may have, that is generated, or that is known at run time counts as
    given. A name that nothing declares may be in the service's initial data, if there is such a file.
    """

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        files = desired.hires.tree.files(FOLDER)
        self._opened = {service_of(file.path.removeprefix(f"{FOLDER}/")) for file in files}
        """The services that have some."""
        self._asked: dict[str, tuple[str, ...]] = {}

    def of(self, hire: str, grants: Iterable[Grant]) -> Iterator[Problem]:
        """Report the missing values of one hire's `grants`."""
        for grant in grants:
            manifest = grant.manifest
            if grant.hold is not None or manifest is None:
                continue
            scope = Scope(grant.layers)
            for name in self._asked_of(grant, manifest):
                try:
                    scope.look_up(name)
                except MissingVariable:
                    yield self._problem(hire, grant, manifest, name)
            yield from self._unfit(hire, grant, manifest)

    def _unfit(self, hire: str, grant: Grant, manifest: Manifest) -> Iterator[Problem]:
        """Report values that would make a request's path lead elsewhere."""
        if not any(_may_bend(value) for layer in grant.layers for value in layer.values.values()):
            return
        layers = tuple(Layer(layer.origin, jsonable(layer.values)) for layer in grant.layers)
        for place, call in manifest.calls():
            url = call.url or ""
            scope = Scope(layers, roots(url) - {name for layer in layers for name in layer.values})
            try:
                render_url(url, scope)
            except MissingVariable:
                continue
            except Blocked as error:
                yield Problem(*grant.place, f"access {grant.key.access} of {hire}: {place}: {error}")

    def _asked_of(self, grant: Grant, manifest: Manifest) -> tuple[str, ...]:
        """List the names that a hire or an entry has to give for this integration."""
        known = self._asked.get(grant.integration)
        if known is None:
            of_service = [each for _, each in self._desired.services[grant.service].manifests.values()]
            given = {*AT_RUN, *manifest.generated}
            given.update(*(each.stored for each in of_service), *({f.id for f in each.asks_for} for each in of_service))
            declared = {field.id for field in manifest.form} | {info.id for info in manifest.extra_user_info}
            sealed = grant.service in self._opened
            later = names(manifest.model_dump(include={"update", "revoke", "withdraw", "lock"}))  # else it stays so
            wanted = manifest.needed | later | {info.id for info in manifest.extra_user_info}
            hires = {*declared, *HIRE_NAMES, "phone"}
            known = tuple(
                sorted(
                    name
                    for name in wanted
                    if given.isdisjoint({name, root := name.partition(".")[0]}) and (not sealed or root in hires)
                )
            )
            self._asked[grant.integration] = known
        return known

    def _problem(self, hire: str, grant: Grant, manifest: Manifest, name: str) -> Problem:
        whose = f"access {grant.key.access} of {hire}"
        uses = self._desired.files.manifests[grant.integration].path
        if name in {field.id for field in manifest.form}:
            given = self._desired.entries.giving(grant).values.get(name)
            missing = f"is missing: {uses} has it in its form and uses it"
            lacks = f"is still FILL-IN, and {uses} uses it" if given == FILL_IN else missing
            return Problem(*grant.place, f"{whose}: values.{name} {lacks}")
        if because := grant.absent.get(name):
            what = f"{name} has no value: {because}"
        elif name in (*HIRE_NAMES, "phone"):
            what = f"the hire gives no {name}, which {uses} uses"
        elif (loaded := self._desired.hires[hire]).model.extra.get(name) == FILL_IN:
            line = loaded.document.line(("extra", name))
            return Problem(loaded.path, line, f"extra.{name} is still FILL-IN, and {uses} uses it")
        else:
            what = f"the hire gives no extra.{name}, which {uses} uses"
        return Problem(*_given_at(self._desired, grant), f"{whose}: {what}")


def _given_at(desired: Desired, grant: Grant) -> tuple[str, int | None]:
    """Return where a hire is given an entry: the file and the line of it, or of the `sequences` that it is from."""
    if grant.origin is None:
        return grant.place
    loaded = desired.hires[grant.key.hire]
    return loaded.path, loaded.document.line(("sequences",))


def _may_bend(value: object) -> bool:
    """Whether a value may make a URL's path lead elsewhere: nearly none does, and rendering takes time."""
    return isinstance(value, str) and (value in ("", ".", "..") or "/" in value or "%2" in value)


def shared_accounts(desired: Desired) -> Iterator[Problem]:
    """Report each entry whose check means the account of another hire too.

    See docs/design/rules.md, "One account, one hire". Only services are looked at whose checks expect something else
    than the hire's address: two hires with one address are an error of their files already.
    """
    services = desired.services.values()
    integrations = {
        name
        for service in services
        if not all(told_by_address(manifest) for _, manifest in service.manifests.values())
        for name in service.manifests
    }
    if not integrations:
        return
    meant: dict[str, list[Grant]] = defaultdict(list)
    for hire in desired.hires:
        if integrations.isdisjoint(desired.integrations(hire)):
            continue
        for grant in desired.grants(hire, once=True):
            fits = grant.hold is None and not grant.refused
            if fits and grant.manifest is not None and grant.integration in integrations:
                found = account(grant.manifest, grant.service, grant.layers)
                if found is not None:
                    meant[found].append(grant)
    for grants in meant.values():
        for grant in grants:
            if others := [str(each.key) for each in grants if each.key.hire != grant.key.hire]:
                same = f"its check means the same account as that of {some(others, MOST)}"
                message = f"access {grant.key.access}: {same}: an account belongs to one hire"
                yield Problem(*_given_at(desired, grant), message)


def alike_addresses(desired: Desired) -> Iterator[Problem]:
    """Warn of addresses that differ by a tag, or by dots before the @, alone: many providers deliver both to one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for hire in desired.hires:
        if (email := desired.hires.index.file(hire).email) is not None:
            alike[loosely_folded(email)].append(hire)
    for hires in alike.values():
        if len(hires) > 1:
            yield from _warned(desired, hires)


def _warned(desired: Desired, hires: Iterable[str]) -> Iterator[Problem]:
    files = [desired.hires[hire] for hire in hires]
    for loaded in files:
        others = [
            f"{each.path} has {each.model.email}"
            for each in files
            if each is not loaded and not same_text(each.model.email, loaded.model.email)
        ]
        if others:
            message = f"email: {some(others, MOST)}: a tag or dots before the @ alone do not make another person of it"
            yield Problem(loaded.path, loaded.document.line(("email",)), message, Severity.WARNING)
