"""Show a checked review to a person, or write it for an auditor as CSV or one HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.cli.output.text import code, count, in_words, problem_line
from reconciler.model.clock import stamp
from reconciler.model.text import printable
from reconciler.model.value import fields
from reconciler.repository.reviews import canonical

if TYPE_CHECKING:
    from jinja2 import Template

    from reconciler.review.proof import Stand
    from reconciler.review.signed_off import Judged

COLUMNS = (
    *("period", "integration", "who", "name", "access", "values", "since", "last_used"),
    *("granted_in", "author", "approved_by", "decision", "reason"),
    *("reviewer", "committer", "decided_in", "decided_at", "signer", "open", "problem"),
    *("revision", "read_at", "complete", "history", "digest", "checkpoint"),
)
"""The columns of the CSV. It has a row for each line of a review, and one for each problem of a whole file."""

SAID = ("access", "values", "since", "last_used", "granted_in", "author", "approved_by")

MAX_SHOWN = 20
"""The most undecided and the most open lines of a file that are shown on the screen."""


def as_rows(found: list[Judged], stood: Stand | None) -> Iterator[dict[str, str]]:
    """Make the evidence's rows of a CSV; `stood` is where the history stood."""
    checkpoint = {"checkpoint": "" if stood is None else stood.name}
    for judged in found:
        yield from (row | checkpoint for row in _rows(judged, _text))
        yield from (_whole(judged) | {"problem": str(problem)} | checkpoint for problem in judged.of_file)


def as_page(found: list[Judged], period: str, revision: str, stood: Stand | None) -> str:
    """Write the evidence as one HTML page; `stood` is where the history stood."""
    reviews = [(each, [*_rows(each, in_words)]) for each in found]
    about = {"period": period, "revision": revision, "summary": _headline(found), "stood": stood}
    page = _template().render(about, reviews=reviews, totals=_totals(found))
    return page.replace("##[", "#&#35;[")  # which is a command to GitHub's runners


def as_table(found: list[Judged], period: str, today: date, *, markdown: bool) -> Iterator[str]:
    """Write a review for a person."""
    headline = f"review {period}: {_headline(found)}"
    yield f"**{headline}**" if markdown else headline
    if markdown:
        yield ""
    bullet, quote = ("- ", code) if markdown else ("", printable)
    for each in found:
        yield f"{bullet}{quote(each.review.path)}: {_counts(each, today)}"
    for each in found:
        for problem in each.problems:
            yield problem_line(problem) if markdown else printable(str(problem))
        open_ = [line for line in each.review.lines if line.index in each.open]
        for lines, what in ((open_, "still there"), (each.undecided, "undecided")):
            for line in lines[:MAX_SHOWN]:
                where = f"{each.review.path}:{each.review.place('lines', line.index, 'decision') or 1}"
                why = f": {each.open[line.index]}" if lines is open_ else ""
                yield f"{bullet}{quote(where)}: {quote(str(line))}: {what}{why}"
            if len(lines) > MAX_SHOWN:
                yield f"{bullet}and {len(lines) - MAX_SHOWN} more are {what}; --output csv has all"


def _totals(found: list[Judged]) -> Iterator[tuple[str, str]]:
    """Sum a period up for the head of the page: what was decided, when, by when, and by whom."""
    decisions = Counter(line.decision for each in found for line in each.review.lines)
    parts = ((decisions["keep"], "kept"), (decisions["remove"], "to be removed"), (decisions[None], "undecided"))
    open_ = sum(len(each.open) for each in found)
    still = f"; {count(open_, 'removal')} still there" if open_ else ""
    yield (
        "Lines",
        f"{count(decisions.total(), 'line')}: {', '.join(f'{number} {word}' for number, word in parts)}{still}",
    )
    given = [by for each in found for by in each.reviewers.values()]
    yield from _span("Services asked", sorted({at[:10] for each in found if (at := each.review.text("read_at"))}))
    yield from _span("Decided", sorted({(stamp(by.committed_at) or "")[:10] for by in given}))
    yield from _span("Due", sorted({each.review.due for each in found if each.review.due is not None}))
    if given:
        who = Counter(by.author for by in given).most_common()
        yield "Reviewers", "; ".join(f"{name}, {count(number, 'line')}" for name, number in who)


def _span(term: str, days: list[str]) -> Iterator[tuple[str, str]]:
    if days:
        yield term, days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _headline(found: list[Judged]) -> str:
    lines = sum(len(each.review.lines) for each in found)
    undecided = sum(len(each.undecided) for each in found)
    still, doubtful = sum(len(each.open) for each in found), sum(each.doubtful for each in found)
    parts = [f"{undecided} of {count(lines, 'line')} undecided" if undecided else f"{count(lines, 'line')} decided"]
    if still:
        parts.append(f"{count(still, 'removal')} still there")
    parts.append(f"{count(doubtful, 'file')} in doubt" if doubtful else "no file in doubt")
    return ", ".join(parts)


def _counts(each: Judged, today: date) -> str:
    decisions = [line.decision for line in each.review.lines]
    kept, removed = decisions.count("keep"), decisions.count("remove")
    due = f", due {each.review.due}" if each.review.due is not None and each.undecided else ""
    over = ", which is over" if due and each.review.overdue(today) else ""
    return f"{kept} kept, {removed} to be removed, {len(each.undecided)} undecided{due}{over}"


def _whole(judged: Judged) -> dict[str, str]:
    review = judged.review
    kept = {key: review.text(key) or "" for key in ("revision", "read_at", "complete", "history", "digest")}
    return {"period": review.period, "integration": review.integration, **kept}


def _rows(judged: Judged, values: Callable[[Any], str]) -> Iterator[dict[str, str]]:
    for line in judged.review.lines:
        given = judged.reviewers.get(line.index)
        by = fields(given, "author", "committer", "granted_in", "committed_at")
        yield {
            **_whole(judged),
            **{key: _text(line.data.get(key)) for key in SAID},
            "values": values(line.data.get("values")),
            "who": line.who,
            "name": judged.names.get(line.index, ""),
            "decision": line.decision or "",
            "reason": line.reason,
            "reviewer": by["author"] or "",
            "committer": by["committer"] or "",
            "decided_in": by["granted_in"] or "",
            "decided_at": by["committed_at"] or "",
            "signer": judged.signers.get(by["granted_in"]) or "",
            "open": judged.open.get(line.index, ""),
            "problem": judged.of_lines[line.index].message if line.index in judged.of_lines else "",
        }


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case list():
            return ", ".join(map(_text, value))
        case _:
            return canonical(value) if value else ""


def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, finalize=_finalized, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("evidence.html")


def _finalized(value: Any) -> Any:
    """Make the value of a placeholder printable, so that it cannot reverse or hide what follows."""
    return value if hasattr(value, "__html__") else printable(str(value))
