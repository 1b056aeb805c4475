"""`config/reconciler.yaml` (docs/settings.md). Every key is optional; the defaults are defined here."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from reconciler.model.addresses import host_name, listening, loopback, state_url, web_address
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
    """Where commits come from."""

    remote: Line = "origin"
    """The remote's name."""
    branch: Line | None = None
    """The branch that counts; null: the one that HEAD was on when the state was made."""
    fetch: Annotated[timedelta | None, BeforeValidator(_never)] = MINUTE
    """How often; null: never."""
    verify_signatures: bool = False
    """Act only on commits that a trusted key signed."""
    trusted_from: Annotated[Text, AfterValidator(_full_id)] | None = None
    """At the first run: the commit after which all are signed, by its full id; a name could come to mean another."""


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
    """The authority's address, for RFC 3161 over HTTP."""
    ca: Annotated[Line, AfterValidator(_committed)]
    """The file of the root certificates to verify it with, in PEM: in git, or a whole path on the machine."""


class Checkpoints(Model):
    """Where signed checkpoints of the history go, and how often: a branch that holds nothing else, or a directory."""

    every: Annotated[Duration, AfterValidator(_a_second)] = HOUR
    """How often, if the history has new lines."""
    branch: Line = "checkpoints"
    """A branch that holds nothing else; never the one in force."""
    remote: Line | None = None
    """Where the branch is: a remote's name or its address; git.remote where it is not given."""
    directory: Line | None = None
    """A folder instead of a branch."""
    timestamp: Timestamping | None = None
    """An authority that says when each checkpoint was there."""

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
    """Which it is; gitea for Forgejo too."""
    url: Annotated[Line, AfterValidator(_forge_url)]
    """Its address, such as https://github.com."""
    project: Annotated[Line, AfterValidator(_project)]
    """The repository's path there, such as acme/access."""


class Limits(Model):
    """The limits on requests. A rate that lets nothing leave for hours would look like a service that hangs."""

    concurrency: Annotated[int, Field(ge=1, le=10_000), BeforeValidator(number)] = 100
    """Requests at one time, to all hosts."""
    per_host: Annotated[int, Field(ge=1, le=1_000), BeforeValidator(number)] = 20
    """Requests at one time, to one host."""
    rate: Annotated[float, Field(ge=0.01, le=10_000), BeforeValidator(number)] | None = None
    """Requests a second to one host; null: no limit."""
    timeout: Annotated[Duration, Field(gt=timedelta()), AfterValidator(_a_day_at_most)] = timedelta(seconds=30)
    """How long one request may take."""


class Suspension(Model):
    """Holds an integration or a hire, until a day and for a reason; without `until`, until it is removed."""

    integration: Text | None = None
    """The integration that is held."""
    hire: Text | None = None
    """The hire that is held."""
    until: Annotated[Day | None, Restricting] = None
    """It ends at the beginning of this day."""
    reason: Text = ""
    """Shown with every grant that is held."""

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
    """The server."""
    port: Annotated[int, Field(ge=1, le=65535), BeforeValidator(number)] = 25
    """Its port."""
    sender: Email = "reconciler@localhost"
    """The address that mails come from."""
    starttls: Annotated[Literal["auto", "always", "never"], BeforeValidator(_starttls)] = "auto"
    """auto: where the server offers it."""
    username: Line | None = None
    """With the password, where the server asks for them."""


class Twilio(Model):
    """Text messages; the token is `TWILIO_AUTH_TOKEN` in the reconciler's initial data."""

    account_sid: Line
    """The account."""
    from_number: Line
    """The number that texts come from."""
    url: Line = "https://api.twilio.com"
    """The API's address."""


class Alert(Model):
    """One receiver of alerts: an address or a webhook's URL."""

    email: Email | None = None
    """An address."""
    webhook: Line | None = None
    """A URL that gets a JSON object; {{NAME}} in it is a key of the reconciler's initial data."""

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
    """The header in which the proxy names who is signed in."""
    trusted_proxies: Annotated[list[Annotated[Line, AfterValidator(_network)]], Field(min_length=1)]
    """The addresses and networks that the proxy connects from; nobody else's header counts."""

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
    """What is done about an account that is gone, was changed, or is switched off at the service."""

    missing: Healing = "heal"
    """The account is gone."""
    differs: Healing = "heal"
    """Somebody changed it at the service."""
    inactive: Healing = "report"
    """Somebody switched it off at the service, on purpose perhaps."""


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


def _home(value: str) -> str:
    if value.startswith("~") and value != "~" and not value.startswith("~/"):
        raise ValueError("only ~/ stands for a home, that of whoever runs the program: write the path out")
    return value


class Settings(Model):
    """All settings, with the defaults of keys that are left out.

    Default parts are constructed: validating them would build each one's validators at import, and again within these.
    """

    interval: Annotated[Duration, AfterValidator(_a_second)] = timedelta(minutes=10)
    """A full resync is spread over this time."""
    retry_delay: Duration = HOUR
    """How long after a failure the one retry comes."""
    state: Annotated[Line, AfterValidator(state_url)] = "sqlite:///.reconciler/state.db"
    """sqlite:///path, from the repository's root, or postgresql://…"""
    source: Literal["commit", "worktree"] = "commit"
    """commit: what HEAD has; worktree: the files as they stand."""
    git: Git = Git.model_construct()
    """Where commits come from."""
    gnupg_home: Annotated[Line, AfterValidator(_home)] | None = None
    """GnuPG's folder, where it is not its own default."""
    allowed_hosts: list[Annotated[Line, StringConstraints(to_lower=True), AfterValidator(host_name)]] = []
    """Hosts that requests may go to; empty: those that a service's own manifests write out."""
    limits: Limits = Limits.model_construct()
    """How many requests services get, and how fast."""
    drift: Annotated[Drift, BeforeValidator(_by_kind)] = Drift.model_construct()
    """What to do when a confirmed account is gone, or no longer as git wants it; a word, or by kind."""
    prune: Prune | dict[Text, Prune] = "report"
    """What becomes of access that left git. report: it stays, and is told; revoke: it is taken away."""
    expire: Literal["revoke", "prune"] = "revoke"
    """What a time that is over does: revoke, whatever prune says, or prune, like any other removal."""
    max_change_percent: Annotated[float, Field(ge=0, le=100), BeforeValidator(number)] = 25
    """If more of an integration's grants would be revoked or healed, all wait for a person."""
    fail_stale: Annotated[Duration, Field(gt=timedelta())] = timedelta(minutes=15)
    """So long without a successful fetch, or with the newest commit refused, is ill health."""
    max_new: Annotated[int, Field(ge=0), BeforeValidator(number)] | None = 100
    """If more accounts of an integration would be made or updated, all wait for a person. null: any."""
    suspend: list[Suspension] = []
    """Integrations or hires that are held for a while."""
    listen: Annotated[Line, AfterValidator(listening)] = "127.0.0.1:8080"
    """host:port of the status pages, health, metrics and the OAuth callback."""
    public_url: Annotated[Line, AfterValidator(web_address)] | None = None
    """What redirect_url starts with."""
    pages: Pages | None = None
    """The proxy whose word the status pages take for who is signed in."""
    smtp: Smtp = Smtp.model_construct()
    """The mail server; the password is SMTP_PASSWORD in the initial data of reconciler."""
    twilio: Twilio | None = None
    """The text service; the token is TWILIO_AUTH_TOKEN in the initial data of reconciler."""
    timezone: Annotated[Text, AfterValidator(_zone)] = "UTC"
    """Whose days at and until count: an IANA name."""
    forge: Forge | None = None
    """Where `request --open` opens pull requests, and approvals are read."""
    checkpoints: Checkpoints | None = None
    """Where a daemon publishes signed checkpoints of the history."""
    alerts: list[Alert] = []
    """Who is told of failures, drift and outages."""

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

    def prunes(self, integration: str) -> bool:
        """Whether grants of an integration that git no longer wants are revoked."""
        said = self.prune
        return (said if isinstance(said, str) else said.get(integration, said.get(DEFAULT))) == "revoke"

    @property
    def public(self) -> str:
        """Return what `redirect_url` starts with, without a slash at its end."""
        return (self.public_url or f"http://{self.listen}").rstrip("/")
