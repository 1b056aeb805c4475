"""The sealed store's key, which seals what a running program saves: OAuth tokens, generated values.

One random key of 256 bits is wrapped to the keys that the initial data is encrypted to, so that GnuPG (or age, if only
age is used) stays the root of trust. Values are sealed with AES-256-GCM and their place as additional data, so that
none can be moved. Without initial data there are no recipients: the key is then stored unwrapped, protected only by the
mode of the state's folder, until a successor is made for the recipients.

A successor takes the place of a key, and knows it, for what a process that does not know the successor yet seals
meanwhile. What the two make of texts that are only compared stays the same.

A wrapped key is one line of JSON, `{"form": "gpg", "recipients": […]}`, and the wrapped bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from reconciler.model.errors import SecretsError
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg

_DAMAGED = "the sealed store's key is damaged: restore the state from a backup"
_SIZE = 32
_NONCE = 12


class Sealer:
    """Seals and opens values. It never shows its key: not in `repr`, nor by pickling or copying."""

    __slots__ = ("_cipher", "_digests", "_gnupg", "_key", "_macs", "_previous", "fingerprint", "previous", "recipients")

    def __init__(self, key: bytes, recipients: Iterable[str], gnupg: Gnupg) -> None:
        """`key` is followed by the key of digests and by the key before, if it is a successor."""
        self._gnupg = gnupg
        self._use(key, recipients)

    def _use(self, key: bytes, recipients: Iterable[str]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        own, previous = key[:_SIZE], key[2 * _SIZE :]
        self._key = key
        self._cipher = AESGCM(_derived(own, b"rows"))
        self._previous = AESGCM(_derived(previous, b"rows")) if previous else None
        self._digests = key[_SIZE : 2 * _SIZE] or _derived(own, b"digests")
        self._macs = _derived(own, b"commands")
        self.fingerprint = _derived(own, b"fingerprint").hex()
        """Names the key and reveals nothing of it."""
        self.previous = _derived(previous, b"fingerprint").hex() if previous else None
        """The fingerprint of the key whose successor it is."""
        self.recipients = tuple(sorted(set(recipients)))
        """What the key is wrapped to, as the caller named them; empty where it is not wrapped. Where this is not what
        `InitialData.recipients` says, it is time for a successor."""

    @classmethod
    def create(cls, recipients: Iterable[str], gnupg: Gnupg) -> tuple[Sealer, bytes]:
        """Return a new key, and its wrapped form for the caller to store.

        Raises SecretsError where no recipient can be wrapped to, or this machine could not open it again.
        """
        sealer = cls(secrets.token_bytes(_SIZE), recipients, gnupg)
        return sealer, sealer.rewrap(sealer.recipients)

    @classmethod
    def unwrap(cls, wrapped: bytes, gnupg: Gnupg) -> Sealer:
        """Unwrap the key that `create` or `rewrap` returned.

        Raises SecretsError where its recipient's secret key is not here any more, and where it is damaged.
        """
        form, recipients, body = _parted(wrapped)
        key = _unwrapped(form, body, recipients, gnupg)
        if len(key) not in (_SIZE, 3 * _SIZE):
            raise SecretsError(_DAMAGED)
        return cls(key, recipients, gnupg)

    def rewrap(self, recipients: Iterable[str]) -> bytes:
        """Return the same key wrapped to other recipients, for the caller to store instead.

        Of several recipients those are taken that this machine has public keys of; at least one has to be its own.
        Raises SecretsError otherwise, and then the old form stays good.
        """
        names = sorted(set(recipients))
        pgp = [name for name in names if not age.is_recipient(name)]
        form, body = "none", self._key
        if pgp:
            reasons = {name: self._gnupg.unusable(name) for name in pgp}
            usable = [name for name, reason in reasons.items() if reason is None]
            if not usable:
                why = "; ".join(filter(None, reasons.values()))
                raise SecretsError(f"the sealed store's key cannot be wrapped: {why}")
            form, body = "gpg", self._gnupg.encrypt(self._key, usable, armor=False)
        elif names:
            form, body = "age", age.encrypt(self._key, names)
        if _unwrapped(form, body, names, self._gnupg) != self._key:
            raise SecretsError("the sealed store's key does not survive being wrapped: nothing was changed")
        self.recipients = tuple(names)
        return json.dumps({"form": form, "recipients": names}).encode() + b"\n" + body

    def successor(self, recipients: Iterable[str]) -> tuple[Sealer, bytes]:
        """Return a new key to take the place of this one, and its wrapped form. Raises SecretsError like `create`."""
        made = Sealer(secrets.token_bytes(_SIZE) + self._digests + self._key[:_SIZE], recipients, self._gnupg)
        return made, made.rewrap(made.recipients)

    def become(self, other: Sealer) -> None:
        """Use another key from now on, wherever this object is in use."""
        self._use(other._key, other.recipients)

    def seal(self, plain: bytes, aad: str) -> bytes:
        """Seal bytes; they open only with the same `aad`, which names their place (table, row, column)."""
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, aad.encode())

    def open(self, blob: bytes, aad: str) -> bytes:
        """Open what `seal` returned. Raises SecretsError if it was altered, moved, or sealed with another key."""
        from cryptography.exceptions import InvalidTag

        for cipher in (self._cipher, self._previous):
            with suppress(InvalidTag, ValueError):
                if cipher is not None:
                    return cipher.decrypt(blob[:_NONCE], blob[_NONCE:], aad.encode())
        raise SecretsError(
            "a sealed value does not open: it was altered, moved, or sealed with another key; connect again "
            "(`reconcile oauth connect`) or start the grant afresh (`reconcile retry`)"
        )

    def digest(self, data: bytes) -> str:
        """Return a keyed digest in hex, which reveals nothing about the data without the key."""
        return hmac.new(self._digests, data, hashlib.sha256).hexdigest()

    def mac(self, data: bytes) -> str:
        """Return a code in hex that only who has the key can make."""
        return hmac.new(self._macs, data, hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "Sealer(***)"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Sealer cannot be pickled")


def in_the_clear(wrapped: bytes) -> bool:
    """Whether a key as it is stored is not wrapped; False if it is damaged."""
    with suppress(SecretsError):
        return _parted(wrapped)[0] == "none"
    return False


def wrapped_to(wrapped: bytes, gnupg: Gnupg) -> list[str]:
    """Return the keys that open a key as it is stored, by the names that initial data's files have of theirs.

    Raises SecretsError if it is damaged.
    """
    form, recipients, body = _parted(wrapped)
    return gnupg.recipients(body) if form == "gpg" else recipients


def _parted(wrapped: bytes) -> tuple[str, list[str], bytes]:
    """Return the form of a key as it is stored, its recipients, and its bytes. Raises SecretsError."""
    head, _, body = wrapped.partition(b"\n")
    try:
        fields = json.loads(head)
        return str(fields["form"]), [str(name) for name in fields["recipients"]], body
    except (ValueError, TypeError, KeyError):
        raise SecretsError(_DAMAGED) from None


def _derived(key: bytes, use: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), _SIZE, salt=None, info=b"reconciler " + use).derive(key)


def _unwrapped(form: str, body: bytes, recipients: list[str], gnupg: Gnupg) -> bytes:
    try:
        match form:
            case "none":
                return body
            case "gpg":
                return gnupg.decrypt(body, "(the sealed key)")
            case "age":
                return age.decrypt(body, recipients)
            case _:
                raise SecretsError("it is of a form that this version does not know")
    except SecretsError as error:
        raise SecretsError(
            f"the sealed store's key does not open: {error}. Bring back the secret key that it was wrapped to; where "
            "that is lost, docs/security.md says how to go on without what was sealed"
        ) from None
