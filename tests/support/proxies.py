"""Real proxies as processes, with the very files of deploy/proxies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .server import PATIENCE, ServerProcess, free_port

SNIPPETS = Path(__file__).resolve().parents[2] / "deploy/proxies"
#: Around a configuration of nginx, in a folder of its own; it compresses all that it may.
NGINX = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u;
    scgi_temp_path {folder}/s;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    {inner}
}}
"""
NGINX_UPSTREAM = "upstream resonantgenesis {{ server 127.0.0.1:{upstream}; keepalive 64; }}"
#: HAProxy leaves alone what says `no-transform`, as our streams do.
HAPROXY_GZIP = (
    "    compression algo gzip\n    compression type text/event-stream application/json\n"
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy. `reload`: it reads its configuration again, as on a change of it."""

    port: int
    reload: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def proxy_process(command: Sequence[str | Path], port: int, folder: Path) -> Iterator[int]:
    """The id of a proxy's process, once it takes connections on `port`."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE / 6)
        except subprocess.TimeoutExpired:  # it waits for connections
            process.kill()
            process.wait(PATIENCE)


@contextlib.contextmanager
def nginx(inner: str, port: int, folder: Path) -> Iterator[Proxy]:
    """nginx with `inner` in its http block."""
    folder.mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, inner=inner))
    command = [_program("nginx"), "-p", folder, "-c", folder / "nginx.conf"]
    with proxy_process(command, port, folder) as pid:
        yield Proxy(port, lambda: os.kill(pid, signal.SIGHUP))


@contextlib.contextmanager
def nginx_snippet(server: ServerProcess, folder: Path) -> Iterator[Proxy]:
    port = free_port()
    snippet = _adapted("nginx.conf", {"listen 80;": f"listen 127.0.0.1:{port};"})
    upstream = NGINX_UPSTREAM.format(upstream=server.port)
    with nginx(f"{upstream}\n{snippet}", port, folder) as proxy:
        yield proxy


@contextlib.contextmanager
def haproxy_snippet(server: ServerProcess, folder: Path) -> Iterator[Proxy]:
    folder.mkdir()
    port = free_port()
    changes = {
        "bind :80": f"bind 127.0.0.1:{port}",
        "127.0.0.1:8080": f"127.0.0.1:{server.port}",
        "backend resonantgenesis\n": f"backend resonantgenesis\n{HAPROXY_GZIP}",
    }
    (folder / "haproxy.cfg").write_text(_adapted("haproxy.cfg", changes))
    with proxy_process([_program("haproxy"), "-W", "-f", "haproxy.cfg"], port, folder) as pid:
        yield Proxy(port, lambda: os.kill(pid, signal.SIGUSR2))


@contextlib.contextmanager
def caddy_snippet(server: ServerProcess, folder: Path) -> Iterator[Proxy]:
    folder.mkdir()
    port, admin = free_port(), free_port()
    changes = {":80 {": f"http://127.0.0.1:{port} {{", "127.0.0.1:8080": f"127.0.0.1:{server.port}"}
    # No certificates, nothing on disk but in the folder.
    general = f"{{\n\tadmin 127.0.0.1:{admin}\n\tauto_https off\n}}\n"
    (folder / "Caddyfile").write_text(general + _adapted("Caddyfile", changes))
    caddy = _program("caddy")
    run = ["env", f"HOME={folder}", caddy, "run", "--config", "Caddyfile"]

    def reload() -> None:
        command = [caddy, "reload", "--force", "--config", "Caddyfile"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=PATIENCE)

    with proxy_process(run, port, folder):
        yield Proxy(port, reload)


PROXIES = {"nginx": nginx_snippet, "haproxy": haproxy_snippet, "caddy": caddy_snippet}


def _adapted(name: str, changes: dict[str, str]) -> str:
    """A snippet with the addresses of the tests."""
    text = (SNIPPETS / name).read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    return text


def _program(name: str) -> str:
    return shutil.which(name) or f"/usr/sbin/{name}"
