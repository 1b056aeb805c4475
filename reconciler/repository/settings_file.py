"""Read the settings of a revision: config/reconciler.yaml.

Apart from the lists in config/, whose models a command does without that only reads the state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path as FilePath
from urllib.parse import urlsplit

from reconciler.model.addresses import loopback
from reconciler.model.errors import Problem, SettingsError, Severity
from reconciler.model.settings import DEFAULT, Settings
from reconciler.model.template import split
from reconciler.model.text import hint
from reconciler.repository.documents.events import BrokenFile
from reconciler.repository.documents.problems import Path, model_of, placed
from reconciler.repository.documents.yaml import Document, read
from reconciler.repository.git.program import objection_to_home
from reconciler.repository.git.trees import Tree

SETTINGS = "config/reconciler.yaml"

_NO_HOST = frozenset("/*@ ")
"""What stands in a URL or a pattern, and in no host's name."""

_BEFORE_A_PATH = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?", re.IGNORECASE)
"""A URL that goes on with a path."""

_A_HOST = re.compile(r"[^\s/@:]+|[0-9A-Fa-f:.]+")
"""A name or an address, without a port."""


def read_settings(tree: Tree, root: FilePath | None) -> Settings:
    """Return the settings of a revision, defaults if it has none. Raises SettingsError if they are broken.

    `root` is the checkout, into which no setting may lead; None where no setting is acted on.
    """
    file = tree.find(SETTINGS)
    if file is None:
        for other in ("config/reconciler.yml", "config/reconciler.json"):
            if tree.find(other) is not None:
                raise SettingsError([Problem(other, None, f"settings are read from {SETTINGS}: rename the file")])
        return Settings()
    try:
        document, settings = _parsed(tree.read(file), file.path)
    except BrokenFile as error:
        raise SettingsError([*error.problems]) from None
    if root is not None and settings.gnupg_home is not None:
        objection = objection_to_home(root, settings.gnupg_home)
        if objection is not None:
            raise SettingsError([placed(document, ("gnupg_home",), objection)])
    return settings


@lru_cache(maxsize=4)
def _parsed(raw: bytes, path: str) -> tuple[Document, Settings]:
    """Parse the file, which a pass reads more than once. Raises BrokenFile."""
    document = read(raw, path)
    return document, model_of(document, Settings)


def doubtful(tree: Tree, settings: Settings, integrations: Collection[str], hires: Collection[str]) -> list[Problem]:
    """Warn of each setting that names nothing that exists, and of each URL that is never requested."""
    found = [*_unknown(settings, integrations, hires), *_unasked(settings)]
    file = tree.find(SETTINGS) if found else None
    if file is None:
        return []
    document = read(tree.read(file), file.path)
    return [placed(document, path, message, Severity.WARNING) for path, message in found]


def _unknown(settings: Settings, integrations: Collection[str], hires: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Return the integrations and hires that `prune` or `suspend` names and that do not exist."""
    if isinstance(settings.prune, dict):
        for name in settings.prune:
            if name != DEFAULT and name not in integrations:
                yield ("prune", name), f"there is no integration of that name{hint(name, [DEFAULT, *integrations])}"
    for index, each in enumerate(settings.suspend):
        for kind, named, known in (("integration", each.integration, integrations), ("hire", each.hire, hires)):
            if named is not None and named not in known:
                yield ("suspend", index, kind), f"there is no {kind} {named}{hint(named, known)}"


def _unasked(settings: Settings) -> Iterator[tuple[Path, str]]:
    """Return the URLs and hosts that no request may go to (docs/design/rules.md, "Hosts")."""
    urls: list[tuple[Path, str | None]] = [
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
