"""The ready manifests of Active Directory against a real domain controller, Samba's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

pytest.importorskip("ldap", reason="no python-ldap: pip install -r requirements-ldap.lock, see .ci/run")

from tests.certificates import self_signed
from tests.gallery.live import passed, taken
from tests.repo import Repo, call_cli
from tests.servers import PATIENCE, eventually, listens

SERVER = shutil.which("samba", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PROVISION = shutil.which("samba-tool")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a domain controller: its ports are fixed"),
    pytest.mark.skipif(not (SERVER and PROVISION), reason="no Samba: apt-get install samba-ad-dc samba-ad-provision"),
]

HOST = "127.0.0.77"  # the ports are fixed, so that it has an address of its own
BASE = "DC=corp,DC=example"
STAFF = f"OU=Staff,{BASE}"
GROUP = rf"CN=Design & Co\, Ltd,CN=Users,{BASE}"
PASSWORD = "Passw0rd.invented"
"""That of `Administrator`."""

DISABLED, ENABLED = [b"514"], [b"512"]


class Domain:
    """A domain controller whose domain has `OU=Staff` and a group."""

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
        certificate = self_signed(self.folder, HOST)
        certificate.chmod(0o600)  # the key is in it
        self.authority = certificate
        network = ["--option=bind interfaces only=yes", f"--option=interfaces={HOST}/8"]
        provision = [
            *(str(PROVISION), "domain", "provision", f"--targetdir={self.folder}", "--realm=CORP.EXAMPLE"),
            *("--domain=CORP", "--server-role=dc", "--dns-backend=NONE", f"--adminpass={PASSWORD}", *network),
        ]
        subprocess.run(provision, check=True, capture_output=True, timeout=PATIENCE)
        tls = (f"--option=tls {what}={certificate}" for what in ("certfile", "keyfile", "cafile"))
        settings = self.folder / "etc" / "smb.conf"
        serve = [str(SERVER), "-F", "--no-process-group", "-M", "single", "-s", str(settings), *tls]
        self._server = subprocess.Popen([*serve, "--option=server services=ldap"])
        eventually(lambda: listens(self._server, HOST, 636))
        connection = self.connected()
        connection.add_s(STAFF, [("objectClass", [b"organizationalUnit"])])
        connection.add_s(GROUP, [("objectClass", [b"group"]), ("sAMAccountName", [b"design"])])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connected(self) -> Any:
        """A connection of the administrator's, by the library itself."""
        import ldap

        made = ldap.initialize(f"ldaps://{HOST}")
        made.set_option(ldap.OPT_X_TLS_CACERTFILE, str(self.authority))
        made.set_option(ldap.OPT_REFERRALS, 0)
        made.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        made.simple_bind_s("Administrator@corp.example", PASSWORD)
        return made

    def entry(self, name: str) -> dict[str, list[bytes]]:
        """The entry with a logon name, its attributes and its DN."""
        import ldap

        found = self.connected().search_s(BASE, ldap.SCOPE_SUBTREE, f"(sAMAccountName={name})")
        [(dn, values)] = (each for each in found if each[0])  # the others are referrals
        return {**values, "dn": [dn.encode()]}


@pytest.fixture
def domain() -> Iterator[Domain]:
    with Domain() as running:
        yield running


def test_active_directory(repo: Repo, domain: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(domain.authority))
    repo.settings(prune="revoke")
    manifests = ("active-directory", "active-directory-group")
    taken(repo, *manifests, host="ad.example.com", url=f"ldaps://{HOST}", scheme="ldaps")
    signed_in = {"BIND_DN": "Administrator@corp.example", "BIND_PASSWORD": PASSWORD}
    repo.initial_data("active-directory", {"BASE": BASE, "PEOPLE": STAFF, **signed_in})
    in_group = {"integration": "active-directory-group", "values": {"GROUP": GROUP}, "needs": ["active-directory"]}
    access, there = ("active-directory", in_group), dict.fromkeys(manifests, "present")

    repo.hire("ada", *access, extra={"AD_LOGIN": "ada"})
    assert passed(repo) == there
    made = domain.entry("ada")
    assert (made["mail"], made["userAccountControl"], made["pwdLastSet"]) == ([b"ada@example.com"], ENABLED, [b"0"])
    assert domain.entry("design")["member"] == made["dn"]
    choices = call_cli(repo, "options", "active-directory-group", "GROUP", "--output", "json").json
    assert {"value": domain.entry("design")["dn"][0].decode(), "name": "Design & Co, Ltd"} in choices

    repo.hire("ada", *access, extra={"AD_LOGIN": "ada"}, last_name="King")
    domain.connected().rename_s(made["dn"][0].decode(), "CN=King (Ada)", f"CN=Users,{BASE}")
    assert passed(repo) == there
    assert domain.entry("ada")["displayName"] == [b"Ada King"]

    assert call_cli(repo, "lock", "ada", "--reason", "a lost laptop").code == 0
    assert domain.entry("ada")["userAccountControl"] == DISABLED
    assert "member" not in domain.entry("design")
    assert call_cli(repo, "unlock", "ada").code == 0
    assert domain.entry("ada")["userAccountControl"] == ENABLED

    known = call_cli(repo, "unmanaged", "--integration", "active-directory", "--output", "json").json
    assert {"Administrator", "krbtgt"} <= {account["account"] for account in known["accounts"]}
    assert [(each["complete"], each["matched"]) for each in known["integrations"]] == [(True, 1)]
    repo.remove("hires/ada.yaml")
    repo.write("hires/README.md", "Nobody works here.")
    assert passed(repo) == dict.fromkeys(manifests, "revoked")
    assert domain.entry("ada")["userAccountControl"] == DISABLED
    assert "member" not in domain.entry("design")
