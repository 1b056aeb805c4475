"""A real OpenLDAP server for tests, in a temporary folder, which listens on loopback; where the system has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Self

from tests.certificates import self_signed
from tests.repo import free_port
from tests.servers import eventually, listens

SERVER = shutil.which("slapd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SCHEMA = Path("/etc/ldap/schema")

MISSING = None if SERVER and SCHEMA.is_dir() else "no slapd: apt-get install slapd"

BASE = "dc=example,dc=com"
ADMIN = f"cn=admin,{BASE}:secret word"
"""Who may do everything, and the password."""

CONFIGURATION = """
include {schema}/core.schema
include {schema}/cosine.schema
include {schema}/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile {folder}/server.pem
TLSCertificateKeyFile {folder}/server.pem
sizelimit size.soft=500 size.hard=500 size.prtotal=unlimited
database mdb
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw "secret word"
directory {folder}/data
dbnosync
access to attrs=userPassword by anonymous auth by * none
access to * by * read
"""


class Slapd:
    """A server whose directory has `ou=people`, `ou=groups`, and the person `cn=reader` with the password `read`."""

    def __enter__(self) -> Self:
        assert SERVER is not None
        self.folder = Path(tempfile.mkdtemp(prefix="l-", dir="/tmp"))
        (self.folder / "data").mkdir()
        self.authority = self_signed(self.folder, "127.0.0.1")
        self.port, self.tls_port = free_port(), free_port()
        configuration = self.folder / "slapd.conf"
        configuration.write_text(CONFIGURATION.format(schema=SCHEMA, folder=self.folder, base=BASE))
        listening = f"ldap://127.0.0.1:{self.port} ldaps://127.0.0.1:{self.tls_port}"
        self._server = subprocess.Popen([SERVER, "-f", configuration, "-h", listening, "-d", "0"])
        eventually(lambda: listens(self._server, "127.0.0.1", self.port))
        self.add(BASE, {"objectClass": ["dcObject", "organization"], "o": "Example"})
        for unit in ("people", "groups"):
            self.add(f"ou={unit},{BASE}", {"objectClass": "organizationalUnit"})
        self.add(f"cn=reader,{BASE}", {"objectClass": ["person"], "sn": "Reader", "userPassword": "read"})
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """Its address, unencrypted."""
        return f"ldap://127.0.0.1:{self.port}"

    def connected(self) -> Any:
        """A connection that may do everything, by the library itself."""
        import ldap

        made = ldap.initialize(self.url)
        made.simple_bind_s(*ADMIN.split(":"))
        return made

    def add(self, dn: str, values: dict[str, Any]) -> None:
        """Add an entry."""
        lists = {name: [value] if isinstance(value, str) else value for name, value in values.items()}
        given = {name: [each.encode() for each in several] for name, several in lists.items()}
        self.connected().add_s(dn, list(given.items()))

    def entries(self, base: str = BASE) -> dict[str, dict[str, list[bytes]]]:
        """Every entry below one, by its DN."""
        import ldap

        return dict(self.connected().search_s(base, ldap.SCOPE_SUBTREE))

    def clear(self) -> None:
        """Delete everybody, and every group."""
        connection = self.connected()
        for unit in ("people", "groups"):
            for dn in [dn for dn in self.entries(f"ou={unit},{BASE}") if not dn.startswith("ou=")]:
                connection.delete_s(dn)
