"""PostgreSQL for a test: its own data directory, a Unix socket, no port.

It is the newest of Debian's packages, or the one whose programs are in the folder POSTGRES_BIN.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import trustme

from .server import free_port

#: Seconds that a start, recovery included, or a stop may take on a busy machine.
PATIENCE = 60.0
#: The server that tests share is not there to survive a power loss.
CARELESS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "max_wal_size": "2GB",
    "log_min_messages": "fatal",
}
_PR_SET_PDEATHSIG = 1
_EMPTY = r"""
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE each text; BEGIN
  FOR each IN SELECT nspname FROM pg_namespace
    WHERE nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema'
  LOOP EXECUTE format('DROP SCHEMA %I CASCADE', each); END LOOP;
END $$;
CREATE SCHEMA public;
"""


class PostgresMissing(Exception):
    """The programs are not on this machine; the message says what to install."""


@functools.cache
def _program(name: str) -> str:
    """The path of a program; that of `psql` is Debian's. Raises PostgresMissing."""
    chosen = os.environ.get("POSTGRES_BIN")
    return str((Path(chosen) if chosen and name != "psql" else _installed()) / name)


@functools.cache
def _installed() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    raise PostgresMissing("no PostgreSQL here: sudo apt-get install postgresql")


class PostgresServer:
    """One data directory and its server; may be killed and started again.

    `settings` are PostgreSQL's own; with `primary` it is a standby of that one. The server ends
    with this process, however that ends.
    """

    def __init__(
        self, settings: Mapping[str, str] = CARELESS, *, primary: PostgresServer | None = None
    ) -> None:
        self._settings = {**_SETTINGS, **settings}
        self._numbers = itertools.count(1)
        self._spare: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        #: Short, since the path of a socket may have 107 characters.
        self.folder = _own_folder()
        self.data = self.folder / "data"
        if primary is None:
            _run(self.folder, "/bin/cp", "-a", str(_empty_cluster()), str(self.data))
        else:
            self._copy(primary)

    def start(self) -> PostgresServer:
        """Start it and wait until it takes connections."""
        self.launch()
        self.wait()
        return self

    def launch(self) -> None:
        """Start it. To be called in a thread that lasts as long as the server is to."""
        command = [_program("postgres"), "-D", str(self.data), "-k", str(self.folder)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # calls nothing that locks
                **_as_user(),
            )

    def _copy(self, primary: PostgresServer) -> None:
        """Become a standby, as pg_basebackup does it, which has to be of the server's version."""
        is_old = int(primary.sql("SHOW server_version_num")) < 150_000
        begin = "pg_start_backup('', true, false)" if is_old else "pg_backup_start('', true)"
        end = "pg_stop_backup(false)" if is_old else "pg_backup_stop()"
        primary._psql(
            "postgres",
            f"SELECT {begin}",
            # Files that vanish meanwhile do no harm.
            rf"\! cp -a {primary.data} {self.data} 2> /dev/null",
            rf"\! rm {self.data}/postmaster.*; touch {self.data}/standby.signal",
            rf"\o {self.data}/backup_label",
            f"SELECT labelfile FROM {end}",
        )
        with (self.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = 'host={primary.folder} user=postgres'\n")

    @property
    def pid(self) -> int:
        """That of its first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until it takes connections; after a crash it first recovers."""
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")
                raise AssertionError(f"PostgreSQL did not start:\n{log}")
            time.sleep(0.02)

    def recycle(self, url: str) -> None:
        """Make the database as new: making another would copy some megabytes."""
        name = url.partition("?")[0].rpartition("/")[2]
        self.sql(_EMPTY, name)
        self._spare.append(url)

    def stop(self) -> None:
        """End it as an operator does who is in a hurry: sessions are cut, everything is kept."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End all its processes at once, as if the machine had lost power."""
        assert self._process is not None
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        self._end(signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=PATIENCE)

    @contextlib.contextmanager
    def away(self, fault: signal.Signals) -> Iterator[None]:
        """While the block lasts it is dead (SIGKILL), or only silent (SIGSTOP)."""
        if fault == signal.SIGKILL:
            self.kill()
            yield
            self.start()
            return
        stopped = self._processes()
        try:
            for process in stopped:
                process.suspend()
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def close(self) -> None:
        """End it and remove its data."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._end(signal.SIGQUIT)
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def sql(self, text: str, database: str = "postgres") -> str:
        """What the statements give, unadorned."""
        return self._psql(database, text)

    def _psql(self, database: str, *commands: str) -> str:
        """What the commands of one session give."""
        given = [word for command in commands for word in ("-c", command)]
        return _run(
            self.folder, "psql", "-h", str(self.folder), "-U", "postgres", "-d", database,
            "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", *given,
        )  # fmt: skip

    def set(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")

    def database(self) -> str:
        """An empty database; its URL."""
        if self._spare:
            return self._spare.pop()
        name = f"test{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._process.wait(PATIENCE)

    def _is_ready(self) -> bool:
        # What PostgreSQL's own pg_ctl looks at.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        assert self._process is not None
        ready = lines[-1].strip() in ("ready", "standby") if lines else False
        return ready and lines[0] == str(self._process.pid)


@contextlib.contextmanager
def encrypted_server(folder: Path) -> Iterator[str]:
    """The address of a server that speaks TLS. The certificate of its authority is `ca.pem` in
    `folder`, that of another one `another.pem`."""
    port = free_port()
    server = PostgresServer(
        {**CARELESS, "listen_addresses": "127.0.0.1", "port": str(port), "ssl": "on"}
    )
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(server.data / "server.key"))
    issued.cert_chain_pems[0].write_to_path(str(server.data / "server.crt"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "another.pem"))
    owner = server.data.stat()
    for name in ("server.key", "server.crt"):
        os.chown(server.data / name, owner.st_uid, owner.st_gid)
        (server.data / name).chmod(0o600)
    try:
        server.start()
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
    finally:
        server.close()


@functools.cache
def _empty_cluster() -> Path:
    """A data directory for each server to copy: initdb takes a second of the processor."""
    folder = _own_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = folder / "data"
    _run(folder, "initdb", "-D", str(place), "-U", "postgres", "-A", "trust", "--no-sync")
    return place


def _own_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="rg-pg-"))
    user = unprivileged()
    if user is not None:
        shutil.chown(folder, user, user)
    return folder


def _run(folder: Path, program: str, *arguments: str) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [_program(program), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **_as_user(),
    )
    assert done.returncode == 0, f"{program}: {done.stderr}"
    return done.stdout.strip()


def _as_user() -> dict[str, Any]:
    user = unprivileged()
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@functools.cache
def unprivileged() -> str | None:
    """Whom PostgreSQL is to run as: it refuses root. None: as we do."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody", "daemon") if name in known)


def _end_with_parent() -> None:
    """In the child, before it becomes PostgreSQL: its parent's end stops it (Linux alone)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
