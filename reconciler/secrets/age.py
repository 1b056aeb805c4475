"""Encrypt and decrypt with age, as far as SOPS and the sealed store need it.

Identities are looked for where SOPS looks: SOPS_AGE_KEY, SOPS_AGE_KEY_FILE, and sops/age/keys.txt in the user's
configuration. Those of plugins and those in encrypted files are not supported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.model.errors import SecretsError

if TYPE_CHECKING:
    from pyrage import x25519  # type: ignore[import-untyped]  # no types are published for it


def is_recipient(name: str) -> bool:
    """Whether this is a plain age key: no plugin's, no SSH key, no PGP key."""
    return name.startswith("age1") and name.count("1") == 1


def encrypt(raw: bytes, recipients: Iterable[str]) -> bytes:
    """Encrypt to these recipients. Raises SecretsError if one is invalid."""
    import pyrage
    from pyrage import x25519

    try:
        return bytes(pyrage.encrypt(raw, [x25519.Recipient.from_str(name) for name in recipients]))
    except (pyrage.RecipientError, pyrage.EncryptError):
        raise SecretsError("one of the age recipients is not valid: it is `age1` and 58 characters") from None


def decrypt(raw: bytes, recipients: Iterable[str]) -> bytes:
    """Decrypt an age file, binary or armored, with this machine's identity for one of the recipients.

    Raises SecretsError where there is no such identity, or it does not open the file.
    """
    wanted = set(recipients)
    mine = [identity for identity in _identities() if str(identity.to_public()) in wanted]
    if not mine:
        raise SecretsError(
            "no age identity here belongs to it: put it into SOPS_AGE_KEY, the file that SOPS_AGE_KEY_FILE names or "
            f"{_configured()}, or have it encrypted to this machine's key"
        )
    import pyrage

    try:
        return bytes(pyrage.decrypt(raw, mine))
    except pyrage.DecryptError:
        raise SecretsError("the age identity for it is here and does not open it: it was altered") from None


def _identities() -> Iterator[x25519.Identity]:
    import pyrage
    from pyrage import x25519

    texts = [os.environ.get("SOPS_AGE_KEY", "")]
    for place in (os.environ.get("SOPS_AGE_KEY_FILE"), _configured()):
        try:
            texts.append(Path(place).read_text(encoding="utf-8") if place else "")
        except (OSError, UnicodeDecodeError):
            continue  # where no identity is found, the message names the places
    for line in "\n".join(texts).splitlines():
        try:
            if line.startswith("AGE-SECRET-KEY-1"):
                yield x25519.Identity.from_str(line.strip())
        except pyrage.IdentityError:
            continue


def _configured() -> Path:
    default = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")
    return Path(os.environ.get("XDG_CONFIG_HOME") or default) / "sops" / "age" / "keys.txt"
