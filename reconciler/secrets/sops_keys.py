"""Decrypt the data key of a SOPS file, with any one of its keys.

GnuPG decrypts for PGP keys, this machine's identities for age keys. Keys of other kinds (KMS, Vault, SSH, plugins)
raise `Unsupported` if no other key opens the file, and so do groups of keys of which several are needed: the `sops`
program may support them. It sends the machine's own
credentials to a key service (a Vault token, for example), so a file may only name one that the settings allow. Files
that the program would read differently are refused: Go accepts keys of JSON in any case, and YAML's `<<` as a merge.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.errors import SecretsError
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg

__all__ = ["Unsupported", "data_key", "key_services", "recipients"]

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

    Raises SecretsError with every key that was tried and why it did not open, Unsupported where a key of another kind,
    or the `sops` program, might.
    """
    if metadata.get("key_groups"):
        raise Unsupported("groups of keys")
    reasons: list[str] = []
    for kind in _KINDS:
        for name, encrypted in _entries(metadata, kind):
            try:
                raw = encrypted.encode()
                return age.decrypt(raw, [name]) if kind == "age" else gnupg.decrypt(raw)
            except SecretsError as error:
                reasons.append(f"{kind} {name}: {error}")
    raise _locked(metadata, reasons)


def _groups(metadata: Mapping[str, Any]) -> list[_Group]:
    """Return the `sops` part itself, which is a group of keys, and those that it holds. Raises SecretsError."""
    groups = metadata.get("key_groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, Mapping) for group in groups):
        raise SecretsError(f"its key_groups are not a list of groups: {_MEND}")
    return [metadata, *groups]


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


def _locked(metadata: _Group, reasons: list[str]) -> Exception:
    foreign = {kind for kind, keys in metadata.items() if kind not in _KINDS and isinstance(keys, list) and keys}
    named = [name for name, _ in _entries(metadata, "age")]
    foreign |= {"age " + name.partition(" ")[0] for name in named if not age.is_recipient(name)}
    if named and "SOPS_AGE_KEY_CMD" in os.environ:
        foreign.add("SOPS_AGE_KEY_CMD")
    if foreign:
        return Unsupported("keys that are neither PGP's nor plain age's (" + ", ".join(sorted(foreign)) + ")")
    return SecretsError("; ".join(reasons) or "it names no keys: encrypt it anew")


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
    return sorted({url for group in _groups(info) for url in _of(group)})


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
