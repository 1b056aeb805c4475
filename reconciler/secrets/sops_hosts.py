"""The key services that the `sops` program would ask for a file's data key, according to the file.

The program sends the machine's own credentials there (a Vault token, for example), so a file may only name a service
that the settings allow. Files that the program would read differently are refused: Go accepts keys of JSON in any case,
and YAML's `<<` as a merge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.model.errors import SecretsError

__all__ = ["key_services"]

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
