"""Decrypt the data key of a SOPS file: with any one key of its group, or shares of enough groups.

GnuPG decrypts for PGP keys, this machine's identities for age keys. Keys of other kinds (KMS, Vault, SSH, plugins)
raise `Unsupported` if no other key opens the file: the `sops` program may support them. It sends the machine's own
credentials to a key service (a Vault token, for example), so a file may only name one that the settings allow. Files
that the program would read differently are refused: Go accepts keys of JSON in any case, and YAML's `<<` as a merge.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.model.errors import SecretsError
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg

_KINDS = {"age": "recipient", "pgp": "fp"}
"""The kinds of keys that are read here, in the order in which SOPS tries them, and what names one."""

_Group = Mapping[str, Any]


class Unsupported(Exception):
    """The file uses something that this reader does not support; the text names it."""


def recipients(metadata: Mapping[str, Any]) -> list[str]:
    """Return the PGP fingerprints and age recipients that a file's `sops` part names, unauthenticated."""
    groups = _groups(metadata)
    pgp = {name for group in groups for name, _ in _entries(group, "pgp")}
    return sorted(pgp | {name for group in groups for name, _ in _entries(group, "age") if age.is_recipient(name)})


def data_key(metadata: Mapping[str, Any], gnupg: Gnupg) -> bytes:
    """Return the key that the file's values are encrypted with.

    Raises SecretsError with every key that was tried and why it did not open, Unsupported where a key of another kind
    might.
    """
    groups = _groups(metadata)
    reasons: list[str] = []
    parts = [part for group in groups if (part := _part(group, gnupg, reasons)) is not None]
    if len(groups) == 1:
        if not parts:
            raise _locked(groups, "", reasons)
        return parts[0]
    threshold = metadata.get("shamir_threshold") or len(groups)
    if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 2:
        raise SecretsError("its shamir_threshold is not a number of groups: restore the file from git's history")
    if len(parts) < threshold:
        raise _locked(groups, f"{len(parts)} of {len(groups)} key groups open, and {threshold} are needed: ", reasons)
    try:
        return combine(parts)
    except ValueError:
        raise SecretsError("its key groups do not fit together: restore the file from git's history") from None


def _groups(metadata: Mapping[str, Any]) -> list[_Group]:
    """Return the file's key groups; keys in the `sops` part itself are the only group."""
    groups = metadata.get("key_groups")
    if not groups or _foreign(metadata) or any(metadata.get(kind) for kind in _KINDS):
        return [metadata]
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        raise SecretsError("its key_groups are not a list of groups: restore the file from git's history")
    return groups


def _entries(group: _Group, kind: str) -> Iterator[tuple[str, str]]:
    """Yield each key of a kind: its name, and the data key encrypted to it."""
    entries = group.get(kind) or []
    for entry in entries if isinstance(entries, list) else [None]:
        name, encrypted = (entry.get(_KINDS[kind]), entry.get("enc")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(encrypted, str):
            raise SecretsError(
                f"a key under its {kind} lacks {_KINDS[kind]} or enc: restore the file from git's history"
            )
        yield name, encrypted


def _part(group: _Group, gnupg: Gnupg, reasons: list[str]) -> bytes | None:
    """Decrypt with any key of the group; None if none can, with a reason added for each."""
    for kind in _KINDS:
        for name, encrypted in _entries(group, kind):
            try:
                raw = encrypted.encode()
                return age.decrypt(raw, [name]) if kind == "age" else gnupg.decrypt(raw)
            except SecretsError as error:
                reasons.append(f"{kind} {name}: {error}")
    return None


def _locked(groups: list[_Group], lead: str, reasons: list[str]) -> Exception:
    foreign = {kind for group in groups for kind in _foreign(group)}
    named = [name for group in groups for name, _ in _entries(group, "age")]
    foreign |= {"age " + name.partition(" ")[0] for name in named if not age.is_recipient(name)}
    if named and "SOPS_AGE_KEY_CMD" in os.environ:
        foreign.add("SOPS_AGE_KEY_CMD")
    if foreign:
        return Unsupported("keys that are neither PGP's nor plain age's (" + ", ".join(sorted(foreign)) + ")")
    return SecretsError(f"{lead}{'; '.join(reasons)}" if reasons else "it names no keys: encrypt it anew")


def _foreign(group: _Group) -> list[str]:
    """Return the kinds of a group's keys that this reader does not support."""
    known = {*_KINDS, "key_groups"}
    return [kind for kind, entries in group.items() if kind not in known and isinstance(entries, list) and entries]


# Shamir's secret sharing, as SOPS has it: bytes in GF(2^8), each share's last byte its x. Only the data key's parts
# pass through here, once a file, so it is written to be read, not to be fast.


def combine(shares: Sequence[bytes]) -> bytes:
    """Return the secret of these shares. Too few or foreign ones give other bytes.

    Raises ValueError where they cannot be shares of one secret.
    """
    places = [share[-1] for share in shares if len(share) > 1]
    if len(places) < 2 or len(set(places)) < len(shares) or len({len(share) for share in shares}) > 1 or 0 in places:
        raise ValueError("these are not shares of one secret")
    weights = [_weight(place, places) for place in places]
    secret = bytearray(len(shares[0]) - 1)
    for share, weight in zip(shares, weights, strict=True):
        for index in range(len(secret)):
            secret[index] ^= _times(share[index], weight)
    return bytes(secret)


def _weight(place: int, places: Sequence[int]) -> int:
    """Return Lagrange's coefficient of this place at zero; in this field, adding and subtracting are both xor."""
    weight = 1
    for other in places:
        if other != place:
            weight = _times(weight, _times(other, _inverse(other ^ place)))
    return weight


def _times(one: int, other: int) -> int:
    product = 0
    while other:
        if other & 1:
            product ^= one
        one <<= 1
        if one & 0x100:
            one ^= 0x11B
        other >>= 1
    return product


def _inverse(value: int) -> int:
    """Return value^254: the field's non-zero elements are a group of order 255."""
    power = 1
    for _ in range(254):
        power = _times(power, value)
    return power


_HERE = frozenset({"age", "pgp"})
"""Kinds of keys that this machine opens by itself; an age plugin is one that its own identities name."""

_KEY = re.compile(r"[a-z0-9_]+")
_AWS = re.compile(r"arn:(aws|aws-us-gov|aws-cn):kms:([a-z0-9-]+):[0-9]+:(?:key|alias)/[A-Za-z0-9/_-]+")
_DOMAINS = {"aws": "amazonaws.com", "aws-us-gov": "amazonaws.com", "aws-cn": "amazonaws.com.cn"}
_MEND = "encrypt it to PGP or age keys, or restore it from git's history"


def key_services(data: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the key services that a SOPS file names, sorted.

    Raises SecretsError where it names one of a kind whose address is not known here, or in a way that can be misread.
    """
    for name in data:
        if name != "sops" and str(name).casefold() == "sops":
            raise SecretsError(f"it has a second `sops` part, spelled {name!r}: {_MEND}")
    info = data["sops"]
    _refuse_misspelled(info)
    groups = info.get("key_groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        raise SecretsError(f"its key_groups are not a list of groups: {_MEND}")
    return sorted({url for group in (info, *groups) for url in _of(group)})


def _refuse_misspelled(part: Any) -> None:
    if isinstance(part, Mapping):
        for name, below in part.items():
            if not isinstance(name, str) or not _KEY.fullmatch(name):
                raise SecretsError(f"its `sops` part has a key that sops does not write, {name!r}: {_MEND}")
            if name != "context":  # of AWS, with names of the user's own
                _refuse_misspelled(below)
    elif isinstance(part, list):
        for item in part:
            _refuse_misspelled(item)


def _of(group: Mapping[str, Any]) -> Iterator[str]:
    for kind, entries in group.items():
        if kind in _HERE or kind == "key_groups" or not isinstance(entries, list):
            continue
        for entry in entries:
            found = _urls(kind, entry) if isinstance(entry, Mapping) else []
            if not found:
                raise SecretsError(f"it has a key under {kind}, and which host sops would ask for it cannot be told")
            yield from found


def _urls(kind: str, entry: Mapping[str, Any]) -> list[str]:
    """Return where a key of this kind is asked for; nothing if that is unknown."""
    match kind:
        case "hc_vault":
            return [str(entry["vault_address"])] if entry.get("vault_address") else []
        case "azure_kv":
            return [str(entry["vault_url"])] if entry.get("vault_url") else []
        case "gcp_kms":
            return ["https://cloudkms.googleapis.com"]
        case "kms":
            arn = _AWS.fullmatch(str(entry.get("arn")))
            services = ("kms", "sts") if entry.get("role") else ("kms",)
            return [] if arn is None else [f"https://{name}.{arn[2]}.{_DOMAINS[arn[1]]}" for name in services]
        case _:
            return []
