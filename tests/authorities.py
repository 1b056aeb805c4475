"""A timestamp authority on loopback: OpenSSL's, with a root, an authority between, and a signer of this run."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.servers import Received, Reply, Service

CONFIG = """
[tsa]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
certs = {folder}/between.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
"""

Key = ec.EllipticCurvePrivateKey


class Authority(Service):
    """Answers as RFC 3161 has it, with its whole chain but the root, which is the file `root`."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        folder.mkdir()
        self.folder = folder
        self.digests = "sha256"
        self.root = folder / "root.pem"
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        names = ("root", "between", "signer")
        for place, name in enumerate(names):
            above = max(place - 1, 0)
            certificate = _certificate((name, keys[place]), (names[above], keys[above]), ca=name != "signer")
            (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / "signer.key").write_bytes(keys[-1].private_bytes(*private))
        super().__init__()
        self.route("POST", "/", self.stamp)

    def verifies(self, token: Path, data: Path) -> bool:
        """Whether OpenSSL takes a token for a timestamp of a file."""
        command = ["openssl", "ts", "-verify", "-in", str(token), "-data", str(data), "-CAfile", str(self.root)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def answer(self, query: bytes) -> bytes:
        """What it answers to a query."""
        (self.folder / "query").write_bytes(query)
        (self.folder / "config").write_text(CONFIG.format(folder=self.folder, digests=self.digests))
        command = ["openssl", "ts", "-reply", "-queryfile", "query", "-config", "config", "-section", "tsa"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, check=True).stdout

    def stamp(self, received: Received) -> Reply:
        assert received.headers["Content-Type"] == "application/timestamp-query"
        return Reply(200, self.answer(received.body), {"Content-Type": "application/timestamp-reply"})


def _certificate(whose: tuple[str, Key], by: tuple[str, Key], *, ca: bool) -> x509.Certificate:
    name, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each[0])]) for each in (whose, by))
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(whose[1].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        made = made.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
    return made.sign(by[1], hashes.SHA256())
