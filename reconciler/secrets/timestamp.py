"""Timestamps by somebody else, as RFC 3161 defines them: what an authority is asked, and which answers count.

An answer counts if it was granted, is of these bytes, answers this question and no earlier one, and was signed for
timestamps under a certificate that is trusted. The time is the authority's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.errors import TimestampError
from reconciler.model.value import Frozen

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["Question", "Timestamp", "trusted", "verified"]

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
