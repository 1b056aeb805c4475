"""Run the cases of manifests: check and plan with a case's answers in place of the service.

It is the program's own planner that is run, on the manifest's own file: what passes here is what a pass does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from reconciler.engine.decide.planned import Check
from reconciler.engine.observe.integrations import Integration
from reconciler.model.case import Case, SentRequest
from reconciler.model.errors import Blocked, RepositoryError
from reconciler.model.manifest import Manifest
from reconciler.model.request import Ready
from reconciler.model.scope import Scope
from reconciler.model.status import Status
from reconciler.model.value import Frozen, Unshown, replace
from reconciler.repository.config_files import Listed
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.files import Reader
from reconciler.repository.git.trees import Tree
from reconciler.repository.naming import is_cases, unread
from reconciler.repository.parsing import MANIFESTS, parse
from reconciler.requests.pages import first_page
from reconciler.requests.render import render
from reconciler.requests.template import render_data
from reconciler.transports.messages import RenderedRequest
from reconciler.workshop.found import RuleFound
from reconciler.workshop.rules import check_rules, listing_rules
from reconciler.workshop.stage import CaseStage, CheckPart, Exchange, ManifestSource, same_url


def with_parts(integration: Integration, scope: Scope, exchanges: Iterable[Exchange]) -> list[Exchange]:
    """Return the exchanges, each with its part, in their order; `scope` is the grant's.

    A page further on has another URL, of the same path or not: it is of the part before it.
    """
    firsts = dict(_first_requests(integration, scope.now()))
    exists = integration.manifest.exists
    paged = {CheckPart.PENDING, CheckPart.LISTING} | (
        {CheckPart.CHECK} if exists is not None and exists.pages is not None else set()
    )
    found: list[Exchange] = []
    for exchange in exchanges:
        wire, before = exchange.request, found[-1].part if found else CheckPart.OTHER
        same = [(part, first) for part, first in firsts.items() if first.method == wire.method]
        exact = [part for part, first in same if same_url(first.url, wire.url) and first.content == wire.content]
        alike = [part for part, first in same if first.url.partition("?")[0] == wire.url.partition("?")[0]]
        further = [before] if before in paged and (before in alike or not alike) else []
        found.append(replace(exchange, part=[*exact, *further, *alike, CheckPart.OTHER][0]))
    return found


def _first_requests(integration: Integration, scope: Scope) -> Iterator[tuple[CheckPart, RenderedRequest]]:
    manifest = integration.manifest
    exists = manifest.exists
    if exists is None:
        return
    calls = {
        CheckPart.CHECK: exists,
        CheckPart.READY: exists.ready,
        CheckPart.PENDING: exists.pending,
        CheckPart.LISTING: exists.listing,
    }
    for part, call in calls.items():
        with suppress(Blocked):
            if isinstance(call, Ready):
                yield part, render(call, scope, manifest)
            elif call is not None:
                yield part, first_page(call, scope, manifest)


class CaseResult(Frozen):
    """What came of a case. `failures` are sentences, none where it passes."""

    case: Case
    status: Status | None
    reason: str
    failures: tuple[str, ...] = ()
    sends: tuple[Mapping[str, Any], ...] = ()
    exchanges: Unshown[tuple[Exchange, ...]] = ()

    @property
    def doubts(self) -> list[str]:
        """Return what is most likely a mistake, though the case may pass: paths at which nothing stands."""
        return [f"{rule.rule}: {rule.follows}" for each in self.exchanges for rule in each.rules if rule.nowhere]


async def run_case(name: str, sources: ManifestSource, case: Case, reader: Reader | None = None) -> CaseResult:
    """Plan a case, and compare the plan with what it expects."""
    try:
        stage = CaseStage(name, sources, case, reader or Reader())
        planned = await stage.plan()
    except (Blocked, RepositoryError) as error:
        return CaseResult(case, None, str(error), (str(error),))
    if planned is None:
        what = "the hire of this case cannot be read: see `hire` and `values`"
        return CaseResult(case, None, what, (what,))
    decision, prepared = planned.decision, planned.prepared
    sends: tuple[Mapping[str, Any], ...] = ()
    if prepared is not None and decision.action.acts:
        sends = prepared.shown(planned.kind, planned.seen)[decision.resume :]
    scope = Scope(()) if prepared is None else prepared.scope
    exchanges = with_parts(stage.integration, scope, stage.client.exchanges)
    if prepared is not None:
        exchanges = with_rules(stage.integration, prepared.check, scope, exchanges)
    unanswered = (each.request for each in exchanges if each.answer is None)
    failures = [f"{each.method} {each.url}: no answer of the case fits it" for each in unanswered]
    failures += _differences(case, decision.status, decision.reason, sends)
    return CaseResult(
        case,
        decision.status,
        decision.reason,
        failures=tuple(failures),
        sends=sends,
        exchanges=tuple(exchanges),
    )


def _differences(case: Case, status: Status, reason: str, sends: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    if status is not case.expect:
        yield f"expect: the case says {case.expect}, the program finds {status}: {reason}"
    elif case.reason is not None and case.reason not in reason:
        yield f"reason: the case says {case.reason!r}, and the program's has no such part: {reason}"
    if case.sends is None:
        return
    if len(case.sends) != len(sends):
        yield f"sends: the case lists {len(case.sends)}, the program would send {len(sends)}"
        return
    for number, (wanted, sent) in enumerate(zip(case.sends, sends, strict=True), 1):
        yield from (f"sends, request {number}: {what}" for what in _not_sent(wanted, sent))


def _not_sent(wanted: SentRequest, sent: Mapping[str, Any]) -> Iterator[str]:
    if wanted.method is not None and wanted.method != sent["method"]:
        yield f"method: the case says {wanted.method}, the program would send {sent['method']}"
    if wanted.url is not None and not same_url(wanted.url, sent["url"]):
        yield f"url: the case says {wanted.url}, the program would send {sent['url']}"
    if "data" in wanted.model_fields_set and wanted.data != sent["body"]:
        yield f"data: the case says {_as_json(wanted.data)}, the program would send {_as_json(sent['body'])}"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def with_rules(
    integration: Integration, check: Check | None, scope: Scope, exchanges: Iterable[Exchange]
) -> list[Exchange]:
    """Return the exchanges, each with what the rules of the check and its listings found in its answer."""
    redact, rules = integration.client.redact, partial(_rules_of, integration.manifest, check, scope)
    return [replace(each, rules=tuple(rule.shown(redact) for rule in rules(each))) for each in exchanges]


def _rules_of(manifest: Manifest, check: Check | None, scope: Scope, exchange: Exchange) -> Iterator[RuleFound]:
    exists, answer = manifest.exists, exchange.answer
    if exists is None or answer is None:
        return
    if exchange.part is CheckPart.CHECK and check is not None:
        yield from check_rules(manifest, check.wanted, check.compared, answer)
    listing = {CheckPart.PENDING: exists.pending, CheckPart.LISTING: exists.listing}.get(exchange.part)
    if listing is not None:
        only = {path: render_data(value, scope.now()) for path, value in listing.only.items()}
        yield from listing_rules(exists, listing, None if check is None else check.wanted, only, answer)


async def run_cases(
    chosen: Mapping[str, Listed[Case]], sources: Mapping[str, ManifestSource]
) -> list[tuple[str, int | None, CaseResult]]:
    """Run every case of these manifests: the manifest, the case's line, and what came of it."""
    results = []
    for name, loaded in chosen.items():
        reader = Reader()
        for case, line in loaded.entries if name in sources else ():
            results.append((name, line, await run_case(name, sources[name], case, reader)))
    return results


def sources_of(tree: Tree) -> dict[str, ManifestSource]:
    """Return each manifest's file with those of the manifests that belong to its service, by the manifest's stem."""
    contents: dict[str, tuple[str, bytes]] = {}
    services: dict[str, str] = {}
    for file in tree.files(MANIFESTS.folder):
        if unread(file.path, MANIFESTS.folder, MANIFESTS.suffixes) is not None or is_cases(file.path):
            continue
        stem, parsed = PurePosixPath(file.path).stem, parse(tree, file, MANIFESTS)
        with suppress(BrokenFile):
            contents[stem] = (file.path, tree.read(file))
        services[stem] = (parsed.loaded.model.service if parsed.loaded is not None else None) or stem
    return {
        stem: dict(contents[other] for other in contents if services[other] == service)
        for stem, service in services.items()
    }
