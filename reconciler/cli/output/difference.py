"""Show a difference in a terminal, and as a comment on a pull request.

A comment may have 65,536 characters. A longer one is written with less detail, never cut off: each grant, then each
hire, then each integration, then numbers alone. New hosts are shown at every level, and first.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reconciler.cli.output.text import code, count, fold, printable, problem_line
from reconciler.model.errors import Problem
from reconciler.review.causes import CauseKind, Consequence
from reconciler.review.compared_files import ChangeKind
from reconciler.review.consequences import AT_ONCE, HeldOffline, Removal
from reconciler.review.difference import Change, Difference
from reconciler.review.problems import Host

__all__ = ["LIMIT", "as_markdown", "as_table", "headline"]

LIMIT = 65_536
"""The most characters of a comment on GitHub."""

HEADLINE_HOSTS = 3
"""The most new hosts to name in the first line."""

MAX_HOSTS = 50
MAX_HOST_CHARACTERS = 260
"""A host's name has at most 253 characters, and a port."""

MARK = "<!-- reconcile diff -->"
"""The invisible end of a comment, by which a CI job finds its own."""

LISTED = 12
"""The most removals or changes that are listed one by one; more are summed up by what they lose, and folded below."""

_SIGNS = {ChangeKind.ADDED: "+", ChangeKind.CHANGED: "~", ChangeKind.REMOVED: "-"}
_VERBS = {ChangeKind.ADDED: "gets", ChangeKind.CHANGED: "keeps", ChangeKind.REMOVED: "loses"}
_REPORTED = "is no longer to have"
_TITLES = {
    CauseKind.FIELDS: "",
    CauseKind.SEQUENCE: "sequence ",
    CauseKind.CONDITION: "assign of sequence ",
    CauseKind.INCLUDE: "include of sequence ",
    CauseKind.MANIFEST: "manifest ",
    CauseKind.SETTINGS: "setting ",
    CauseKind.HIRE: "hire ",
    CauseKind.REQUEST: "request ",
}

_Quote = Callable[[str], str]


def headline(found: Difference, quote: _Quote = printable) -> str:
    """Sum up the difference in one line."""
    parts = []
    if not found.comparable:
        parts.append("the settings of one revision cannot be read, so the grants cannot be compared")
    if found.hosts_added:
        named = [quote(_host(host)) for host in found.hosts_added[:HEADLINE_HOSTS]]
        more = len(found.hosts_added) - len(named)
        many = "NEW HOST" if len(found.hosts_added) == 1 else "NEW HOSTS"
        parts.append(f"{many} {', '.join(named)}{f' and {more} more' if more else ''}")
    if privileged := [change for change in found.grants if change.privileged]:
        parts.append(f"{_people_count(len({change.key.hire for change in privileged}))} PRIVILEGED")
    kinds = Counter(change.kind for change in found.grants)
    parts += [f"{count(kinds[kind], 'grant')} {kind}" for kind in ChangeKind if kinds[kind]]
    removals = Counter(change.removal for change in found.grants)
    if removals[Removal.REPORTED]:
        parts[-1] += f" ({removals[Removal.REPORTED]} only reported)"
    parts += [f"the guard would hold {quote(each.integration)}" for each in found.held]
    parts += [f"{count(len(names), 'manifest')} {kind}" for kind, names in found.manifests.items() if names]
    if found.settings:
        parts.append(f"{count(len(found.settings), 'setting')} changed")
    for problems, what in ((found.problems_added, "added"), (found.problems_fixed, "fixed")):
        if problems:
            parts.append(f"{count(len(problems), 'problem')} {what}")
    if found.hosts_removed:
        parts.append(f"{count(len(found.hosts_removed), 'host')} no longer used")
    return ", ".join(parts) or "no grant, host, manifest or setting changes"


def as_table(found: Difference) -> str:
    """Write a difference for a terminal."""
    lines = [headline(found)]
    lines += [
        f"NEW HOST {_host(host)}  ({printable(', '.join(host.files))}){_refused(host)}" for host in found.hosts_added
    ]
    lines += _privileged(found.grants, printable)
    lines += [f"cause: {_cause(each, printable)}" for each in _shared(found.causes)]
    lines += [_held(each, printable) for each in found.held]
    lines += [f"host no longer used: {_host(host)}" for host in found.hosts_removed]
    for kind in (ChangeKind.ADDED, ChangeKind.REMOVED):  # what changed is a cause
        lines += [f"manifest {kind}: {printable(name)}" for name in found.manifests.get(kind, ())]
    lines += [f"problem added: {printable(str(problem))}" for problem in found.problems_added]
    lines += [f"problem fixed: {printable(str(problem))}" for problem in found.problems_fixed]
    for who, group in _people(found.grants).items():
        lines += ["", printable(who)]
        width = max(len(printable(change.key.access)) for change in group)
        for change in group:
            access = f"{printable(change.key.access):<{width}}"
            said = f"{_fields(change, printable)}{_dates(change)}".strip()
            lines.append(f"  {_SIGNS[change.kind]} {access}  {said}".rstrip())
    return "\n".join(lines)


def as_markdown(found: Difference) -> str:
    """Write a difference as a comment; the same difference gives the same bytes."""
    for level in range(4):
        text = "\n".join([f"**{headline(found, code)}**", *_body(found, level), "", MARK])
        if len(text) <= LIMIT:
            return text
    raise AssertionError("numbers alone are short")


def _body(found: Difference, level: int) -> Iterator[str]:
    short = level == 3
    if found.hosts_added:
        yield from _alarm(found.hosts_added[: MAX_HOSTS if short else None], len(found.hosts_added))
    if privileged := _privileged(found.grants if level == 0 else (), code):
        yield from ["", "**Becomes privileged**", "", *(f"- {line}" for line in privileged)]
    if found.held:
        yield from ["", *(f"- {_held(each, code)}" for each in found.held)]
    if found.problems_added:
        yield from ["", *_problems(found.problems_added, "added", level)]
    if (causes := _shared(found.causes)) and not short:
        yield from ["", *(f"- {_cause(each, code)}" for each in causes)]
    yield from _unnamed(found, level)
    for kind in (ChangeKind.REMOVED, ChangeKind.CHANGED, ChangeKind.ADDED):
        changes = [change for change in found.grants if change.kind is kind]
        if changes and not short:
            lines, title = (_each, _by_hire, _by_integration)[level](changes), f"{count(len(changes), 'grant')} {kind}"
            if kind is ChangeKind.ADDED:
                yield from fold(title, lines)
                continue
            # What removals and changes take away is never folded; of very many, who each of them is.
            yield from ["", *([] if title == headline(found, code) else [f"**{title}**", ""])]
            if level == 0 and len(changes) > LISTED:
                yield from _alike(changes)
                yield from fold(f"each of the {len(changes)}", lines)
            else:
                yield from lines
    if found.problems_fixed:
        yield from fold(
            f"{count(len(found.problems_fixed), 'problem')} fixed", _problems(found.problems_fixed, "", level)
        )
    if level:
        yield from ["", "Shortened to fit a comment; `reconcile diff` has all of it."]


def _alarm(hosts: list[Host], total: int) -> Iterator[str]:
    yield from ["", "> [!CAUTION]"]
    for number, host in enumerate(hosts):
        if number:
            yield ">"
        files = ", ".join(map(code, host.files[:HEADLINE_HOSTS])) + (" and more" if host.files[HEADLINE_HOSTS:] else "")
        files = files if len(files) < MAX_HOST_CHARACTERS else count(len(host.files), "file")
        where = f"{code(_host(host))} ({files}){_refused(host)}"
        yield f"> Requests, with the secrets in them, would go to a new host: {where}"
    if total > len(hosts):
        yield from [">", f"> And {total - len(hosts)} more new hosts."]


def _unnamed(found: Difference, level: int) -> Iterator[str]:
    """List the hosts that are no longer used."""
    if level == 3:
        return
    lines = [f"- host {code(_host(host))} is no longer used" for host in found.hosts_removed]
    if lines:
        yield from ["", *lines]


def _problems(problems: list[Problem], what: str, level: int) -> Iterator[str]:
    if level == 0:
        yield from map(problem_line, problems)
        return
    files = Counter(problem.file for problem in problems)
    if level == 1:
        for file, number in sorted(files.items()):
            yield f"- {count(number, 'problem')} in {code(file)}"
        return
    yield f"- {' '.join(filter(None, (count(len(problems), 'problem'), what)))} in {count(len(files), 'file')}"


def _each(changes: list[Change]) -> Iterator[str]:
    for change in changes:
        fields = _fields(change, code)
        suffix = f": {fields}" if fields else ""
        yield f"- {code(change.key.hire)} {_verb(change)} {code(change.key.access)}{_dates(change)}{suffix}"


def _verb(change: Change) -> str:
    return _REPORTED if change.removal is Removal.REPORTED else _VERBS[change.kind]


def _dates(change: Change) -> str:
    """Write when a grant begins and ends, and what its removal does, where there is something to say."""
    starts = "" if change.starts is None else change.starts if change.starts == AT_ONCE else f"from {change.starts}"
    ends = "" if change.ends is None else f"until {change.ends}"
    removal = "" if change.removal is not Removal.REPORTED else "only reported"
    said = ", ".join(part for part in (starts, ends, removal) if part)
    return f" ({said})" if said else ""


def _alike(changes: Iterable[Change]) -> Iterator[str]:
    """Sum up by what is lost or changed."""
    whom: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for change in changes:
        fields = "" if change.kind is ChangeKind.REMOVED else f": {_fields(change, code)}"
        whom[_verb(change), change.key.access, fields].append(change.key.hire)
    for (verb, access, fields), hires in sorted(whom.items(), key=lambda each: -len(each[1])):
        who = code(hires[0]) if len(hires) == 1 else f"{len(hires)} people"
        plural = {"loses": "lose", "keeps": "keep", _REPORTED: "are no longer to have"}
        yield f"- {who} {verb if len(hires) == 1 else plural[verb]} {code(access)}{fields}"


def _privileged(changes: Iterable[Change], quote: _Quote) -> list[str]:
    """Write who gets something that gives more than others have."""
    return [
        f"{quote(change.key.hire)} {quote(change.key.access)}: "
        + ", ".join(f"{quote(name)} {quote(_text(value))}" for name, value in change.privileged.items())
        + _dates(change)
        for change in changes
        if change.privileged
    ]


def _cause(each: Consequence, quote: _Quote) -> str:
    """Write what changed, and how many gain and lose what through it."""
    people = len(each.people)
    parts = []
    for verb, counted in (("gain", each.added), ("lose", each.removed)):
        named = (quote(name) + ("" if number == people else f" ({number})") for name, number in sorted(counted.items()))
        if counted:
            parts.append(f"{verb} {', '.join(named)}")
    touched = "; ".join(parts) or f"{count(each.grants, 'grant')} touched"
    title = f"{_TITLES[each.cause.kind]}{quote(each.cause.what)}"
    return f"{title}: {_people_count(people)}, {touched}" if people else title


def _people_count(number: int) -> str:
    return "1 person" if number == 1 else f"{number} people"


def _shared(causes: Iterable[Consequence]) -> list[Consequence]:
    """List the causes that say more than the changes below them: all but one hire's own file or request."""
    alone = (CauseKind.HIRE, CauseKind.FIELDS, CauseKind.REQUEST)
    return [each for each in causes if len(each.people) != 1 or each.cause.kind not in alone]


def _held(each: HeldOffline, quote: _Quote) -> str:
    if each.kind == "new":
        return f"the guard would hold {quote(each.integration)}: {each.count} new, max_new is {each.limit:g}"
    return (
        f"the guard would hold {quote(each.integration)}: {each.count} of {each.of} would be revoked, "
        f"max_change_percent is {each.limit:g}"
    )


def _by_hire(changes: list[Change]) -> Iterator[str]:
    names: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        names[change.key.hire].append(change.key.access)
    for hire, access in names.items():
        yield f"- {code(hire)}: {', '.join(map(code, access))}"


def _by_integration(changes: list[Change]) -> Iterator[str]:
    for name, number in sorted(Counter(change.integration for change in changes).items()):
        yield f"- {code(name)}: {count(number, 'grant')}"


def _people(changes: Iterable[Change]) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in changes:
        found.setdefault(f"{change.key.hire} <{change.who}>", []).append(change)
    return found


def _fields(change: Change, quote: _Quote) -> str:
    """Write the fields that differ, or all fields of a grant that is added or removed."""
    if change.kind is ChangeKind.CHANGED:
        fields = ", ".join(f"{quote(name)} {step(pair, quote)}" for name, pair in change.fields.items())
        return f"{fields} ({change.applied})" if change.applied else fields
    side = 1 if change.kind is ChangeKind.ADDED else 0
    return ", ".join(
        f"{quote(name.removeprefix('values.'))} {quote(_text(pair[side]))}" for name, pair in change.fields.items()
    )


def step(pair: tuple[Any, Any], quote: _Quote) -> str:
    """Write the values before and after; as JSON if only their type differs."""
    before, after = map(_text, pair)
    if before == after:
        before, after = (json.dumps(value, ensure_ascii=False) for value in pair)
    old, new = ("nothing" if value is None else quote(text) for value, text in zip(pair, (before, after), strict=True))
    return f"{old} → {new}"


def _text(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"name"}:
        return str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _host(host: Host) -> str:
    too_long = len(host.host) > MAX_HOST_CHARACTERS
    return f"a name of {len(host.host)} characters, which no host has" if too_long else host.host


def _refused(host: Host) -> str:
    return "" if host.allowed else " — not allowed as it stands"
