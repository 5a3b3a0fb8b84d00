"""nginx with nchan: a configuration of our own, run in a directory of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from ..harness.loadgen import PublishSpec, ViewerSpec, publishing
from ..harness.paths import reason_absent
from ..harness.process import BenchError, Process, Server, free_port, stopping
from .base import Load, Peer, Plan

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
#: Events a second that no server reaches.
AT_ONCE = 1e6
BODY = '{"type":"text","content":"{p}","position":1}'

_CONFIGURATION = """
load_module %(module)s;
%(user)s
worker_processes 1;
daemon off;
pid %(directory)s/nginx.pid;
error_log %(directory)s/error.log error;
worker_rlimit_nofile %(files)d;
events { worker_connections %(connections)d; multi_accept on; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_requests 100000000;
  client_body_temp_path %(directory)s/body;
  proxy_temp_path %(directory)s/proxy;
  fastcgi_temp_path %(directory)s/fastcgi;
  uwsgi_temp_path %(directory)s/uwsgi;
  scgi_temp_path %(directory)s/scgi;
  nchan_shared_memory_size 256M;
  server {
    listen 127.0.0.1:%(port)d backlog=4096;
    location ~ ^/publish/(\\w+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 20000;
      nchan_message_timeout 10m;
    }
    location ~ ^/deflated/(\\w+)$ {
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_message_buffer_length 20000;
      nchan_message_timeout 10m;
      nchan_deflate_message_for_websocket on;
    }
    location ~ ^/live/(\\w+)$ {
      nchan_subscriber eventsource websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
    }
    location ~ ^/stored/(\\w+)$ {
      nchan_subscriber eventsource;
      nchan_channel_id $1;
      nchan_subscriber_first_message oldest;
    }
  }
}
"""


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")


class Nchan(Peer):
    name = "nchan"
    title = "nginx + nchan"

    def absent(self) -> str | None:
        if _nginx() is None or not MODULE.exists():
            return reason_absent("system") or "nginx with its nchan module is not installed"
        return None

    def version(self) -> str:
        said = subprocess.run(
            [_nginx() or "nginx", "-v"], capture_output=True, text=True, timeout=10, check=False
        )
        return said.stderr.strip().removeprefix("nginx version: ")

    def start(self, directory: Path) -> Server:
        port = free_port()
        values = {
            "module": MODULE,
            "user": "user root;" if os.geteuid() == 0 else "",
            "directory": directory,
            "files": 19_000,
            "connections": 18_000,
            "port": port,
        }
        configuration = directory / "nginx.conf"
        configuration.write_text(_CONFIGURATION % values)
        command = [_nginx() or "nginx", "-p", str(directory), "-c", str(configuration)]
        with stopping([]) as started:
            started.append(Process(command, directory))
            started[0].wait_for_port(port)
        return Server(port, directory, started)

    def _publish(self, load: Load, place: str = "publish") -> PublishSpec:
        return PublishSpec(
            path=f"/{place}/topic{{g}}",
            body=BODY,
            headers=("Content-Type: application/json", "X-EventSource-Event: message"),
            groups=load.groups,
            connections=load.groups,
            rate=load.rate,
            count=load.count,
            bytes=load.bytes,
        )

    def fanout(self, server: Server, load: Load) -> Plan | None:
        viewers = ViewerSpec(
            "/live/topic{g}",
            load.viewers,
            groups=load.groups,
            headers=("Accept: text/event-stream",),
            from_one=True,
        )
        return Plan(viewers, publish=self._publish(load))

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        viewers = ViewerSpec(
            "/live/topic{g}",
            load.viewers,
            groups=load.groups,
            from_one=True,
            websocket=True,
            deflate=deflate,
        )
        return Plan(viewers, publish=self._publish(load, "deflated" if deflate else "publish"))

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        if compact:
            return None
        spec = replace(
            self._publish(Load(viewers=1, rate=AT_ONCE, count=count, bytes=size)),
            path="/publish/filled",
        )
        with publishing(server.port, spec) as publisher:
            publisher.expect("ready", 10)
            publisher.command("start")
            report = publisher.expect("published", 60)
        if report["refused"]:
            raise BenchError(f"nchan refused messages with status {report['status']}")
        headers = ("Accept: text/event-stream",)
        return Plan(ViewerSpec("/stored/filled", headers=headers, from_one=True))
