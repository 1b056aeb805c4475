"""Signed notes, as C2SP's signed-note and tlog-checkpoint define them, with Ed25519.

A note is a text and, after an empty line, its signatures. Keys are text, too: `PRIVATE+KEY+name+id+…` signs, and
`name+id+…` is what others verify with.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from reconciler.model.errors import SecretsError
from reconciler.model.secret import Secret
from reconciler.model.value import Frozen

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Checkpoint", "SigningKey", "VerifyingKey"]

_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+]+")
_PRIVATE = "PRIVATE+KEY+"


class VerifyingKey(Frozen):
    """What others verify with."""

    name: str
    id: bytes
    key: Ed25519PublicKey

    @classmethod
    def of(cls, text: str) -> VerifyingKey:
        """Read a key. Raises SecretsError."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        name, _, rest = text.strip().partition("+")
        number, _, body = rest.partition("+")
        raw = _decoded(body)
        if not _NAME.fullmatch(name) or len(raw) != 33 or raw[:1] != _ED25519 or number != _id(name, raw).hex():
            raise SecretsError("it is no key to verify with: `reconcile history checkpoint --public-key` prints one")
        return cls(name, _id(name, raw), Ed25519PublicKey.from_public_bytes(raw[1:]))

    def verifies(self, text: str, signatures: str) -> bool:
        """Whether one of a note's signatures is this key's, of its text."""
        from cryptography.exceptions import InvalidSignature

        for line in signatures.splitlines():
            sign, _, rest = line.partition(" ")
            name, _, body = rest.partition(" ")
            raw = _decoded(body)
            if (sign, name, raw[:4]) != ("—", self.name, self.id):
                continue
            try:
                self.key.verify(raw[4:], text.encode())
            except InvalidSignature:
                continue
            return True
        return False


class SigningKey:
    """What notes are signed with. It never shows itself."""

    def __init__(self, text: Secret) -> None:
        """Raises SecretsError if it is none."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        name, _, rest = text.reveal().strip().removeprefix(_PRIVATE).partition("+")
        number, _, body = rest.partition("+")
        raw = _decoded(body)
        private = len(raw) == 33 and raw[:1] == _ED25519 and text.reveal().strip().startswith(_PRIVATE)
        if private and _NAME.fullmatch(name):
            self._key = Ed25519PrivateKey.from_private_bytes(raw[1:])
            public = _ED25519 + self._key.public_key().public_bytes_raw()
            if number == _id(name, public).hex():
                self._name, self._id, self._public = name, _id(name, public), public
                return
        raise SecretsError("CHECKPOINT_KEY is no key to sign with: `reconcile history checkpoint --new-key` makes one")

    @classmethod
    def new(cls, name: str) -> Secret:
        """Make a key of this name."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        key = Ed25519PrivateKey.generate()
        number = _id(name, _ED25519 + key.public_key().public_bytes_raw()).hex()
        return Secret(f"{_PRIVATE}{name}+{number}+{_encoded(_ED25519 + key.private_bytes_raw())}")

    @property
    def public(self) -> str:
        """The key that others verify with."""
        return f"{self._name}+{self._id.hex()}+{_encoded(self._public)}"

    def sign(self, text: str) -> str:
        """Return the note of a text, which ends with a line break."""
        return f"{text}\n— {self._name} {_encoded(self._id + self._key.sign(text.encode()))}\n"

    def __repr__(self) -> str:
        return "SigningKey(***)"


class Checkpoint(Frozen):
    """What a checkpoint says: of which log it is, how many lines it covers, and the root of the tree over them."""

    origin: str
    lines: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.lines}\n{_encoded(self.root)}\n"

    @classmethod
    def of(cls, note: str, key: VerifyingKey) -> Checkpoint:
        """Read a note, and verify its signature. Raises SecretsError."""
        text, separator, signatures = note.rpartition("\n\n")
        if not separator or not key.verifies(text + "\n", signatures):
            raise SecretsError(f"the checkpoint is not signed by {key.name}+{key.id.hex()}, or it was changed")
        origin, number, root, *_ = (*text.splitlines(), "", "")
        if not number.isdecimal() or len(_decoded(root)) != 32:
            raise SecretsError("the checkpoint has no number of lines, or no root")
        return cls(origin, int(number), _decoded(root))


def _id(name: str, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
