"""What a reviewer has to know about a revision: its problems, and the hosts that requests would go to.

No request is sent and no secret is decrypted: initial data stays `{{NAME}}`, so that a pull request can be checked on a
machine without keys (docs/design/rules.md, "Pull requests").
"""

from __future__ import annotations

import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Any

from reconciler.model.decision_inputs import Policy
from reconciler.model.errors import (
    Blocked,
    LedgerError,
    MissingVariable,
    NotInstalled,
    Problem,
    Severity,
    TimestampError,
)
from reconciler.model.manifest import Manifest, paging_of
from reconciler.model.scope import Scope
from reconciler.model.settings import Settings
from reconciler.model.template import names
from reconciler.model.value import Frozen
from reconciler.repository.config_files import Listed, read_cases
from reconciler.repository.desired import Desired
from reconciler.repository.documents.problems import Path, path_of
from reconciler.repository.documents.yaml import Loaded, read
from reconciler.repository.files import Files
from reconciler.repository.git.trees import Tree
from reconciler.repository.joined_problems import doubtful_conditions, unassigned, unfitting, unknown_names
from reconciler.repository.policy import PolicyRules
from reconciler.repository.reviews import REVIEWS, review_problems
from reconciler.repository.settings_file import SETTINGS
from reconciler.requests.hosts import AllowedHosts, named_hosts, written_host, written_hosts
from reconciler.requests.render import rehearse
from reconciler.requests.template import render_url
from reconciler.review.findings import Inspector, MissingValues, alike_addresses, shared_accounts
from reconciler.review.validated import Validated, found_in
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.initial_data import InitialData
from reconciler.transports.address import parse

_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?P<host>[^/?#]*)")
"""The part of a URL that names its host; one without a scheme is refused."""


class Host(Frozen):
    """A host that requests or a browser would go to, the files that name it, and whether all of them may."""

    host: str
    files: tuple[str, ...]
    allowed: bool

    def as_json(self) -> dict[str, Any]:
        """The object of docs/commands.md, "JSON"."""
        return {"host": self.host, "files": list(self.files), "allowed": self.allowed}


class Side(Frozen):
    """A revision as it is reviewed. `files` is None if its settings cannot be read; then no other file is read."""

    revision: str
    files: Files | None
    problems: list[Problem]
    hosts: list[Host]


def hosts_of(files: Files, tree: Tree, programs: Collection[str] = ()) -> list[Host]:
    """List every host that is written out, sorted; a host with a placeholder is known only with the initial data.

    The files of initial data name key services, which the `sops` program would ask. A program is listed as a host,
    `exec:NAME`, that is allowed where this machine has it among its `programs`.
    """
    places: dict[str, set[str]] = defaultdict(set)
    refused: set[str] = set()
    for loaded, manifest, _ in _asking(files):
        for host in named_hosts(manifest):
            places[host].add(loaded.path)
        for host, _, error in _refused(loaded.path, manifest, files.settings, programs):
            if host.startswith("exec:") or not isinstance(error, NotInstalled):
                refused.add(host)
    for url in _own_urls(files.settings):
        if written := written_host(url):
            places[written].add(SETTINGS)
    listed = AllowedHosts(frozenset(files.settings.allowed_hosts))
    for path, urls in InitialData(Gnupg(None), listed.check).key_services(tree).items():
        for address in filter(None, map(parse, urls)):
            places[address.name].add(path)
            if not listed.allow(address):
                refused.add(address.name)
    return [Host(host, tuple(sorted(places[host])), host not in refused) for host in sorted(places)]


def _own_urls(settings: Settings) -> list[str]:
    """List the URLs in the settings that the program itself sends to: for text messages, timestamps and alerts."""
    texts = [settings.twilio.url] if settings.twilio is not None else []
    wanted = settings.checkpoints.timestamp if settings.checkpoints is not None else None
    return [
        *texts,
        *([wanted.url] if wanted is not None else []),
        *(alert.webhook for alert in settings.alerts if alert.webhook is not None),
    ]


def problems_of(
    files: Files,
    now: datetime,
    tree: Tree,
    *,
    base: Files | None = None,
    validated: Validated | None = None,
    programs: Collection[str] = (),
) -> list[Problem]:
    """Report every problem of a revision: of single files, of joined files, and of hosts that are not allowed.

    Its own policy judges it, and so do that of another revision, `base`, and what that one offers. What an earlier run
    found in order is not checked again where it was `validated`.
    """
    desired = Desired(files, Policy(files.settings, now).today, now)
    rules = Listed() if base is None else base.policy
    validated = validated or Validated()
    validated.on(desired.today)
    policy = PolicyRules(desired, files.policy, rules)
    inspector = Inspector(desired, tree, policy, MissingValues(desired), base)
    findings = dict(found_in(inspector, validated))
    every = findings.values()
    found = {*files.problems, *(problem for each in every for problem in each.problems)}
    counted = Counter(rule for each in every for rule in each.share.counted)
    found |= {*policy.counted(counted), *_ended(sum(each.ended for each in every))}
    meant = {rule for each in every for rule in each.share.meant}
    access = {name for each in every for name in each.share.access}
    found |= {*PolicyRules(desired, files.policy).idle(meant, access), *unknown_names(files)}
    assigned = {name for each in every for name in each.assigned}
    found |= {*unassigned(desired, assigned), *unfitting(desired), *_state(files, tree)}
    values = {value for each in every for value in each.values}
    lacking = {(number, hire, name) for hire, each in findings.items() for number, name in each.lacking}
    found.update(doubtful_conditions(desired, inspector.conditions, values, lacking))
    found |= {*shared_accounts(desired), *alike_addresses(desired)}
    for loaded, manifest, place_of in _asking(files):
        found |= _unreachable(loaded, manifest, files.settings, programs, place_of)
    listed = AllowedHosts(frozenset(files.settings.allowed_hosts))
    data = InitialData(Gnupg(None), listed.check)
    found |= {*data.problems(tree), *_bare(data, files, tree), *_unverifiable(files, tree)}
    found.update(problem for file in tree.files(REVIEWS) for problem in review_problems(tree, file))
    manifests = {*files.manifests, *files.broken["manifests"]}
    found.update(problem for each in read_cases(tree, manifests).values() for problem in each.problems)
    return sorted(found, key=lambda problem: problem.order)


def _bare(data: InitialData, files: Files, tree: Tree) -> Iterator[Problem]:
    """Warn of secrets that a rule of SOPS leaves in the clear."""
    secret: dict[str, set[str]] = defaultdict(set)
    for name, manifest in files.manifests.items():
        secret[manifest.model.service or name] |= {field.id for field in manifest.model.asks_for if field.secret}
    for name, imported in files.imports.items():
        secret[name] |= {field.id for field in imported.model.asks_for if field.secret}
    for service, path, ids in data.bare(tree):
        for name in sorted(secret[service].intersection(ids)):
            why = "and so known to everyone who can read the repository: rotate it, and encrypt it with `sops edit`"
            text = f"{name} is not encrypted, {why}; or, if it is no secret, say `secret: false` of it in the manifest"
            yield Problem(path, None, text, Severity.WARNING)


def _ended(count: int) -> Iterator[Problem]:
    """Warn, in one line, of the hires whose `end` is over."""
    if count:
        who = "the `end` of 1 hire is" if count == 1 else f"the `end` of {count} hires is"
        text = f"{who} over: once nothing is left of what they had, their files can go"
        yield Problem("hires", None, text, Severity.WARNING)


def _state(files: Files, tree: Tree) -> Iterator[Problem]:
    """Report a `state` that no pass could open."""
    if files.settings.state == Settings().state:
        return
    from reconciler.ledger.opening import StateLocation

    try:
        StateLocation(files.settings.state, pathlib.Path()).refuse_unserved()
    except LedgerError as error:
        yield Problem(SETTINGS, _line(tree, ("state",)), str(error))


def _unverifiable(files: Files, tree: Tree) -> Iterator[Problem]:
    """Report that the certificates of the timestamp authority cannot be read: a warning if the machine has them."""
    wanted = files.settings.checkpoints.timestamp if files.settings.checkpoints is not None else None
    if wanted is None:
        return
    from reconciler.review.proof import authorities

    try:
        authorities(tree, wanted.ca)
    except TimestampError as error:
        severity = Severity.WARNING if pathlib.PurePath(wanted.ca).is_absolute() else Severity.ERROR
        place = ("checkpoints", "timestamp", "ca")
        yield Problem(SETTINGS, _line(tree, place), f"{'.'.join(place)}: {error}", severity)


def _line(tree: Tree, place: Path) -> int | None:
    file = tree.find(SETTINGS)
    return None if file is None else read(tree.read(file), SETTINGS).line(place)


def _asking(files: Files) -> Iterator[tuple[Loaded[Any], Manifest, Callable[[Path], Path]]]:
    """List every manifest, and every import that sends requests, with what gives a part's place in the file."""
    for loaded in files.manifests.values():
        yield loaded, loaded.model, lambda place: place
    for imported in files.imports.values():
        if imported.model.execute:
            yield imported, imported.model.as_manifest, imported.model.place


def _unreachable(
    loaded: Loaded[Any],
    manifest: Manifest,
    settings: Settings,
    programs: Collection[str],
    place_of: Callable[[Path], Path],
) -> set[Problem]:
    """Report each request that would not be sent; `place_of` maps a part of the manifest to its place in the file.

    What only this machine lacks is a warning: the one that acts may have it.
    """
    found = [(place, error) for _, place, error in _refused(loaded.path, manifest, settings, programs)]
    return {
        Problem(
            loaded.path,
            loaded.document.line(place_of(place)),
            f"{'.'.join(map(str, place_of(place)))}: {str(error).removeprefix(f'{loaded.path}: ')}",
            Severity.WARNING if isinstance(error, NotInstalled) else Severity.ERROR,
        )
        for place, error in (*found, *_unsendable(manifest))
    }


def _unsendable(manifest: Manifest) -> Iterator[tuple[Path, Blocked]]:
    """List the requests that could not be sent whatever their values are, with the reason."""
    for place, call in manifest.calls():
        used = names([call.model_dump(), manifest.headers])
        scope = Scope(deferred=frozenset(name.partition(".")[0] for name in used))
        try:
            rehearse(call, scope, manifest)
        except MissingVariable:  # what signs a request is known at run time
            continue
        except Blocked as error:
            yield path_of(place), error


def _refused(
    path: str, manifest: Manifest, settings: Settings, programs: Collection[str]
) -> Iterator[tuple[str, Path, Blocked]]:
    """List the written-out URLs that are not allowed (docs/design/rules.md, "Hosts"), as host, place and reason."""
    hosts = AllowedHosts(frozenset(settings.allowed_hosts or written_hosts(manifest)), frozenset(programs))
    for place, url in _urls(manifest):
        origin = _ORIGIN.match(url.strip())
        if origin is None or names(origin[0]):
            continue
        try:
            hosts.check(render_url(origin[0], Scope()).text, path)  # a host as the DNS spells it
        except Blocked as error:
            yield written_host(url) or origin["host"].lower().removesuffix(":"), place, error


def _urls(manifest: Manifest) -> Iterator[tuple[Path, str]]:
    for place, call in manifest.calls():
        path = path_of(place)
        yield (*path, "url"), call.url or ""
        if (paging := paging_of(call)) is not None and paging[1].next_page is not None:
            yield (*path, *path_of(f"{paging[0]}next_page")), paging[1].next_page
