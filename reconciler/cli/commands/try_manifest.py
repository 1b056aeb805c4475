"""`reconcile try`: check one person against the real service, show all of it, and save it as a case of the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.context import no_such_hire, run_in_context
from reconciler.cli.options import FilePath, SharedOptions, key_and_value, option, shared
from reconciler.cli.output.logs import note, set_up
from reconciler.cli.output.text import emit
from reconciler.model.errors import UsageError
from reconciler.model.template import PLACEHOLDER
from reconciler.model.text import cut, described, hint, printable
from reconciler.model.value import fields

if TYPE_CHECKING:
    from reconciler.engine.context import Context
    from reconciler.engine.decide.planned import PlannedGrant
    from reconciler.model.case import Case
    from reconciler.model.errors import Problem
    from reconciler.model.manifest import Manifest
    from reconciler.model.secret import Redactor
    from reconciler.transports.messages import Response
    from reconciler.workshop.stage import Exchange
    from reconciler.workshop.testing import CaseResult
    from reconciler.workshop.trying import ListedPage, Subject, Tried


@click.command("try")
@click.argument("integration", shell_complete=complete.integrations)
@option("--hire", metavar="ID", help="Check this hire's account.", shell_complete=complete.hires)
@option("--email", metavar="ADDRESS", help="Check this address, of a hire or of nobody.")
@option("--value", "given", metavar="KEY=VALUE", multiple=True, help="A value of the form or of extra.  [repeatable]")
@option("--host", "hosts", metavar="HOST", multiple=True, help="Allow this host beside HEAD's.  [repeatable]")
@option(
    "--list",
    "listing",
    envvar="RECONCILE_TRY_LIST",
    is_flag=True,
    help="Read the listing's first page too, and show what it makes of it.",
)
@option("--save", type=FilePath(dir_okay=False), metavar="FILE", help="Append it as a test's case.")
@shared(csv=False)
def try_(options: SharedOptions, /, integration: str, hire: str | None, email: str | None, **more: Any) -> int:
    """Check one person at the service of INTEGRATION, in the open.

    Shows each request without secrets, each answer's beginning, what each rule of the manifest found in it, the
    verdict, and what would be sent. Nothing that changes anything is sent. Reads the manifest as it stands, committed
    or not; requests go to HEAD's hosts, and those of --host. Without --hire and --email it is the first hire who has
    the integration. --save replaces the person by a made-up one. Exits with 1 without a verdict.
    """
    if hire is not None and email is not None:
        raise UsageError("--hire and --email both say for whom: give one of them")
    if strange := next((each for each in more["hosts"] if "/" in each), None):
        raise UsageError(f"--host {strange}: give the host alone, as in 127.0.0.1:8080")
    if more["save"]:
        _cases_in(more["save"])
    redactor = set_up(options)
    values = dict(map(key_and_value, more["given"]))

    async def work(context: Context) -> tuple[Subject, Tried, list[CaseResult], list[Problem]]:
        from reconciler.engine.run.accepted import in_force
        from reconciler.workshop.saving import saved_cases
        from reconciler.workshop.stage import manifest_in
        from reconciler.workshop.testing import sources_of
        from reconciler.workshop.trying import subject_of, try_manifest

        tree = context.checkout.worktree()
        known = sources_of(tree)
        if integration not in known:
            begin = f"`reconcile add {integration} --from-openapi FILE` begins one"
            meant = hint(integration, known) or f": {begin}, or write one as manifests/example.yaml is"
            raise UsageError(f"there is no manifests/{integration}.yaml{meant}")
        sources = known[integration]
        desired = context.desired(context.reader.load(tree), context.clock.now().date())
        manifest_in(desired, integration)  # which has to be one
        if hire is not None and hire not in desired.hires:
            with in_force(context, uncommitted=True).location.reader() as ledger:
                raise no_such_hire(hire, desired, ledger)
        listing, hosts = more["listing"], more["hosts"]
        subject = subject_of(desired, integration, hire=hire, email=email, values=values, listing=listing)
        tried = await try_manifest(context, integration, sources, subject, hosts=hosts, listing=listing)
        of_file = [each for each in desired.files.problems if each.file == tried.integration.file]
        return subject, tried, await saved_cases(integration, sources, subject, tried) if more["save"] else [], of_file

    subject, tried, saved, problems = run_in_context(options, redactor, work)
    if more["save"]:
        _save(more["save"], integration, saved, tried.integration.manifest, redactor)
    for text in (*_lacking(subject, tried), *map(str, problems)):
        note(text)
    lines = (printable(redactor.redact(line)) for line in lines_of(integration, subject, tried, redactor))
    emit(options, as_json(integration, subject, tried, redactor), lines)
    return 0 if tried.answered else 1


def _lacking(subject: Subject, tried: Tried) -> Iterator[str]:
    """Say what has to be given before anything can be asked."""
    if subject.named:
        for key, where in subject.lacks(tried.integration.manifest).items():
            yield f"{key} of {where} has no value: give it with --value {key}=…"
    if not tried.exchanges and tried.stray:
        only = f"only to {', '.join(tried.hosts)}" if tried.hosts else "to no host"
        allow = " ".join(f"--host {host}" for host in tried.stray)
        yield f"by HEAD, requests may go {only}; to let this try send to the manifest's own: {allow}"


NOT_COVERED = "# not covered: "
"""Begins a line at the end of a file of cases; each time that cases are saved there the lines are written anew."""


def _save(file: Path, integration: str, saved: list[CaseResult], manifest: Manifest, redactor: Redactor) -> None:
    """Append cases to a file, each under a name that none there has, and say what none of them covers."""
    import yaml

    from reconciler.workshop.saving import uncovered

    if not saved:
        note(
            "nothing was saved, as nobody was checked: name a person (--hire ID, --email ADDRESS), and give what lacks"
        )
        return
    before = _cases_in(file)
    names, said = {each.name for each in before}, []
    for case in (result.case for result in saved):
        name = next(it for it in chain([case.name], (f"{case.name} ({n})" for n in count(2))) if it not in names)
        names.add(name)
        dumped = case.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        hire = case.hire.model_dump(mode="json", exclude_defaults=True)
        said.append({**dumped, "name": name, "hire": hire} if hire else {**dumped, "name": name})
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if not line.startswith(NOT_COVERED)]
    text = yaml.safe_dump(redactor.redact_all(said), sort_keys=False, allow_unicode=True, width=120)
    left = [f"{NOT_COVERED}{each}" for each in uncovered(manifest, [*before, *(result.case for result in saved)])]
    file.write_text("\n".join([*kept, *text.splitlines(), *left, ""]), encoding="utf-8")
    read = file.name == f"{integration}.test.yaml"
    then = f"run `reconcile test {integration}`" if read else f"put it into manifests/{integration}.test.yaml"
    note(f"saved in {file}: {', '.join(repr(each['name']) for each in said)}: {then}")
    for each in left:
        note(each.removeprefix("# "))
    for result in saved:
        for failure in result.failures:
            note(f"the saved case {result.case.name!r} fails: {failure}")


def _cases_in(file: Path) -> list[Case]:
    """Return a file's cases, none where there is no file. Raises UsageError if it has an error."""
    from reconciler.model.case import CaseFile
    from reconciler.repository.config_files import read_list

    if not file.exists():
        return []
    loaded = read_list(file.read_bytes, str(file), CaseFile)
    if loaded.problems:
        raise UsageError(f"--save: {loaded.problems[0].clause}: mend it first")
    return [case for case, _ in loaded.entries]


LONGEST = 600
"""Characters of an answer that are shown."""

RULE = ("rule", "wanted", "found", "holds", "follows")
"""What is shown of a rule."""

HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
"""Headers that are credentials, whatever they are made of."""


def lines_of(integration: str, subject: Subject, tried: Tried, redactor: Redactor) -> Iterator[str]:
    """Return the lines; only what is cut in them is redacted yet, and nothing is escaped."""
    whose = f"{subject.hire} ({subject.person.email})" if subject.hire else subject.person.email
    yield f"{whose if subject.named else 'no person'} at {integration}, with {tried.integration.file} as it stands"
    answered: list[object] = []
    for exchange in tried.exchanges:
        answer = exchange.answer
        known = None if answer is None else (exchange.part, exchange.request, answer.status, answer.content)
        if known in answered:
            yield described(exchange.request.method, exchange.request.shown_url)
            yield "  once more, and answered as before"
            continue
        answered += [known] if known is not None else []
        yield from _exchange(exchange, tried, redactor)
        yield from (f"    {line}" for rule in exchange.rules for line in rule.lines)
    if tried.planned is not None:
        yield from _verdict(tried.planned, tried)
    elif tried.listed is None:
        yield "no verdict: the hire's values do not fit the manifest"
    if tried.unnoticed:
        words = ", ".join(tried.unnoticed)
        yield "the service says no with a status of success, and a refusal of these would count as done:"
        wants = "`continue_if: {response_notation: PATH, value: VALUE}`"
        yield f"  {words}: add {wants} to each request, as an answer that is well has it"
    if tried.listed is not None:
        yield from _listed(tried.listed)
    elif tried.lacks_listing:
        yield f"{tried.integration.file} has no exists.list: there is no listing to be read"


def _verdict(planned: PlannedGrant, tried: Tried) -> Iterator[str]:
    decision = planned.decision
    yield f"verdict: {decision.status}: {decision.reason}"
    yield f"a pass would {decision.action}" if decision.action.acts else "a pass would send nothing"
    for word, requests in tried.would_send.items():
        yield f"{word} would send"
        for request in requests:
            body = "" if request["body"] is None else f" {json.dumps(request['body'], ensure_ascii=False, default=str)}"
            yield f"  {request['method']} {request['url']}{body}"
        for name in tried.lacking.get(word, ()):
            yield f"    not as it stands: the check was to store {name}, and found nothing (see store_data above)"


def _exchange(exchange: Exchange, tried: Tried, redactor: Redactor) -> Iterator[str]:
    wire, answer = exchange.request, exchange.answer
    yield described(wire.method, wire.shown_url)
    yield from (f"  {key}: {value}" for key, value in _sent_headers(exchange, tried).items())
    if wire.content:
        yield f"  {_cut(wire.content.decode(errors='replace'), redactor)}"
    if answer is None:
        yield f"  no answer: {exchange.why}"
        return
    yield f"  {answer.status}"
    yield from (f"  {key}: {value}" for key, value in _answered_headers(answer, redactor).items())
    yield f"  {_cut(answer.text, redactor)}"


def _sent_headers(exchange: Exchange, tried: Tried) -> dict[str, str]:
    """Return a request's headers; what the manifest puts into one is a secret, however it is encoded."""
    manifest = tried.integration.manifest
    written = [manifest.headers, *(call.headers or {} for _, call in manifest.calls())]
    templates = {key.lower(): text for headers in written for key, text in headers.items() if "{{" in text}
    return {
        key: PLACEHOLDER.sub("***", templates[key.lower()])
        if key.lower() in templates
        else "***"
        if key.lower() in HIDDEN
        else value
        for key, value in exchange.request.headers
    }


def _answered_headers(answer: Response, redactor: Redactor) -> dict[str, str]:
    return {key: "***" if key in HIDDEN else _cut(value, redactor) for key, value in answer.headers.items()}


def _listed(page: ListedPage) -> Iterator[str]:
    if page.fault:
        yield f"the listing cannot be read: {page.fault}"
        return
    further = "; there are more pages" if page.more else ""
    yield f"the listing's first page has {page.items} items, of which {page.counted} count{further}"
    for item in page.first:
        yield f"  {json.dumps(item, ensure_ascii=False, default=str)}"


def _cut(text: str, redactor: Redactor) -> str:
    """Redact a text, then cut it: a secret that was cut would not be found."""
    return cut(redactor.redact(text), LONGEST)


def as_json(integration: str, subject: Subject, tried: Tried, redactor: Redactor) -> Any:
    """Return the object of docs/commands.md, "JSON"."""
    decision = None if tried.planned is None else tried.planned.decision
    listed = tried.listed
    return redactor.redact_all(
        {
            "integration": integration,
            "hire": subject.hire or None,
            "email": subject.person.email,
            **fields(decision, "status", "action", "reason"),
            "exchanges": [
                {**_exchange_as_json(each, tried, redactor), "rules": [fields(rule, *RULE) for rule in each.rules]}
                for each in tried.exchanges
            ],
            "would_send": {word: list(requests) for word, requests in tried.would_send.items()},
            "unnoticed": list(tried.unnoticed),
            "listing": None if listed is None else fields(listed, "items", "counted", "first", "fault"),
        }
    )


def _exchange_as_json(exchange: Exchange, tried: Tried, redactor: Redactor) -> dict[str, Any]:
    wire, answer = exchange.request, exchange.answer
    asked = {"method": wire.method, "url": wire.shown_url, "headers": _sent_headers(exchange, tried)}
    if answer is None:
        return {"request": asked, "answer": None, "why": exchange.why}
    given = {
        "status": answer.status,
        "headers": _answered_headers(answer, redactor),
        "text": _cut(answer.text, redactor),
    }
    return {"request": asked, "answer": given, "why": ""}
