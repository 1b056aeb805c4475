"""Encrypt a SOPS file to other keys, and with a new data key, by the `sops` program.

Only for files with OpenPGP and age keys: for others, a key service would have to be asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from reconciler.model.errors import SecretsError
from reconciler.secrets import age, sops
from reconciler.secrets.gpg import Gnupg
from reconciler.secrets.sops_keys import recipients as recipients_of

__all__ = ["rekeyed"]


def rekeyed(raw: bytes, recipients: list[str], *, json: bool, gnupg: Gnupg) -> bytes:
    """Return the file encrypted to exactly these keys. Raises SecretsError."""
    info = sops.metadata(raw, json=json)
    if sops.hosts(raw, json=json) or info.get("key_groups"):
        raise SecretsError("it has keys of a key service, or groups of keys: change them with `sops updatekeys`")
    program = shutil.which("sops")
    if program is None:
        raise SecretsError("that needs the `sops` program, which is not installed here")
    gnupg.refuse_checkout()
    before = set(recipients_of(info))
    wanted = {key if age.is_recipient(key) else gnupg.fingerprint(key) for key in recipients}
    changes = [("add", key) for key in sorted(wanted - before)] + [("rm", key) for key in sorted(before - wanted)]
    options = [word for how, key in changes for word in (f"--{how}-{'age' if age.is_recipient(key) else 'pgp'}", key)]
    environment = dict(os.environ) if gnupg.home is None else {**os.environ, "GNUPGHOME": gnupg.home}
    with tempfile.TemporaryDirectory(prefix="reconciler-") as folder:  # it holds what is encrypted, and no .sops.yaml
        file = Path(folder, f"file.{'json' if json else 'yaml'}")
        file.write_bytes(raw)
        try:
            done = subprocess.run(  # noqa: S603  no shell; keys stand behind options
                [program, "rotate", "--in-place", *options, str(file)],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                timeout=sops.TIMEOUT_SECONDS,
                check=False,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise SecretsError(f"the `sops` program did not answer in {sops.TIMEOUT_SECONDS:.0f} seconds") from None
        except OSError as error:
            raise SecretsError(f"the `sops` program does not start: {error.strerror}") from None
        if done.returncode:
            raise SecretsError(f"the `sops` program refuses it (exit code {done.returncode}): run `sops rotate` on it")
        return file.read_bytes()
