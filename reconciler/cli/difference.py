"""Show a difference in a terminal, and as a comment on a pull request.

A comment may have 65,536 characters. A longer one is written with less detail, never cut off: each grant, then each
hire, then each integration, then numbers alone. New hosts are shown at every level, and first.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from reconciler.cli.text import code, count, fold, printable, problem_line
from reconciler.model.errors import Problem
from reconciler.review.difference import Change, ChangeKind, Difference
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

_SIGNS = {ChangeKind.ADDED: "+", ChangeKind.CHANGED: "~", ChangeKind.REMOVED: "-"}
_VERBS = {ChangeKind.ADDED: "gets", ChangeKind.CHANGED: "keeps", ChangeKind.REMOVED: "loses"}

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
    kinds = Counter(change.kind for change in found.grants)
    parts += [f"{count(kinds[kind], 'grant')} {kind}" for kind in ChangeKind if kinds[kind]]
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
    lines += [f"host no longer used: {_host(host)}" for host in found.hosts_removed]
    for kind, names in found.manifests.items():
        lines += [f"manifest {kind}: {printable(name)}" for name in names]
    lines += [f"setting {name}: {_step(pair, printable)}" for name, pair in found.settings.items()]
    lines += [f"problem added: {printable(str(problem))}" for problem in found.problems_added]
    lines += [f"problem fixed: {printable(str(problem))}" for problem in found.problems_fixed]
    for who, group in _people(found.grants).items():
        lines += ["", printable(who)]
        width = max(len(printable(change.key.access)) for change in group)
        for change in group:
            access = f"{printable(change.key.access):<{width}}"
            lines.append(f"  {_SIGNS[change.kind]} {access}  {_fields(change, printable)}".rstrip())
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
    if found.problems_added:
        yield from ["", *_problems(found.problems_added, "added", level)]
    yield from _unnamed(found, level)
    for kind in (ChangeKind.REMOVED, ChangeKind.CHANGED, ChangeKind.ADDED):
        changes = [change for change in found.grants if change.kind is kind]
        if changes and not short:
            lines, title = (_each, _by_hire, _by_integration)[level](changes), f"{count(len(changes), 'grant')} {kind}"
            # Removals and changes of rights are never folded.
            if kind is ChangeKind.ADDED:
                yield from fold(title, lines)
            else:
                yield from ["", *([] if title == headline(found, code) else [f"**{title}**", ""]), *lines]
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
    """List the changes that name no grant: manifests, settings, hosts no longer used."""
    if level == 3:
        return
    lines = [
        f"- manifest {code(name)} {kind}: what is sent for every grant of it"
        for kind, names in found.manifests.items()
        for name in names
        if kind is ChangeKind.CHANGED
    ]
    lines += [f"- setting {code(name)}: {_step(pair, code)}" for name, pair in found.settings.items()]
    lines += [f"- host {code(_host(host))} is no longer used" for host in found.hosts_removed]
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
        yield f"- {code(change.key.hire)} {_VERBS[change.kind]} {code(change.key.access)}{suffix}"


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
        fields = ", ".join(f"{quote(name)} {_step(pair, quote)}" for name, pair in change.fields.items())
        return f"{fields} ({change.applied})" if change.applied else fields
    side = 1 if change.kind is ChangeKind.ADDED else 0
    return ", ".join(
        f"{quote(name.removeprefix('values.'))} {quote(_text(pair[side]))}" for name, pair in change.fields.items()
    )


def _step(pair: tuple[Any, Any], quote: _Quote) -> str:
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
