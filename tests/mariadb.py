"""A real MariaDB for tests, in a temporary folder, which listens on loopback; where the system has one installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from tests.repo import free_port, short_folder
from tests.servers import PATIENCE

SERVER = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

INSTALLERS = ("mariadb-install-db", "my_print_defaults")
"""The programs that make the tables of a new server; Debian has them in two packages."""

MISSING = (
    None
    if SERVER and all(map(shutil.which, INSTALLERS))
    else "no MariaDB: apt-get install mariadb-server-core mariadb-client-core"
)


class MariaDb:
    """A server whose user `root` has no password."""

    def __enter__(self) -> Self:
        assert SERVER is not None
        self._folder = Path(tempfile.mkdtemp(prefix="m-", dir=short_folder()))
        self._socket = self._folder / "s"
        self.port = free_port()
        account = [f"--user={_user()}"]
        own = ["--no-defaults", f"--datadir={self._folder / 'data'}", *account]
        made = ["mariadb-install-db", *own, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listening = ["--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self._socket}"]
        small = ["--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin"]
        self._server = subprocess.Popen(
            [SERVER, *own, *listening, *small], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.execute("select 1")
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def execute(self, statement: str, database: str | None = None) -> list[Any]:
        """Run a statement as the server's owner. Raises OSError where it does not listen yet."""
        import pymysql

        try:
            with (
                pymysql.connect(host="127.0.0.1", port=self.port, user="root", database=database) as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)
                connection.commit()
                return list(cursor.fetchall())
        except pymysql.OperationalError as error:
            if error.args[0] == 2003:
                raise OSError(str(error)) from None
            raise


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
