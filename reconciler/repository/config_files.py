"""Read the files in config/ of which there is one each: the settings, and the lists.

The lists are the policy, what may be asked for, and accounts that need no owner.
A broken file is not an empty one: a policy blocks new grants, what may be asked for is nothing, and nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from reconciler.model.base import ListFile, Model
from reconciler.model.config_files import Ignore, IgnoredAccount, PolicyFile, Requestable, RequestableFile, Rule
from reconciler.model.errors import Problem, SettingsError, Severity
from reconciler.model.hire import Entry, Hire
from reconciler.model.settings import DEFAULT, Settings, loopback
from reconciler.model.template import split
from reconciler.model.text import hint
from reconciler.model.value import Frozen, replace
from reconciler.repository.documents.problems import Path as Place
from reconciler.repository.documents.problems import dotted, model_of, placed
from reconciler.repository.documents.yaml import BrokenFile, read
from reconciler.repository.git.program import objection_to_home
from reconciler.repository.git.trees import Tree

__all__ = [
    "IGNORE",
    "POLICY",
    "REQUESTABLE",
    "SETTINGS",
    "Listed",
    "Offers",
    "doubtful",
    "read_ignore",
    "read_list",
    "read_policy",
    "read_requestable",
    "read_settings",
]

SETTINGS = "config/reconciler.yaml"
POLICY = "config/policy.yaml"
REQUESTABLE = "config/requestable.yaml"
IGNORE = "config/ignore.yaml"

_NO_HOST = frozenset("/*@ ")
"""What stands in a URL or a pattern, and in no host's name."""

_BEFORE_A_PATH = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.IGNORECASE)
"""A URL that goes on with a path."""

_A_HOST = re.compile(r"[^\s/@:]+|[0-9A-Fa-f:.]+")
"""A name or an address, without a port."""


def read_settings(tree: Tree, root: Path | None) -> Settings:
    """Return the settings of a revision, defaults if it has none. Raises SettingsError if they are broken.

    `root` is the checkout, into which no setting may lead; None where no setting is acted on.
    """
    file = tree.find(SETTINGS)
    if file is None:
        if others := _misnamed(tree, SETTINGS):
            raise SettingsError([Problem(others[0], None, f"settings are read from {SETTINGS}: rename the file")])
        return Settings()
    try:
        document = read(tree.read(file), file.path)
        settings = model_of(document, Settings)
    except BrokenFile as error:
        raise SettingsError([*error.problems]) from None
    if root is not None and settings.gnupg_home is not None:
        objection = objection_to_home(root, settings.gnupg_home)
        if objection is not None:
            raise SettingsError([placed(document, ("gnupg_home",), objection)])
    return settings


def doubtful(tree: Tree, settings: Settings, integrations: Collection[str], hires: Collection[str]) -> list[Problem]:
    """Warn of each setting that names nothing that exists, and of each URL that is never requested."""
    found = [*_unknown(settings, integrations, hires), *_unasked(settings)]
    file = tree.find(SETTINGS) if found else None
    if file is None:
        return []
    document = read(tree.read(file), file.path)
    return [placed(document, path, message, Severity.WARNING) for path, message in found]


def _unknown(settings: Settings, integrations: Collection[str], hires: Collection[str]) -> Iterator[tuple[Place, str]]:
    """Return the integrations and hires that `prune` or `suspend` names and that do not exist."""
    if isinstance(settings.prune, dict):
        for name in settings.prune:
            if name != DEFAULT and name not in integrations:
                yield ("prune", name), f"there is no integration of that name{hint(name, [DEFAULT, *integrations])}"
    for index, each in enumerate(settings.suspend):
        for kind, named, known in (("integration", each.integration, integrations), ("hire", each.hire, hires)):
            if named is not None and named not in known:
                yield ("suspend", index, kind), f"there is no {kind} {named}{hint(named, known)}"


def _unasked(settings: Settings) -> Iterator[tuple[Place, str]]:
    """Return the URLs and hosts that no request may go to (docs/design/rules.md, "Hosts")."""
    urls: list[tuple[Place, str | None]] = [
        (("alerts", index, "webhook"), each.webhook) for index, each in enumerate(settings.alerts)
    ]
    if settings.twilio is not None:
        urls.append((("twilio", "url"), settings.twilio.url))
    for path, url in urls:
        if url is not None and not url.startswith("{{") and not _is_asked("x".join([*split(url)][::2])):
            yield (
                path,
                (
                    "it is never asked: only https:// is, and http:// to this machine, without a user name, and with "
                    "what is not ASCII percent-encoded"
                ),
            )
    if (public := settings.public_url) is not None and _BEFORE_A_PATH.fullmatch(public) is None:
        yield ("public_url",), "no browser comes back to it: write it as https://access.example.com"
    if _A_HOST.fullmatch(settings.smtp.host) is None:
        yield ("smtp", "host"), "no server has this name: write the host alone; its port is `port`"
    for index, host in enumerate(settings.allowed_hosts):
        if not _NO_HOST.isdisjoint(host):
            yield ("allowed_hosts", index), "allows nothing: write a host's name alone, with or without a port"


def _is_asked(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    host = parts.hostname or ""
    if parts.username is not None or not url.isascii() or " " in url:
        return False
    return (parts.scheme == "https" and host != "") or (parts.scheme == "http" and loopback(host))


# --- lists ------------------------------------------------------------------------------------------------------------

M = TypeVar("M", bound=Model)


class Listed(Frozen, Generic[M]):
    """What a file has that is a list: each entry with its line; none, and why, where it cannot be read."""

    entries: tuple[tuple[M, int | None], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def broken(self) -> Problem | None:
        """Return the first reason why it cannot be read; None if it can."""
        return next(iter(self.problems), None)


def read_list(content: Callable[[], bytes], file: str, model: type[ListFile[M]]) -> Listed[M]:
    """Read a file that is a list; an empty one has no entries."""
    try:
        document = read(content(), file)
        entries = model_of(document, model).root
    except BrokenFile as error:
        return Listed((), error.problems)
    return Listed(tuple((each, document.line((index,))) for index, each in enumerate(entries)))


def read_policy(tree: Tree) -> Listed[Rule]:
    """Return a revision's rules, none without the file."""
    return _read(tree, POLICY, PolicyFile)


class Offers(Listed[Requestable]):
    """What may be asked for at a revision."""

    def refusal(self, hire: Hire, entry: Entry, lasts: timedelta | None) -> str | None:
        """Return why a hire may not ask for an entry that lasts so long, with what it may ask for; or None."""
        if self.broken is not None:
            return f"{REQUESTABLE} cannot be read: {self.broken}"
        offers = [each for each, _ in self.entries if each.integration == entry.integration]
        objections = [each.objection(hire, entry, lasts) for each in offers]
        if None in objections:
            return None
        if offers:
            why = "; or: ".join(dict.fromkeys(filter(None, objections)))
            return f"{REQUESTABLE} does not allow it: {why}"
        return f"{REQUESTABLE} does not allow it: {entry.integration} is not in it; {self.what_for(hire)}"

    def longest(self, hire: Hire, entry: Entry) -> timedelta | None:
        """Return the longest that a hire may have an entry for, where no more than its length is objected to."""
        offers = (each for each, _ in self.entries if each.integration == entry.integration)
        fitting = (each.longest for each in offers if each.objection(hire, entry, timedelta()) is None)
        return max((each for each in fitting if each is not None), default=None)

    def lacks(self, integration: str) -> bool:
        """Whether nobody may ask for an integration; a refusal then says what may be asked for, or why nobody knows."""
        return self.broken is not None or all(each.integration != integration for each, _ in self.entries)

    def of(self, hire: Hire) -> list[Requestable]:
        """Return what a hire may ask for."""
        return [each for each, _ in self.entries if each.who is None or each.who.holds(hire)]

    def what_for(self, hire: Hire | None) -> str:
        """Say what a hire may ask for, or what anybody may; of a file that cannot be read, that it cannot."""
        if self.broken is not None:
            return f"{REQUESTABLE} cannot be read: {self.broken}"
        offers = [each for each, _ in self.entries] if hire is None else self.of(hire)
        return f"what may be asked for: {', '.join(map(str, offers))}" if offers else "nothing may be asked for"


def read_requestable(tree: Tree) -> Offers:
    """Return what may be asked for at a revision, nothing without the file."""
    found = _read(tree, REQUESTABLE, RequestableFile)
    return Offers(found.entries, found.problems)


def read_ignore(tree: Tree, known: Collection[str]) -> tuple[tuple[IgnoredAccount, ...], list[Problem]]:
    """Return what a revision ignores, nothing without the file; and the file's problems.

    `known` are the integrations that there are: another one is a warning.
    """
    found = _read(tree, IGNORE, Ignore)
    named = tree.find(IGNORE) is None  # only another name is wrong
    problems = [replace(each, severity=Severity.WARNING) if named else each for each in found.problems]
    for index, (entry, line) in enumerate(found.entries):
        if entry.integration not in known:
            text = f"there is no integration {entry.integration}{hint(entry.integration, known)}"
            problems.append(Problem(IGNORE, line, dotted((index, "integration"), text), Severity.WARNING))
    return tuple(entry for entry, _ in found.entries), problems


def _read(tree: Tree, path: str, model: type[ListFile[M]]) -> Listed[M]:
    file = tree.find(path)
    if file is not None:
        return read_list(partial(tree.read, file), path, model)
    problems = (Problem(name, None, f"not read: rename it to {path}") for name in _misnamed(tree, path))
    return Listed((), tuple(problems))


def _misnamed(tree: Tree, path: str) -> list[str]:
    """Return the files that have another ending than the one that is read."""
    return [name for ending in (".yml", ".json") if tree.find(name := path.replace(".yaml", ending))]
