"""What a reviewer wants to know of a revision before anybody acts on it: what is wrong in it, and where it would send.

Nothing here asks anybody or opens a secret: initial data stays `{{NAME}}`, so that a pull request can be judged on a
machine that holds no key (docs/design/rules.md, "Pull requests").
"""

from __future__ import annotations

import json
import pathlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from reconciler.model.errors import Blocked, LedgerError, Problem, Severity
from reconciler.model.grant import Grant
from reconciler.model.hire import jsonable
from reconciler.model.manifest import Manifest, Paged
from reconciler.model.scope import Layer, Scope
from reconciler.model.settings import Settings
from reconciler.model.template import names
from reconciler.repository.desired import Desired
from reconciler.repository.documents.loaded import Loaded
from reconciler.repository.documents.yaml import read
from reconciler.repository.files import Files
from reconciler.repository.git.checkout import Tree
from reconciler.repository.policy import Judge
from reconciler.repository.reviews import REVIEWS, review_problems
from reconciler.repository.rules import NONE, Rules
from reconciler.repository.settings_file import SETTINGS
from reconciler.requests.hosts import AllowedHosts, named_hosts, written_hosts
from reconciler.requests.render import question
from reconciler.requests.url import parse
from reconciler.review.lacking import Lacking
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import InitialData

__all__ = ["Host", "hosts_of", "problems_of", "today_of", "used_names"]

Path = tuple[str | int, ...]

_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?P<host>[^/?#]*)")
"""What of a URL says where it leads; without a scheme it leads nowhere, and is refused."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host that requests, or a person's browser, would go to, the files that say so, and whether each of them may."""

    host: str
    files: tuple[str, ...]
    allowed: bool

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {"host": self.host, "files": list(self.files), "allowed": self.allowed}


def hosts_of(files: Files, tree: Tree) -> list[Host]:
    """Every host that is written out, a browser's too, sorted; one with a placeholder only the initial data knows.

    Those of key services, which the `sops` program would ask, stand in the files of initial data.
    """
    places: dict[str, set[str]] = defaultdict(set)
    refused: set[str] = set()
    for path, manifest in _asking(files):
        for host in named_hosts(manifest):
            places[host].add(path)
        refused |= {host for host, _, _ in _refused(path, manifest, files.settings)}
    for url in _own_urls(files.settings):
        if address := parse(url):
            places[address.name].add(SETTINGS)
    listed = AllowedHosts(frozenset(files.settings.allowed_hosts))
    for path, urls in InitialData(Gnupg(None), listed.check).key_services(tree).items():
        for address in filter(None, map(parse, urls)):
            places[address.name].add(path)
            if not listed.allow(address):
                refused.add(address.name)
    return [Host(host, tuple(sorted(places[host])), host not in refused) for host in sorted(places)]


def _own_urls(settings: Settings) -> list[str]:
    """Where the program itself sends to, as the settings write it out: texts, and alerts."""
    texts = [settings.twilio.url] if settings.twilio is not None else []
    return [*texts, *(alert.webhook for alert in settings.alerts if alert.webhook is not None)]


def problems_of(files: Files, now: datetime, tree: Tree | None = None, rules: Rules = NONE) -> list[Problem]:
    """Every problem of a revision: of single files, of how they fit together, and of where requests would go.

    With its `tree` the files of initial data and the settings' lines are looked at too. Its policy judges it, and so do
    the `rules` of another revision.
    """
    desired = Desired(files, today_of(files, now))
    found = set(files.problems)
    used: dict[str, frozenset[str]] = {}
    lacking = Lacking(desired, tree)
    judge = Judge(desired, files.policy, rules)
    for hire in desired.hires:  # one after the other, so that each file is parsed once
        grants = desired.grants(hire)
        found.update(desired.problems_of(hire, grants), _twins(grants, used), lacking.of(hire, grants))
        found.update(problem for grant in grants for problem in judge.problems_of(grant))
    found |= {*judge.counted(), *Judge(desired, files.policy).idle()}
    found |= {*desired.unassigned(), *_state(files, tree)}
    for loaded in files.manifests.values():
        found |= _unreachable(loaded, loaded.model, files.settings)
    for imported in files.imports.values():
        if imported.model.execute:
            found |= _unreachable(imported, imported.model.as_manifest, files.settings, imported.model.place)
    if tree is not None:
        listed = AllowedHosts(frozenset(files.settings.allowed_hosts))
        found.update(InitialData(Gnupg(None), listed.check).problems(tree))
        found.update(problem for file in tree.files(REVIEWS) for problem in review_problems(tree, file))
    return sorted(found, key=lambda problem: problem.order)


def _state(files: Files, tree: Tree | None) -> Iterator[Problem]:
    """A `state` that no pass could open, whatever else is right."""
    if files.settings.state == Settings().state:
        return
    from reconciler.ledger.opening import StateLocation

    try:
        StateLocation(files.settings.state, pathlib.Path()).refuse_unserved()
    except LedgerError as error:
        file = tree.find(SETTINGS) if tree is not None else None
        line = read(tree.read(file), SETTINGS).line(("state",)) if tree is not None and file is not None else None
        yield Problem(SETTINGS, line, str(error))


def today_of(files: Files, now: datetime) -> date:
    """The day it is in the settings' time zone."""
    return now.astimezone(ZoneInfo(files.settings.timezone)).date()


def _asking(files: Files) -> Iterator[tuple[str, Manifest]]:
    """Every file that says where requests go, with its path."""
    for loaded in files.manifests.values():
        yield loaded.path, loaded.model
    for imported in files.imports.values():
        if imported.model.execute:
            yield imported.path, imported.model.as_manifest


def _unreachable(
    loaded: Loaded[Any], manifest: Manifest, settings: Settings, place_of: Callable[[Path], Path] = lambda place: place
) -> set[Problem]:
    """An error for each request that would not be sent; `place_of` says where in the file a part of it stands."""
    refused = [(place_of(place), message) for _, place, message in _refused(loaded.path, manifest, settings)]
    return {
        Problem(loaded.path, loaded.document.line(place), f"{'.'.join(map(str, place))}: {message}")
        for place, message in refused
    }


def _refused(path: str, manifest: Manifest, settings: Settings) -> Iterator[tuple[str, Path, str]]:
    """The written-out URLs that no request would be sent to (docs/design/rules.md, "Hosts"): host, place, why not."""
    hosts = AllowedHosts(frozenset(settings.allowed_hosts or written_hosts(manifest)))
    for place, url in _urls(manifest):
        origin = _ORIGIN.match(url.strip())
        if origin is None or names(origin[0]):
            continue
        try:
            hosts.check(origin[0], path)
        except Blocked as error:
            yield origin["host"].lower().removesuffix(":"), place, str(error).removeprefix(f"{path}: ")


def _urls(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    for place, call in manifest.calls():
        path: Path = tuple(int(step) if step.isdigit() else step for step in place.split("."))
        yield (*path, "url"), call.url or ""
        if isinstance(call, Paged) and call.next_page is not None:
            yield (*path, "next_page"), call.next_page


def _twins(grants: Iterable[Grant], used: dict[str, frozenset[str]]) -> Iterator[Problem]:
    """Two entries of a hire whose checks ask the same cannot be told apart (docs/design/states.md, `present`).

    `used` remembers the names that each integration's manifest uses.
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
    """The grants of a service that the hire has more than one of; only those can be alike."""
    of_service: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        if grant.hold is None and grant.manifest is not None and grant.manifest.exists is not None:
            of_service[grant.service].append(grant)
    return [grant for several in of_service.values() if len(several) > 1 for grant in several]


def _question(grant: Grant, manifest: Manifest, used: frozenset[str]) -> str | None:
    """What a grant's check would ask and expect, without initial data; None where a value is missing."""
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
    """The names, with their dots, that a manifest's requests and notifications use."""
    parts = {"exists", "execute", "update", "revoke", "withdraw", "post_execute_notification", "headers"}
    return names(manifest.model_dump(include=parts))
