"""`reconcile test`: run the cases of manifests, offline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from reconciler.cli import complete
from reconciler.cli.options import SharedOptions, shared
from reconciler.cli.output.text import count, emit, printable
from reconciler.model.errors import UsageError
from reconciler.model.text import hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reconciler.model.errors import Problem
    from reconciler.workshop.testing import CaseResult

__all__ = ["test"]

LONGEST = 400
"""Characters of an answer that are shown."""


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete.integrations)
@shared(csv=False)
def test(options: SharedOptions, names: tuple[str, ...]) -> int:
    """Run the cases in manifests/NAME.test.yaml, of all manifests without a NAME.

    A case has a made-up person, what the service answers, and what a pass makes of it. Offline: sends nothing, needs no
    key and no state. Exits with 1 if a case fails, or a file has an error.
    """
    import asyncio

    from reconciler.repository.cases import read_cases
    from reconciler.repository.git.checkout import Checkout
    from reconciler.workshop.testing import run_cases, sources_of

    tree = Checkout.open(options.repo).worktree()
    sources = sources_of(tree)
    loaded = read_cases(tree, sources)
    for name in names:
        if name not in loaded:
            what = f"there is no manifests/{name}.test.yaml" if name in sources else f"there is no manifest {name}"
            raise UsageError(f"{what}{hint(name, loaded)}")
    chosen = {name: loaded[name] for name in sorted(names or loaded)}
    results = asyncio.run(run_cases(chosen, sources))
    problems = [problem for each in chosen.values() for problem in each.problems]
    failed = sum(bool(result.failures) for _, _, result in results)
    cases = [_as_json(name, line, result) for name, line, result in results]
    found = {"cases": cases, "problems": [problem.as_json() for problem in problems]}
    emit(options, found, _lines(chosen.keys(), results, problems))
    return 1 if failed or problems else 0


def _as_json(name: str, line: int | None, result: CaseResult) -> dict[str, Any]:
    return {
        "manifest": name,
        "case": result.case.name,
        "line": line,
        "passed": not result.failures,
        "status": result.status,
        "reason": result.reason,
        "failures": list(result.failures),
        "doubts": list(result.doubts),
        "sends": list(result.sends),
    }


def _lines(names: Any, results: list[tuple[str, int | None, CaseResult]], problems: list[Problem]) -> Iterator[str]:
    for problem in problems:
        yield printable(str(problem))
    for name in names:
        of = [(line, result) for manifest, line, result in results if manifest == name]
        for line, result in of:
            if result.failures:
                yield f"FAILED {name}, line {line}: {printable(result.case.name)}"
                yield from (printable(f"  {each}") for each in result.failures)
                yield from map(printable, _exchanges(result))
            else:
                yield from (printable(f"{name}, line {line}: {result.case.name}: {each}") for each in result.doubts)
    failed = sum(bool(result.failures) for _, _, result in results)
    passed = len(results) - failed
    yield f"{count(passed, 'case')} of {count(len(names), 'manifest')} passed" + (
        f", {failed} failed" if failed else ""
    )


def _exchanges(result: CaseResult) -> Iterator[str]:
    """Return each request with its answer and what the rules found, then what is sent: the case's, the program's."""
    for place, (each, part) in enumerate(zip(result.exchanges, result.parts, strict=True)):
        yield f"    request   {each.request.method} {each.request.url}  ({part})"
        if each.request.content:
            yield f"              {_cut(each.request.content.decode(errors='replace'))}"
        answered = f"none: {each.why}" if each.answer is None else f"{each.answer.status} {_cut(each.answer.text)}"
        yield f"    answer    {answered}"
        for rule in result.rules.get(place, ()):
            first, *more = rule.lines
            yield f"    rule      {first}"
            yield from (f"              {line}" for line in more)
    listed = () if result.case.sends is None else result.case.sends
    for wanted in listed:
        said = _request(wanted.method or "any method", wanted.url or "any URL", wanted.data)
        yield f"    the case lists           {said}"
    for sent in result.sends:
        yield f"    the program would send   {_request(sent['method'], sent['url'], sent['body'])}"


def _request(method: str, url: str, body: Any) -> str:
    return f"{method} {url}" + ("" if body is None else f" {_cut(json.dumps(body, ensure_ascii=False, default=str))}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
