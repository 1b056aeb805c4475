"""Show a difference in a terminal, and as a comment on a pull request.

A comment may have 65,536 characters. A longer one is written with less detail, never cut off: each grant, then each
hire, then each integration, then numbers alone. New hosts are shown at every level, and first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from reconciler.cli.output import consequences as said
from reconciler.cli.output.consequences import Quote
from reconciler.cli.output.text import code, count, fold, problem_line
from reconciler.model.errors import Problem
from reconciler.model.text import printable
from reconciler.review.causes import CauseKind, ChangeKind, Consequence
from reconciler.review.consequences import Applied, Change, Stays
from reconciler.review.difference import Difference
from reconciler.review.problems import Host

LIMIT = 65_536
"""The most characters of a comment on GitHub."""

HEADLINE_HOSTS = 3
"""The most new hosts to name in the first line."""

MANY_LINES = 24
"""The most lines on what changed in the files that are not folded."""

FEW_FILES = 3
"""The most files of people who join or leave that are named."""

MAX_HOSTS = 50
MAX_HOST_CHARACTERS = 260
"""A host's name has at most 253 characters, and a port."""

MARK = "<!-- reconcile diff -->"
"""The invisible end of a comment, by which a CI job finds its own."""

LISTED = 12
"""The most changes of a kind, and causes, that are listed one by one: more are summed up, and folded below."""

_SIGNS = {ChangeKind.ADDED: "+", ChangeKind.CHANGED: "~", ChangeKind.REMOVED: "-"}


def _headline(found: Difference, quote: Quote = printable) -> str:
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
        parts.append(f"{said.people(len({change.key.hire for change in privileged}))} PRIVILEGED")
    kinds = Counter(change.kind for change in found.grants)
    parts += [f"{count(kinds[kind], 'grant')} {kind}" for kind in ChangeKind if kinds[kind]]
    stay = sum(change.only_reported for change in found.grants)
    if stay:
        parts[-1] += f" ({'only reported' if stay == kinds[ChangeKind.REMOVED] else f'{stay} of them only reported'})"
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
    lines = [_headline(found)]
    lines += [
        f"NEW HOST {_host(host)}  ({printable(', '.join(host.files))}){_refused(host)}" for host in found.hosts_added
    ]
    lines += _gains(found.grants, "becomes privileged: ", printable)
    lines += [f"cause: {line}" for line in _joiners_and_leavers(found.causes, printable)]
    for each in _shared(found.causes):
        lines += [f"cause: {said.cause(each, printable)}", *(f"  {part}" for part in said.parts(each, printable))]
    lines += [said.held(each, printable) for each in found.held]
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
            what = "; ".join(filter(None, (said.fields(change, printable), said.what_follows(change).strip(",; "))))
            lines.append(f"  {_SIGNS[change.kind]} {access}  {what}".rstrip())
    return "\n".join(lines)


def as_markdown(found: Difference) -> str:
    """Write a difference as a comment; the same difference gives the same bytes."""
    for level in range(4):
        text = "\n".join([f"**{_headline(found, code)}**", *_body(found, level), "", MARK])
        if len(text) <= LIMIT:
            return text
    raise AssertionError("numbers alone are short")


def _body(found: Difference, level: int) -> Iterator[str]:
    short = level == 3
    if found.hosts_added:
        yield from _alarm(found.hosts_added[: MAX_HOSTS if short else None], len(found.hosts_added))
    if not short and (privileged := [change for change in found.grants if change.privileged]):
        yield from ["", "**Becomes privileged**", "", *_listed(privileged, level, _gains, _by_privilege)]
    if found.held:
        yield from ["", "**Held after the merge**", "", *(f"- {said.held(each, code)}" for each in found.held)]
    if found.problems_added:
        yield from ["", "**Problems**", "", *_problems(found.problems_added, "added", level)]
    lines = [] if short else [*_causes(found.causes), *_files(found)]
    if lines:
        yield from ["", "**What changed in the files**", "", *lines[:MANY_LINES]]
        if more := lines[MANY_LINES:]:
            yield from fold(f"{len(more)} more lines", more)
    for kind in (ChangeKind.REMOVED, ChangeKind.CHANGED, ChangeKind.ADDED):
        changes = [change for change in found.grants if change.kind is kind]
        if changes and not short:
            title = f"{count(len(changes), 'grant')} {kind}"
            said_above = title == _headline(found, code) and not lines
            yield from ["", *([] if said_above else [f"**{title}**", ""])]
            yield from _listed(changes, level, _each, _alike)
    if found.problems_fixed:
        yield from fold(
            f"{count(len(found.problems_fixed), 'problem')} fixed", _problems(found.problems_fixed, "", level)
        )
    if level:
        yield from ["", "Shortened to fit a comment; `reconcile diff` has all of it."]
    if words := _glossary(found):
        yield from ["", f"<sub>{' '.join(words)}</sub>"]


def _glossary(found: Difference) -> list[str]:
    """Explain the words that the comment uses, and no others."""
    words = []
    if found.grants:
        words.append("A grant is one person's access to one service; what is merged is carried out within minutes.")
    if any(change.privileged for change in found.grants):
        words.append("*Privileged* is what can give others access, or more than most have, as the manifest says.")
    leaving = [each for change in found.grants for each in (change.leaving, change.former) if each is not None]
    if any(each.stays not in (None, Stays.SAME_ACCOUNT) for each in leaving):
        words.append("*Only reported* means that somebody has to take it away at the service.")
    if any(each.stays is None for each in leaving):
        words.append("*Revoked* means that it is taken away there, and checked afterwards; nothing is left to be done.")
    lacks = any(each.stays in (Stays.MANIFEST, Stays.CHECK) for each in leaving)
    if lacks or any(found.manifests.values()) or any(change.applied is Applied.NOT_UPDATED for change in found.grants):
        words.append("A manifest, such as `manifests/slack.yaml`, holds the requests that are sent to a service.")
    return words


def _listed(
    changes: list[Change],
    level: int,
    each: Callable[[list[Change]], Iterator[str]],
    alike: Callable[[list[Change]], Iterator[str]],
) -> Iterator[str]:
    """List changes one by one; of many what they have in common, which is never folded, and who each is, which is."""
    lines = (each, _by_hire, _by_integration)[level]
    if len(changes) <= LISTED:
        yield from lines(changes)
        return
    yield from alike(changes)
    yield from fold(f"each of the {len(changes)}", lines(changes))


def _causes(causes: list[Consequence]) -> Iterator[str]:
    """List what the changes come from, with what a manifest's file changes."""
    yield from (f"- {line}" for line in _joiners_and_leavers(causes, code))
    for each in _shared(causes):
        yield f"- {said.cause(each, code)}"
        yield from (f"  - {part}" for part in said.parts(each, code))


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


def _files(found: Difference) -> Iterator[str]:
    """List manifests that are new or gone, and hosts that are no longer used."""
    for kind, what in ((ChangeKind.ADDED, "new"), (ChangeKind.REMOVED, "gone")):
        yield from (f"- manifest {code(name)} is {what}" for name in found.manifests.get(kind, ()))
    yield from (f"- host {code(_host(host))} is no longer used" for host in found.hosts_removed)


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
        yield (
            f"- {said.person(change, code)} {said.verb(change)} {code(change.key.access)}{_fields(change)}"
            f"{said.what_follows(change)}"
        )


def _fields(change: Change) -> str:
    fields = said.fields(change, code)
    if change.kind is ChangeKind.CHANGED:
        return f": {fields}"
    return f" with {fields}" if fields else ""


def _alike(changes: list[Change]) -> Iterator[str]:
    """Sum up by what is gained, lost or changed: with the values of what changes, or where all have the same ones."""
    alike: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        follows = said.what_follows(change) if change.kind is ChangeKind.REMOVED else ""
        alike[change.key.access, follows].append(change)
    for (access, follows), group in sorted(alike.items(), key=lambda each: -len(each[1])):
        values = Counter(map(_fields, group))
        shown = values if group[0].kind is ChangeKind.CHANGED and len(values) <= LISTED else ()
        if len(values) == 1 and group[0].kind is ChangeKind.ADDED:
            shown = values
        for fields in shown or ("",):
            same = [change for change in group if not shown or _fields(change) == fields]
            who = said.person(same[0], code) if len(same) == 1 else said.people(len(same))
            what = fields or (": each another value" if group[0].kind is ChangeKind.CHANGED else "")
            yield f"- {who} {said.verb(same[0], several=len(same) != 1)} {code(access)}{what}{follows}"


def _gains(changes: Iterable[Change], begin: str = "- ", quote: Quote = code) -> Iterator[str]:
    """Write who gets something that gives more than others have."""
    for each in changes:
        if each.privileged:
            what = f"{said.privilege(each, quote)}{said.what_follows(each)}{said.left_to_do(each)}"
            yield f"{begin}{said.person(each, quote)} in {quote(each.key.access)}: {what}"


def _by_privilege(changes: list[Change]) -> Iterator[str]:
    whom = Counter((change.key.access, said.privilege(change, code)) for change in changes)
    for (access, privilege), number in whom.most_common():
        yield f"- {said.people(number)} in {code(access)}: {privilege}"


def _shared(causes: Iterable[Consequence]) -> list[Consequence]:
    """List the causes that say more than the changes below them: all but what one hire's own file or request says."""
    return [
        each
        for each in causes
        if len(each.people) != 1
        or each.cause.kind not in (CauseKind.HIRE, CauseKind.REQUEST, CauseKind.FIELDS)
        or (each.cause.kind is CauseKind.FIELDS and each.cause.file is None)
    ]


def _joiners_and_leavers(causes: Iterable[Consequence], quote: Quote) -> Iterator[str]:
    """Name the files of hires that are new or gone; of many, say how many."""
    for kind, what in (
        (ChangeKind.REMOVED, "leave: their files are gone"),
        (ChangeKind.ADDED, "join: their files are new"),
    ):
        those = [each for each in causes if each.cause.kind is CauseKind.HIRE and each.cause.change is kind]
        if len(those) > FEW_FILES:
            yield f"{len(those)} people {what}"
        else:
            yield from (said.cause(each, quote) for each in those)


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


def _host(host: Host) -> str:
    too_long = len(host.host) > MAX_HOST_CHARACTERS
    return f"a name of {len(host.host)} characters, which no host has" if too_long else host.host


def _refused(host: Host) -> str:
    return "" if host.allowed else " — not allowed as it stands"
