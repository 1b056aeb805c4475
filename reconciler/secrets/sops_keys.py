"""Decrypt the data key of a SOPS file: with any one key of its group, or shares of enough groups.

GnuPG decrypts for PGP keys, this machine's identities for age keys. Keys of other kinds (KMS, Vault, SSH, plugins)
raise `Unsupported` if no other key opens the file: the `sops` program may support them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.errors import SecretsError
from reconciler.secrets import age
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.shamir import combine

__all__ = ["Unsupported", "data_key", "recipients"]

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
