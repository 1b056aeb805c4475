"""A manifest: how to check and change accounts of one integration, in ChiefOnboarding's format (docs/manifest.md).

The models take what ChiefOnboarding takes and our own additions, and nothing else. What one file can decide alone is
decided here; what needs the hire's values or the other manifests is for the repository. Requests and the check are in
`model.request`, the form in `model.form`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from reconciler.model.base import EMAIL, Duration, Identifier, Model, Text, one_or_more
from reconciler.model.form import FormField
from reconciler.model.request import (
    PAGE_TOKEN,
    Call,
    Exists,
    Headers,
    Listing,
    NonEmpty,
    Paged,
    Paging,
    Pending,
    Request,
    Revoke,
    WholeNumber,
    empty_is_none,
)
from reconciler.model.template import PLACEHOLDER, names, roots


def _placeholder(value: str) -> str:
    placed = PLACEHOLDER.fullmatch(value.strip())
    if placed is None or "." in placed[1]:
        raise ValueError("a secret is never written out: write {{HOOK_SECRET}}, and store it in the initial data")
    return value.strip()


SecretPlaceholders = Annotated[
    list[Annotated[Text, AfterValidator(_placeholder)]], BeforeValidator(one_or_more), Field(min_length=1, max_length=2)
]
"""A placeholder of one value of the initial data, and nothing else; two of them while one is changed."""


class Signature(Model):
    """An HMAC-SHA256 of the body in a header; or as Standard Webhooks have it, with an id and a time."""

    scheme: Literal["standard-webhooks"] | None = None
    """standard-webhooks, which signs an id and a time as well."""
    header: NonEmpty | None = None
    """The header with the HMAC-SHA256 of the body."""
    prefix: Text = ""
    """What stands before it in the header, such as sha256=."""
    encoding: Literal["hex", "base64"] = "hex"
    """How it is written."""
    secret: SecretPlaceholders
    """{{HOOK_SECRET}}, from the initial data."""

    @model_validator(mode="after")
    def _names_a_header(self) -> Self:
        if (self.scheme is None) is (self.header is None):
            raise ValueError("a signature has a header, or scheme: standard-webhooks, which names its own")
        return self


class Token(Model):
    """A header that holds the secret itself."""

    header: NonEmpty
    """The header that holds the secret."""
    value: SecretPlaceholders
    """{{HOOK_SECRET}}, from the initial data."""


class Events(Model):
    """How the service's events are recognized, and which path of their body names the account."""

    signature: Signature | None = None
    """The signature of an event's body."""
    token: Token | None = None
    """The header that holds the secret itself."""
    account: NonEmpty
    """Dotted path in the body of what names the account, as the check expects it."""

    @model_validator(mode="after")
    def _proves_whose_they_are(self) -> Self:
        if (self.signature is None) is (self.token is None):
            raise ValueError("events have a signature or a token: anybody could send others")
        return self

    @property
    def secrets(self) -> list[str]:
        """Return the ids of the initial data of which the sender knows one."""
        placed = self.signature.secret if self.signature is not None else self.token.value if self.token else []
        return [found[1] for found in map(PLACEHOLDER.fullmatch, placed) if found is not None]


class InitialDataField(Model):
    """A secret or setting of the integration; `name: generate` makes a fresh secret for each run."""

    id: Identifier
    """What placeholders call the value: letters, digits and underscores."""
    name: Text = ""
    """The label; `generate` in initial_data_form makes a fresh secret for each run."""
    description: Text = ""
    """Where to find the value."""
    secret: bool = True
    """false: the value may be shown."""

    @property
    def generated(self) -> bool:
        """Whether the value is generated for each run instead of read."""
        return self.name == "generate"


class ExtraUserInfo(Model):
    """A field that a hire has to have under `extra`."""

    id: Identifier
    """What placeholders call the value: letters, digits and underscores."""
    name: Text = ""
    """The label; `generate` in initial_data_form makes a fresh secret for each run."""
    description: Text = ""
    """Where to find the value."""


PHONE = "{{phone}}"
"""Where a text goes that has no number of its own."""

_ADDRESSES = frozenset({"{{email}}", "{{ email }}", "{{manager_email}}", "{{buddy_email}}"})


def is_address(text: str) -> bool:
    """Whether a text is an e-mail address, to which no text message can be sent."""
    return EMAIL.fullmatch(text.strip()) is not None


class Notification(Model):
    """A message that is sent after the integration has run."""

    type: Literal["email", "text"]
    """email or text."""
    to: Text = ""
    """An address or a telephone number; a text without one goes to the hire's phone."""
    subject: Text = ""
    """The subject of an email."""
    message: Text
    """Plain text."""

    @model_validator(mode="after")
    def _has_a_receiver(self) -> Self:
        if self.type == "email" and not self.to.strip():
            raise ValueError("an email needs to: the address that it goes to, or a placeholder such as {{email}}")
        return self

    @property
    def texts(self) -> tuple[str, str, str]:
        """Return its texts that are rendered."""
        return self.receiver, self.subject, self.message

    @property
    def receiver(self) -> str:
        """Return its receiver's template: of a `text` without one, or with an address only, the hire's phone."""
        if self.type == "text" and (not self.to.strip() or self.to.strip() in _ADDRESSES or is_address(self.to)):
            return PHONE
        return self.to


class OAuth(Model):
    """How a token is obtained and renewed: by a person's consent, or with `grant: client_credentials` without."""

    grant: Literal["client_credentials"] | None = None
    """client_credentials: the token is fetched without a person."""
    authenticate_url: Annotated[NonEmpty | None, empty_is_none] = None
    """Where a person is sent to allow the connection."""
    access_token: Request
    """The request that turns the code into a token."""
    refresh: Annotated[Request | None, empty_is_none] = None
    """The request that makes a new token; without it the token is permanent."""
    without_code: bool = False
    """A callback without a code is good."""

    @model_validator(mode="after")
    def _authorized_by_somebody(self) -> Self:
        if self.grant is None and self.authenticate_url is None:
            raise ValueError(
                "authenticate_url is where a person allows it; without a person, grant: client_credentials"
            )
        if self.grant is not None and self.refresh is not None:
            raise ValueError("with grant: client_credentials access_token is its own refresh: leave refresh out")
        return self

    @property
    def renewal(self) -> Request | None:
        """Return the request for a new token; None if the token is permanent."""
        return self.access_token if self.grant is not None else self.refresh


class Invitation(Model):
    """How long an invitation stays open, and how often it is sent again."""

    expires: Duration
    """How long an invitation stays open, such as 7d."""
    resend: WholeNumber = 1
    """How often it is sent again."""


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


_IMPORTS = ("data_structure", "action", "schedule", "amount_pages_to_fetch")


class Manifest(Model):
    """A manifest. `service` groups manifests that share initial data, OAuth connection and limits."""

    service: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """The service whose initial data, connection and limits this manifest shares."""
    name: Text = ""
    """The name that is shown."""
    description: Text = ""
    """What the integration does."""
    form: list[FormField] = []
    """What can differ from one access entry to the next."""
    exists: Annotated[Exists | None, empty_is_none] = None
    """How to find out whether the account is there."""
    execute: list[Request] = []
    """The requests that make the account, in order."""
    update: list[Request] | Literal["execute"] = []
    """The requests that make an account that is there as git wants it; or the word execute."""
    revoke: list[Revoke] = []
    """The requests that take it away, in order."""
    withdraw: list[Revoke] = []
    """The requests that take an open invitation back."""
    lock: list[Revoke] = []
    """The requests that switch the account off without deleting it, for `reconcile lock`."""
    revoke_deletes: bool = False
    """Whether revoke deletes the account: then it takes the place of lock only with --delete."""
    invitation: Invitation | None = None
    """How long an invitation stays open."""
    events: Annotated[Events | None, empty_is_none] = None
    """How the service tells that an account changed, at /hooks/<integration>."""
    headers: Headers = {}
    """Sent with every request that has none of its own."""
    oauth: Annotated[OAuth | None, empty_is_none] = None
    """How a token is come by and kept fresh."""
    initial_data_form: list[InitialDataField] = []
    """The integration's secrets and settings, kept encrypted."""
    extra_user_info: list[ExtraUserInfo] = []
    """What a hire has to give under extra."""
    post_execute_notification: Annotated[list[Notification], BeforeValidator(_one_or_many)] = []
    """Messages that go out after a successful run."""

    @model_validator(mode="before")
    @classmethod
    def _provisions_accounts(cls, value: Any) -> Any:
        if isinstance(value, dict) and (value.get("type") == "import_users" or any(key in value for key in _IMPORTS)):
            raise ValueError("this manifest imports people instead of making accounts: move it to config/imports/")
        return value

    @property
    def updates(self) -> list[Request]:
        """Return the requests that make an existing account as git wants it."""
        return self.execute if self.update == "execute" else list(self.update)

    @property
    def identity(self) -> tuple[str, ...]:
        """Return the ids of the form fields that say which thing an entry is about."""
        return tuple(item.id for item in self.form if item.identity)

    @property
    def request_lists(self) -> dict[str, Sequence[Request]]:
        """Return the requests that change something, by the key that they stand under."""
        return {
            "execute": self.execute,
            "update": self.updates,
            "revoke": self.revoke,
            "withdraw": self.withdraw,
            "lock": self.lock,
        }

    @property
    def generated(self) -> tuple[str, ...]:
        """Return the ids whose values are generated for each run."""
        fields = [item.id for item in self.initial_data_form if item.generated]
        return (*fields, *(item.id for item in self.form if item.type == "generate"))

    @property
    def listing(self) -> Listing | None:
        """The listing of `exists`, if there is one."""
        return None if self.exists is None else self.exists.listing

    @property
    def pending(self) -> Pending | None:
        """The listing of the open invitations, if there is one."""
        return None if self.exists is None else self.exists.pending

    @property
    def where(self) -> Mapping[str, Any]:
        """What an account is compared with: if there is any, that alone says whether it is as git wants it."""
        return {} if self.exists is None else self.exists.where

    @cached_property
    def compared(self) -> frozenset[str]:
        """The names that `where` uses: what git wants of them is judged by what it asks for, not by what was sent."""
        return roots(self.where)

    @property
    def check_stores(self) -> bool:
        """Whether the check saves something that requests may use."""
        return self.exists is not None and bool(self.exists.store_data)

    @property
    def asks_for(self) -> tuple[InitialDataField, ...]:
        """Return the initial data that a user has to provide."""
        return tuple(item for item in self.initial_data_form if not item.generated)

    @property
    def stored(self) -> frozenset[str]:
        """Return the names that `store_data` saves while requests run."""
        saving: list[Request | Exists | Pending] = [call for calls in self.request_lists.values() for call in calls]
        saving += [call for call in (self.exists, self.pending) if call is not None]
        return frozenset(name for each in saving for name in each.store_data)

    def held(self, differs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that an account has at its service by what `differs`, each where `where` wants it alone."""
        alone = {path: PLACEHOLDER.fullmatch(text) for path, text in self.where.items() if isinstance(text, str)}
        return {found[1]: differs[path][0] for path, found in alone.items() if found and path in differs}

    @cached_property
    def used(self) -> frozenset[str]:
        """The variables, with their dots, that all requests and notifications use."""
        parts = {"exists", "execute", "update", "revoke", "withdraw", "lock", "post_execute_notification", "headers"}
        return names(self.model_dump(include=parts))

    @property
    def needed(self) -> frozenset[str]:
        """Return every variable, with its dots, that the check, the requests and the notifications use."""
        calls: list[Call] = [*self.execute, *([self.exists] if self.exists else [])]
        headers = [self.headers] if any(not call.headers for call in calls) else []
        # Of the whole: for one of a request alone, pydantic would build a serializer of its own.
        parts = self.model_dump(include={"execute", "exists"}, exclude={"exists": {"listing", "pending"}})
        return names([parts, *headers, *(item.texts for item in self.post_execute_notification)]) - {PAGE_TOKEN}

    @property
    def ours(self) -> bool:
        """Whether it uses an addition that ChiefOnboarding does not have."""
        whole = (
            self.service,
            self.update,
            self.withdraw,
            self.lock,
            self.revoke_deletes,
            self.invitation,
            self.events,
            self.identity,
            self.oauth and self.oauth.grant,
        )
        checks = self.exists is not None and self.exists.ours
        parts = any(call.quote or (isinstance(call, FormField) and call.pages) for _, call in self.calls())
        return any(whole) or checks or parts

    def calls(self) -> Iterator[tuple[str, AnyCall]]:
        """Yield every request that the manifest can make, with its place in the file."""
        for index, field in enumerate(self.form):
            if field.fetched:
                yield f"form.{index}", field
        if self.exists is not None:
            yield "exists", self.exists
            for name, part in (
                ("ready", self.exists.ready),
                ("pending", self.exists.pending),
                ("list", self.exists.listing),
            ):
                if part is not None:
                    yield f"exists.{name}", part
        for name in ("execute", "revoke", "withdraw", "lock", *(() if self.update == "execute" else ("update",))):
            for index, request in enumerate(self.request_lists[name]):
                yield f"{name}.{index}", request
        if self.oauth is not None:
            yield "oauth.access_token", self.oauth.access_token
            if self.oauth.refresh is not None:
                yield "oauth.refresh", self.oauth.refresh


def paging_of(call: AnyCall) -> tuple[str, Paging] | None:
    """Return how a call is read page by page, and under which key below it that stands; None if it has one answer."""
    if isinstance(call, Exists):
        return None if call.pages is None else ("pages.", call.pages)
    return ("", call) if isinstance(call, Paged) else None


AnyPaged = Listing | Pending | FormField
"""Whatever is read page by page."""

AnyCall = Call | AnyPaged
"""Whatever asks a service for something."""
