"""What a reviewer has to know about a revision: its problems, and the hosts that requests would go to.

No request is sent and no secret is decrypted: initial data stays `{{NAME}}`, so that a pull request can be checked on a
machine without keys (docs/design/rules.md, "Pull requests").
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
from reconciler.review.missing_values import MissingValues
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import InitialData

__all__ = ["Host", "hosts_of", "problems_of", "today_of", "used_names"]

Path = tuple[str | int, ...]

_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?P<host>[^/?#]*)")
"""The part of a URL that names its host; one without a scheme is refused."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host that requests or a browser would go to, the files that name it, and whether all of them may."""

    host: str
    files: tuple[str, ...]
    allowed: bool

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {"host": self.host, "files": list(self.files), "allowed": self.allowed}


def hosts_of(files: Files, tree: Tree) -> list[Host]:
    """List every host that is written out, sorted; a host with a placeholder is known only with the initial data.

    The files of initial data name key services, which the `sops` program would ask.
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
    """List the URLs in the settings that the program itself sends to: for text messages and alerts."""
    texts = [settings.twilio.url] if settings.twilio is not None else []
    return [*texts, *(alert.webhook for alert in settings.alerts if alert.webhook is not None)]


def problems_of(files: Files, now: datetime, tree: Tree | None = None, rules: Rules = NONE) -> list[Problem]:
    """Report every problem of a revision: of single files, of joined files, and of hosts that are not allowed.

    With its `tree`, also those of initial data, and lines of the settings. Its own policy and `rules`, those of another
    revision, judge it.
    """
    desired = Desired(files, today_of(files, now))
    found = set(files.problems)
    used: dict[str, frozenset[str]] = {}
    missing = MissingValues(desired, tree)
    judge = Judge(desired, files.policy, rules)
    for hire in desired.hires:  # hire by hire, so that each file is parsed once
        grants = desired.grants(hire)
        found.update(desired.problems_of(hire, grants), _same_checks(grants, used), missing.of(hire, grants))
        found.update(problem for grant in grants for problem in judge.problems_of(grant))
    found |= {*judge.counted(), *Judge(desired, files.policy).idle()}
    found |= {*desired.unassigned(), *desired.unfitting(), *_state(files, tree)}
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
    """Report a `state` that no pass could open."""
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
    """Return the date in the settings' time zone."""
    return now.astimezone(ZoneInfo(files.settings.timezone)).date()


def _asking(files: Files) -> Iterator[tuple[str, Manifest]]:
    """List every manifest, and every import that sends requests, with its path."""
    for loaded in files.manifests.values():
        yield loaded.path, loaded.model
    for imported in files.imports.values():
        if imported.model.execute:
            yield imported.path, imported.model.as_manifest


def _unreachable(
    loaded: Loaded[Any], manifest: Manifest, settings: Settings, place_of: Callable[[Path], Path] = lambda place: place
) -> set[Problem]:
    """Report each request that would not be sent; `place_of` maps a part of the manifest to its place in the file."""
    refused = [(place_of(place), message) for _, place, message in _refused(loaded.path, manifest, settings)]
    return {
        Problem(loaded.path, loaded.document.line(place), f"{'.'.join(map(str, place))}: {message}")
        for place, message in refused
    }


def _refused(path: str, manifest: Manifest, settings: Settings) -> Iterator[tuple[str, Path, str]]:
    """List the written-out URLs that are not allowed (docs/design/rules.md, "Hosts"), as host, place and reason."""
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
        if grant.hold is None and grant.manifest is not None and grant.manifest.exists is not None:
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
    parts = {"exists", "execute", "update", "revoke", "withdraw", "post_execute_notification", "headers"}
    return names(manifest.model_dump(include=parts))
