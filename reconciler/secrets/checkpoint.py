"""What proves a checkpoint of the history: a signed note, and a timestamp by somebody else.

Signed notes are as C2SP's signed-note and tlog-checkpoint define them, with Ed25519: a text and, after an empty line,
its signatures. Keys are text, too: `PRIVATE+KEY+name+id+…` signs, and `name+id+…` is what others verify with.

Timestamps are as RFC 3161 defines them. An answer counts if it was granted, is of these bytes, answers this question
and no earlier one, and was signed for timestamps under a certificate that is trusted. The time is the authority's word.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from reconciler.model.errors import SecretsError, TimestampError
from reconciler.model.secret import Secret
from reconciler.model.value import Frozen

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

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
        name, number, raw = _parted(text.strip())
        if not raw or number != _id(name, raw).hex():
            raise SecretsError("it is no key to verify with: `reconcile history checkpoint --public-key` prints one")
        return cls(name, _id(name, raw), Ed25519PublicKey.from_public_bytes(raw[1:]))

    def verifies(self, text: str, signatures: str) -> bool:
        """Whether one of a note's signatures is this key's, of its text."""
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
        private = text.reveal().strip()
        name, number, raw = _parted(private.removeprefix(_PRIVATE))
        if raw and private.startswith(_PRIVATE):
            self._key = Ed25519PrivateKey.from_private_bytes(raw[1:])
            public = _ED25519 + self._key.public_key().public_bytes_raw()
            if number == _id(name, public).hex():
                self._name, self._id, self._public = name, _id(name, public), public
                return
        raise SecretsError("CHECKPOINT_KEY is no key to sign with: `reconcile history checkpoint --new-key` makes one")

    @classmethod
    def new(cls, name: str) -> Secret:
        """Make a key of this name."""
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


def _parted(key: str) -> tuple[str, str, bytes]:
    """Return the name of a key, its id, and what it is of, with the kind before; nothing if that is no key."""
    name, _, rest = key.partition("+")
    number, _, body = rest.partition("+")
    raw = _decoded(body)
    return name, number, raw if _NAME.fullmatch(name) and len(raw) == 33 and raw[:1] == _ED25519 else b""


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


# --- timestamps -------------------------------------------------------------------------------------------------------

_CERTIFICATES = 0xA0
"""The tag of a signature's certificates."""


class Question(Frozen):
    """What an authority is asked: `content` is an `application/timestamp-query`."""

    content: bytes
    nonce: int

    @classmethod
    def about(cls, data: bytes) -> Question:
        """Ask when these bytes were there."""
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

        request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
        assert request.nonce is not None
        return cls(request.as_bytes(), request.nonce)


class Timestamp(Frozen):
    """An answer that counts: the bytes to keep, and when the authority saw what it was asked about."""

    token: bytes
    at: datetime


def verified(answer: bytes, data: bytes, authorities: bytes, nonce: int | None = None) -> Timestamp:
    """Return what an answer says of these bytes, by the certificates of trusted authorities, in PEM.

    Raises TimestampError if it does not count. A kept one is verified without the `nonce` of its question.
    """
    from rfc3161_client import PKIStatus, VerificationError, VerifierBuilder, decode_timestamp_response

    roots = trusted(authorities)
    try:
        token = _in_order(answer)
        read = decode_timestamp_response(token)
        if read.status != PKIStatus.GRANTED:
            said = ", ".join(read.status_string) or f"status {read.status}"
            raise TimestampError(f"the authority refused: {said}")
        VerifierBuilder(roots=roots, nonce=nonce).build().verify_message(read, data)
        return Timestamp(token, read.tst_info.gen_time)
    except VerificationError as error:
        # What OpenSSL says of a signature is not for people.
        unsigned = isinstance(error.__context__, ValueError)
        why = "it is signed under none of the trusted certificates, or was changed" if unsigned else str(error)
        raise TimestampError(f"the answer does not count: {why}") from None
    except (ValueError, IndexError) as error:
        raise TimestampError(f"the answer is no timestamp: {error}") from None


def trusted(authorities: bytes) -> list[Certificate]:
    """Read certificates. Raises TimestampError if there are none."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(authorities)
    except ValueError:
        raise TimestampError("no certificates in PEM, which begin with -----BEGIN CERTIFICATE-----") from None


class _Element(NamedTuple):
    """An element in DER: its tag, where it begins, where its content does, and where it ends."""

    tag: int
    start: int
    content: int
    end: int


def _in_order(answer: bytes) -> bytes:
    """Return an answer with its certificates in the order that DER demands, and OpenSSL's authority does not keep.

    The library reads strict DER alone. The certificates are in no signature, so their order proves nothing.
    """
    (whole,) = _elements(answer, 0, len(answer))
    _, *token = _elements(answer, whole.content, whole.end)
    if not token:
        return answer
    _, explicit = _elements(answer, token[0].content, token[0].end)
    (signed,) = _elements(answer, explicit.content, explicit.end)
    for part in _elements(answer, signed.content, signed.end):
        if part.tag == _CERTIFICATES:
            ordered = sorted(answer[each.start : each.end] for each in _elements(answer, part.content, part.end))
            return answer[: part.content] + b"".join(ordered) + answer[part.end :]
    return answer


def _elements(der: bytes, at: int, end: int) -> Iterator[_Element]:
    while at < end:
        start, size, at = at, der[at + 1], at + 2
        if size & 0x80:
            size, at = int.from_bytes(der[at : at + (size & 0x7F)], "big"), at + (size & 0x7F)
        yield _Element(der[start], start, at, at + size)
        at += size
