"""Behind a real proxy, nginx: what it takes for one request, the server takes for one."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from support.proxies import nginx
from support.server import KEY, bearer, free_port, running

#: As Java's client sends it with its first request.
JDK = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
}
#: The usual ways to set it up: `upgrade` passes what asks for another protocol, as all examples
#: for sockets do; `keep` has connections to the server that many clients share.
CONFIG = """
client_max_body_size 8m;
upstream server {{ server 127.0.0.1:{upstream}; keepalive 4; }}
server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_ignore_client_abort on;
    proxy_set_header Host $http_host;
    location / {{ proxy_set_header Connection ""; proxy_pass http://server; }}
    location /up/ {{
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
        proxy_pass http://server/;
    }}
}}
"""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server behind nginx."""
    folder = tmp_path_factory.mktemp("proxied")
    port = free_port()
    with running(folder / "data") as server:
        config = CONFIG.format(port=port, upstream=server.port)
        with (
            nginx(config, port, folder / "nginx") as proxy,
            httpx.Client(
                base_url=proxy.url, headers=bearer(), timeout=20, trust_env=False
            ) as client,
        ):
            yield client


def exchange(port: int, data: bytes) -> list[int]:
    """The statuses of all answers to these bytes, until nothing comes."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.settimeout(10)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        seen = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                seen += piece
    return [int(part[2:5]) for part in seen.split(b"HTTP/1.")[1:]]


@pytest.mark.parametrize("prefix", ["", "/up"])
def test_a_body_behind_an_upgrade_that_is_not_taken(proxied: httpx.Client, prefix: str) -> None:
    inner = f"DELETE /v1/agents/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n"

    def pieces() -> Iterator[bytes]:
        yield b"he"
        time.sleep(0.1)
        yield b"llo"

    for content in (inner.encode(), pieces()):
        size = len(inner) if isinstance(content, bytes) else 5
        made = proxied.post(f"{prefix}/v1/files?name=a", content=content, headers=JDK)
        assert (made.status_code, made.json()["size"]) == (201, size)
    # The connections that nginx keeps answer each client what it asked.
    for number in range(20):
        told = proxied.get(f"{prefix}/healthz", headers={"X-Request-Id": f"r{number}"})
        assert (told.status_code, told.headers["x-request-id"]) == (200, f"r{number}")


def test_a_stream_and_a_turn_come_through(proxied: httpx.Client) -> None:
    body = {"agent_id": "guide", "goal": "count to 3", "stream": True}
    with proxied.stream("POST", "/v1/sessions/execute", json=body, headers=JDK) as answer:
        frames = "".join(answer.iter_text())
    assert '"type":"done"' in frames


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 40\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "Content-Length : 5\r\n",
        "Content_Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "X: a\nContent-Length: 5\r\n",
        " Content-Length: 5\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n",
        "Connection: Content-Length\r\nContent-Length: 5\r\n",
    ],
)
@pytest.mark.parametrize("prefix", ["", "/up"])
def test_nobody_gets_a_request_of_another_in(
    proxied: httpx.Client, prefix: str, lines: str
) -> None:
    """What one client hides in its body is not executed, and no answer of the next is another's."""
    port = proxied.base_url.port
    assert port is not None
    hidden = (
        f"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n" + '{"agent_id":"guide"}'
    )
    body = f"0\r\n\r\n{hidden}"
    start = f"POST {prefix}/v1/files?name=a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    # Nothing here may come through as two requests but what nginx itself takes for two.
    before = len(proxied.get("/v1/sessions").json()["data"])
    statuses = exchange(port, f"{start}Connection: close\r\n{lines}\r\n{body}".encode("latin-1"))
    assert len([status for status in statuses if status != 100]) <= 1, statuses
    for number in range(8):
        told = proxied.get("/healthz", headers={"X-Request-Id": f"r{number}"})
        assert (told.status_code, told.headers["x-request-id"]) == (200, f"r{number}")
    data = json.loads(proxied.get("/v1/sessions").text)["data"]
    assert len(data) == before, statuses
