"""Values of SOPS files: their types, and the bytes that the MAC covers.

The MAC covers Go's format of each value: `True`, `1.5`, `100000`, never an exponent. An encrypted value has its type;
an unencrypted one has the type that Go's YAML reads, unlike in our own files, where numbers and dates stay the text
that was written. Where the two are hard to reconcile, `Unsupported` leaves the file to the `sops` program.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from reconciler.model.value import Frozen, Unshown
from reconciler.secrets.sops_keys import Unsupported

__all__ = ["Leaf", "counted", "leaves", "typed"]

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS = {word: name for name in ("true", "false") for word in (name, name.capitalize(), name.upper())}
_WHOLE = re.compile(r"[-+]?(0|[1-9]\d{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d{1,3})?|[-+]?\.\d+([eE][-+]?\d{1,3})?")
_DOUBTFUL = re.compile(
    r"[-+]?(0[xX][\da-fA-F_]+|0[oObB]?[\d_]+|\d[\d_]*(\.[\d_]*)?([eE][-+]?[\d_]+)?|\.(inf|Inf|INF))"
    r"|\.(nan|NaN|NAN)|\d{4}-\d\d?-\d\d?([Tt ].*)?"
)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Leaf(Frozen):
    """A value as it stands in the file: what it reads as, and its text where it is one.

    `plain` is YAML without quotes, which may be read as another type than text.
    """

    value: Unshown[Any]
    text: Unshown[str | None]
    plain: bool


def leaves(data: Any, node: Any) -> Any:
    """Return the structure with its values as `Leaf`; None stays None, because SOPS skips it.

    `node` is what a YAML value was made from, composed without resolvers; None for JSON.
    """
    if isinstance(data, dict):
        below = [value for _, value in node.value] if node else [None] * len(data)
        return {key: leaves(item, part) for (key, item), part in zip(data.items(), below, strict=True)}
    if isinstance(data, list):
        return [leaves(item, part) for item, part in zip(data, node.value if node else [None] * len(data), strict=True)]
    if node is None:
        return None if data is None else Leaf(data, data if isinstance(data, str) else None, plain=False)
    plain = node.style not in {"'", '"', "|", ">"}
    return None if plain and node.value in _NULLS else Leaf(data, node.value, plain)


def typed(plain: bytes, kind: str) -> tuple[Any, bytes]:
    """Return a decrypted value in its type, and the bytes that the MAC covers.

    Raises ValueError where it is not of that type, Unsupported for a type that is not known here.
    """
    text = plain.decode()
    match kind:
        case "str" | "bytes" | "time":
            return text, plain
        case "int" | "int64":
            return int(text), str(int(text)).encode()
        case "float":
            # SOPS calls every number in JSON a float: one without a fraction stays whole.
            return int(text) if text.lstrip("-").isdecimal() else float(text), _go_float(text)
        case "bool":
            truth = text in {"1", "t", "T", "true", "True", "TRUE"}
            return truth, str(truth).encode()
        case _:
            raise Unsupported(f"values of type {kind}")


def counted(leaf: Leaf) -> bytes:
    """Return the bytes that the MAC covers of an unencrypted value."""
    text = leaf.text
    if text is None:
        return str(leaf.value).encode() if isinstance(leaf.value, bool) else _go_float(leaf.value)
    if not leaf.plain or _INSTANT.fullmatch(text):
        return text.encode()
    if text in _TRUTHS:
        return _TRUTHS[text].capitalize().encode()
    if _WHOLE.fullmatch(text):
        return str(int(text)).encode()
    if _FLOAT.fullmatch(text):
        return _go_float(text)
    if _DOUBTFUL.fullmatch(text):
        raise Unsupported("an unencrypted value without quotes that may be a number or a date")
    return text.encode()


def _go_float(number: float | str) -> bytes:
    """Format a number in Go's shortest form without an exponent."""
    try:
        value = float(number)
    except OverflowError:
        raise Unsupported("a number beyond what a float holds") from None
    if not math.isfinite(value):
        return {"inf": b"+Inf", "-inf": b"-Inf"}.get(str(value), b"NaN")
    text = format(Decimal(repr(value)), "f")
    return (text.rstrip("0").rstrip(".") if "." in text else text).encode()
