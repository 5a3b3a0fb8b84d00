"""PgBouncer as Debian packages it, for a test: in transaction mode, on a socket, no port."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from .postgres import PATIENCE, PostgresServer, unprivileged

PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/bin:/usr/bin")
_SETTINGS = """
[databases]
* = host={server} user=postgres
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
"""


class PgBouncer:
    """Before a server; every transaction may get another one of three connections."""

    def __init__(self, server: PostgresServer) -> None:
        assert PROGRAM is not None
        self._server = server
        self.folder = Path(tempfile.mkdtemp(prefix="rg-pb-"))
        settings = self.folder / "ini"
        settings.write_text(_SETTINGS.format(server=server.folder, folder=self.folder))
        user = unprivileged()
        if user is not None:
            shutil.chown(self.folder, user, user)
        self._process = subprocess.Popen(
            [PROGRAM, "-q", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        deadline = time.monotonic() + PATIENCE
        while not next(self.folder.glob(".s.PGSQL.*"), None):
            assert self._process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)

    def url(self, url: str) -> str:
        """The address through it, of the database at `url`."""
        return url.replace(str(self._server.folder), str(self.folder)) + "&port=6432"

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)
        shutil.rmtree(self.folder, ignore_errors=True)
