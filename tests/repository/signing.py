"""People who sign commits, with real keys: OpenPGP ones in GnuPG homes under /tmp, SSH ones in files."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repo import GnupgHome, Repo


class PgpSigner:
    """A person with an OpenPGP key in a home of their own."""

    def __init__(self, name: str, home: GnupgHome | None = None) -> None:
        self.name = name
        self.home = home or GnupgHome()
        self.config = ["-c", f"user.signingkey={self.home.fingerprint}", "-c", "gpg.format=openpgp"]
        self.environment = {"GNUPGHOME": self.home.path}

    def public_key(self) -> bytes:
        return self.home._gpg("--export")

    def gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        return self.home._gpg(*arguments, given=given)

    def trust(self, other: PgpSigner, level: int = 4) -> None:
        """Take another's key in, and certify it where `level` is full."""
        self.home._gpg("--import", given=other.public_key())
        if level == 4:
            self.home._gpg("--quick-lsign-key", other.home.fingerprint)

    def close(self) -> None:
        self.home.close()


@dataclass
class SshSigner:
    """A person with an SSH key."""

    name: str
    key: Path

    @classmethod
    def make(cls, name: str) -> SshSigner:
        if shutil.which("ssh-keygen") is None:
            pytest.skip("ssh-keygen is not installed (Debian: openssh-client)")
        folder = Path(tempfile.mkdtemp(prefix="s-"))
        made = cls(name, folder / "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", made.key], check=True)
        return made

    @property
    def config(self) -> list[str]:
        return ["-c", f"user.signingkey={self.key}.pub", "-c", "gpg.format=ssh"]

    @property
    def environment(self) -> dict[str, str]:
        return {}

    def allowed(self, options: str = "") -> str:
        """The line of an allowed signers file."""
        return f"{self.name.lower()}@example.com {options} {self.key.with_suffix('.pub').read_text()}"

    def close(self) -> None:
        shutil.rmtree(self.key.parent)


Signer = PgpSigner | SshSigner


def signed(repo: Repo, by: Signer, message: str = "signed", *arguments: str) -> str:
    """Commit everything, signed; `arguments` in place of the commit's own make a merge, say."""
    command = list(arguments) or ["commit", "--quiet", "--allow-empty"]
    repo.git("add", "--all")
    environment = {**repo.environment(), **by.environment}
    identity = ["-c", f"user.name={by.name}", "-c", f"user.email={by.name.lower()}@example.com"]
    done = subprocess.run(
        ["git", *identity, *by.config, *command, "--gpg-sign", "--message", message],
        cwd=repo.root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return repo.git("rev-parse", "HEAD")


def unsigned(repo: Repo, message: str = "unsigned") -> str:
    repo.git("-c", "user.name=Eve", "-c", "user.email=eve@example.com", "commit", "-q", "--allow-empty", "-m", message)
    return repo.git("rev-parse", "HEAD")
