"""`config/reconciler.yaml` (docs/settings.md). Every key is optional; the defaults are defined here."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from reconciler.model.base import Day, Duration, Email, Model, Restricting, Text, duration, number
from reconciler.model.template import misuse, names
from reconciler.model.text import hint

OWN = "reconciler"
"""The service that the settings' own secrets belong to: `config/initial_data/reconciler.*`."""

_FULL_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")

SECOND, MINUTE, HOUR, A_DAY = (timedelta(seconds=seconds) for seconds in (1, 60, 3600, 86400))


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("control characters cannot stand in it")
    return value


Line = Annotated[Text, StringConstraints(min_length=1), AfterValidator(_one_line)]
"""A name, a path or an address: what another program, or the operating system, is given as one argument."""


def _never(value: Any) -> Any:
    return None if value in (None, False, "never") else duration(value)


def _a_second(value: timedelta) -> timedelta:
    if value < SECOND:
        raise ValueError("an interval of less than 1s would be over before its first check")
    return value


def _a_day_at_most(value: timedelta) -> timedelta:
    if value > A_DAY:  # a database takes no more than three weeks
        raise ValueError("must be at most 1d")
    return value


def _full_id(value: str) -> str:
    if not _FULL_ID.fullmatch(value):
        raise ValueError("not the full id of a commit: 40 hex digits, as `git rev-parse` prints them")
    return value


class Git(Model):
    """Where commits come from. `fetch: null` never fetches.

    `branch` is the one that counts; null is the one that HEAD was on when the state was made.

    With `verify_signatures`, commits that no trusted key signed are not acted on; `trusted_from` is the commit after
    which all of them are signed, by its full id, since a name could be made to mean another one.
    """

    remote: Line = "origin"
    branch: Line | None = None
    fetch: Annotated[timedelta | None, BeforeValidator(_never)] = MINUTE
    verify_signatures: bool = False
    trusted_from: Annotated[Text, AfterValidator(_full_id)] | None = None


def _authority_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.fragment:
        raise ValueError(
            "checkpoints.timestamp.url is the address of a timestamp authority, such as https://tsa.example"
        )
    return value


def _committed(value: str) -> str:
    if ".." in PurePosixPath(value).parts:
        raise ValueError("write the path from the repository's root, or the whole one, without ..")
    return value


class Timestamping(Model):
    """Who says when a checkpoint was there, as RFC 3161 has it, and the certificates to verify that with."""

    url: Annotated[Line, AfterValidator(_authority_url)]
    ca: Annotated[Line, AfterValidator(_committed)]


class Checkpoints(Model):
    """Where signed checkpoints of the history go, and how often: a branch that holds nothing else, or a directory."""

    every: Annotated[Duration, AfterValidator(_a_second)] = HOUR
    branch: Line = "checkpoints"
    remote: Line | None = None
    directory: Line | None = None
    timestamp: Timestamping | None = None

    @model_validator(mode="after")
    def _goes_to_one_place(self) -> Self:
        if self.directory is not None and self.model_fields_set & {"branch", "remote"}:
            raise ValueError("checkpoints go to a branch or to a directory: leave one out")
        return self


def _forge_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("forge.url is the forge's address, such as https://github.com")
    if parts.scheme == "http" and not loopback(parts.hostname):
        raise ValueError("forge.url begins with https://, for the token goes there")
    return value


def _project(value: str) -> str:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)+", value) or ".." in value.split("/"):
        raise ValueError("forge.project is the repository's path there, such as acme/access")
    return value


class Forge(Model):
    """Where pull requests are opened; the token is `RECONCILE_FORGE_TOKEN` of the environment."""

    kind: Literal["github", "gitlab", "gitea"]
    url: Annotated[Line, AfterValidator(_forge_url)]
    project: Annotated[Line, AfterValidator(_project)]


class Limits(Model):
    """The limits on requests. `rate` counts requests a second to one host; null sets no limit.

    A rate that lets nothing leave for hours would look like a service that hangs.
    """

    concurrency: Annotated[int, Field(ge=1, le=10_000), BeforeValidator(number)] = 100
    per_host: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(number)] = 20
    rate: Annotated[float, Field(ge=0.01, le=10_000), BeforeValidator(number)] | None = None
    timeout: Annotated[Duration, Field(gt=timedelta()), AfterValidator(_a_day_at_most)] = timedelta(seconds=30)


class Suspension(Model):
    """Holds an integration or a hire, until a day and for a reason; without `until`, until it is removed."""

    integration: Text | None = None
    hire: Text | None = None
    until: Annotated[Day | None, Restricting] = None
    reason: Text = ""

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        if self.integration is None and self.hire is None:
            raise ValueError("a suspension names an integration or a hire")
        return self


def _starttls(value: Any) -> Any:
    return {True: "always", False: "never"}.get(value, value) if isinstance(value, bool) else value


class Smtp(Model):
    """The mail server; its password is `SMTP_PASSWORD` in the reconciler's initial data."""

    host: Line = "localhost"
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(number)] = 25
    sender: Email = "reconciler@localhost"
    starttls: Annotated[Literal["auto", "always", "never"], BeforeValidator(_starttls)] = "auto"
    username: Line | None = None


class Twilio(Model):
    """Text messages; the token is `TWILIO_AUTH_TOKEN` in the reconciler's initial data."""

    account_sid: Line
    from_number: Line
    url: Line = "https://api.twilio.com"


class Alert(Model):
    """One receiver of alerts: an address or a webhook's URL."""

    email: Email | None = None
    webhook: Line | None = None

    @model_validator(mode="after")
    def _one_receiver(self) -> Self:
        if (self.email is None) == (self.webhook is None):
            raise ValueError("an alert has either email or webhook")
        wrong = [*misuse(self.webhook or ""), *(f"{{{{{name}}}}}" for name in sorted(self.asks_for) if "." in name)]
        if wrong:
            raise ValueError(
                f"webhook: {wrong[0]}: only {{{{NAME}}}}, a key of config/initial_data/reconciler.*, may stand there"
            )
        return self

    @property
    def asks_for(self) -> frozenset[str]:
        """Return the keys of the program's own initial data that the webhook's URL uses."""
        return names(self.webhook or "")


_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _header(value: str) -> str:
    if not _HEADER.fullmatch(value):
        raise ValueError("not the name of a header, such as X-Forwarded-User")
    return value


def _network(value: str) -> str:
    try:
        network = ip_network(value)
    except ValueError as error:
        raise ValueError(f"not an address or a network, such as 10.0.0.0/8: {error}") from error
    if network.prefixlen == 0:
        raise ValueError(f"{value} is every address there is: whoever sends the header would be signed in")
    return value


class Pages(Model):
    """A proxy that signs people in to the status pages: its header, and its addresses."""

    trusted_header: Annotated[Line, AfterValidator(_header)]
    trusted_proxies: Annotated[list[Annotated[Line, AfterValidator(_network)]], Field(min_length=1)]

    def trusts(self, peer: str) -> bool:
        """Whether a connection from this address is from the proxy."""
        try:
            address = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in self.trusted_proxies]
        return any(address in network for network in networks)


Prune = Literal["report", "revoke"]

Healing = Literal["heal", "report"]


class Drift(Model):
    """What is done about an account that is gone, was changed, or is switched off at the service.

    Whoever is switched off there may have been locked out on purpose.
    """

    missing: Healing = "heal"
    differs: Healing = "heal"
    inactive: Healing = "report"


def _by_kind(value: Any) -> Any:
    """Read a word as what it says of each kind."""
    if not isinstance(value, str):
        return value
    words: dict[str, dict[str, Any]] = {"heal": {}, "report": dict.fromkeys(Drift.model_fields, "report")}
    if value not in words:
        raise ValueError(
            f"{value!r} is neither heal, nor report, nor a map of missing, differs, inactive{hint(value, words)}"
        )
    return words[value]


FEW = 5
"""The most changes of an integration that never trip the guard, whatever `max_change_percent` is."""

DEFAULT = "default"
"""What `prune` says of the integrations that it does not name."""


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError("not an IANA time zone name, such as Europe/Amsterdam") from error
    return value


_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*):([0-9]{1,5})")


def listening(value: str) -> str:
    """Return where to listen: a host and a port. Raises ValueError."""
    match = _LISTEN.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise ValueError("listen is host:port, such as 127.0.0.1:8080")
    return value


_OF_A_SERVER = frozenset({"host", "port", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert"})
"""What may stand after the `?` of a PostgreSQL URL: where the server is, and how it is spoken to."""


_ONE = r"(?:\[[0-9A-Fa-f:.]+\]|[^@:,\[\]]*)(?::[0-9]{1,5})?"
_SERVERS = re.compile(rf"(?:[^@]+@)?{_ONE}(?:,{_ONE})*")


def _state(value: str) -> str:
    if value.startswith("postgresql://"):
        return _server(value)
    if not value.startswith("sqlite:///"):
        raise ValueError("state is sqlite:///path or postgresql://user@host/database")
    if PurePosixPath(value.removeprefix("sqlite:///")).name in {"", ".."}:
        raise ValueError("state names no file: write sqlite:///path, such as sqlite:///.reconciler/state.db")
    return value


def _server(value: str) -> str:
    """Read a PostgreSQL URL without a password. Errors do not repeat it."""
    try:
        parts = urlsplit(value)
        given = parse_qs(parts.query, keep_blank_values=True)
        password = parts.netloc.rpartition("@")[0].partition(":")[2] or "password" in given
    except ValueError:
        raise ValueError("state is no URL: write postgresql://user@host/database") from None
    if password:
        raise ValueError(
            "a password does not belong here: leave it out of `state`, and give it as STATE_PASSWORD in the "
            "reconciler's initial data (reconcile initial-data set reconciler)"
        )
    if not _SERVERS.fullmatch(parts.netloc):
        raise ValueError("state names no server: write postgresql://user@host:5432/database")
    if not re.fullmatch(r"/[^/@]+", parts.path) or parts.fragment:
        raise ValueError("state names no database: write postgresql://user@host/database")
    if unknown := sorted(given.keys() - _OF_A_SERVER):
        raise ValueError(f"only {', '.join(sorted(_OF_A_SERVER))} may follow the `?`, not {', '.join(unknown)}")
    return value


def _home(value: str) -> str:
    if value.startswith("~") and value != "~" and not value.startswith("~/"):
        raise ValueError("only ~/ stands for a home, that of whoever runs the program: write the path out")
    return value


def _address(value: str) -> str:
    if value.startswith(("https://", "http://")) and not _has_host(value):
        raise ValueError("not an address: write it as https://access.example.com")
    return value


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _host(value: str) -> str:
    try:
        value.encode("idna" if not value.isascii() else "ascii")
    except UnicodeError as error:
        raise ValueError("not a name that a host can have") from error
    return value


class Settings(Model):
    """All settings, with the defaults of keys that are left out.

    Default parts are constructed: validating them would build each one's validators at import, and again within these.
    """

    interval: Annotated[Duration, AfterValidator(_a_second)] = timedelta(minutes=10)
    retry_delay: Duration = HOUR
    state: Annotated[Line, AfterValidator(_state)] = "sqlite:///.reconciler/state.db"
    source: Literal["commit", "worktree"] = "commit"
    git: Git = Git.model_construct()
    gnupg_home: Annotated[Line, AfterValidator(_home)] | None = None
    allowed_hosts: list[Annotated[Line, StringConstraints(to_lower=True), AfterValidator(_host)]] = []
    limits: Limits = Limits.model_construct()
    drift: Annotated[Drift, BeforeValidator(_by_kind)] = Drift.model_construct()
    prune: Prune | dict[Text, Prune] = "report"
    expire: Literal["revoke", "prune"] = "revoke"
    max_change_percent: Annotated[float, Field(ge=0, le=100), BeforeValidator(number)] = 25
    fail_stale: Annotated[Duration, Field(gt=timedelta())] = timedelta(minutes=15)
    max_new: Annotated[int, Field(ge=0), BeforeValidator(number)] | None = 100
    suspend: list[Suspension] = []
    listen: Annotated[Line, AfterValidator(listening)] = "127.0.0.1:8080"
    public_url: Annotated[Line, AfterValidator(_address)] | None = None
    pages: Pages | None = None
    smtp: Smtp = Smtp.model_construct()
    twilio: Twilio | None = None
    timezone: Annotated[Text, AfterValidator(_zone)] = "UTC"
    forge: Forge | None = None
    checkpoints: Checkpoints | None = None
    alerts: list[Alert] = []

    @model_validator(mode="after")
    def _keeps_checkpoints_apart(self) -> Self:
        wanted = self.checkpoints
        if wanted is not None and wanted.directory is None and wanted.branch == self.git.branch:
            raise ValueError("checkpoints.branch is git.branch: checkpoints need a branch that holds nothing else")
        return self

    @model_validator(mode="after")
    def _verifies_commits(self) -> Self:
        if self.git.verify_signatures and self.source == "worktree":
            raise ValueError("git.verify_signatures looks at commits, and `source: worktree` acts on files beside them")
        return self

    @model_validator(mode="after")
    def _shares_commits(self) -> Self:
        if self.source == "worktree" and self.state.startswith("postgresql:"):
            raise ValueError("`source: worktree` acts on one machine's files, and a postgresql:// state is a fleet's")
        return self

    @property
    def public(self) -> str:
        """Return what `redirect_url` starts with, without a slash at its end."""
        return (self.public_url or f"http://{self.listen}").rstrip("/")


def loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host in ("localhost", "127.0.0.1") or host.endswith(".localhost"):  # the usual ones, before what takes longer
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
