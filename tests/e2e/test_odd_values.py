"""Whatever stands in a header, a path or a query: no endpoint fails, and what was stored from it
can be had again."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from support.credentials import make_token, sync_client
from support.endpoints import ALL, ENDPOINTS, MISSING, PUBLIC, Endpoint, path_of
from support.server import KEY, PATIENCE, ServerProcess, bearer

LONG = b"x" * 9_000
ODD: list[bytes] = [
    b"", b" ", b"\t", b",", b";", b"=", b'"', b"\\", b"*", b"\xe9", "é€😀".encode(), b"a\x00b",
    b"a\x01b", b"a\x7fb", b"a\rb", b"a\r\n b", b"%00%ff%0d%0a", b"[", b"]", b"{}", b"-1",
    b"1" * 5_000, b"1e400", b"NaN", b"null", b"../..", LONG, b"\xff\xfe", "\u2100".encode(),
]  # fmt: skip
#: Where a header has a form of its own, values that are nearly of it.
NEAR: dict[bytes, list[bytes]] = {
    b"Authorization": [b"Bearer", b"Bearer \xe9.\xe9.\xe9", b"Bearer a.b.c", b"Bearer e30.e30.e30",
                       b"Bearer eyJraWQiOjF9.e30.", b"Bearer " + b"." * 5_000, b"Basic \xe9",
                       b"Bearer " + KEY.encode() + b"\xe9", b"Bearer a\x00b"],
    b"Cookie": [b"rg_token=\xe9", b"rg_token=a.b.c", b"rg_token", b"=;=;rg_token=;",
                b"rg_token=" + LONG],
    b"Origin": [b"http://[", b"http://[::1", b"http://]", b"http://a:99999999", b"http://\xe9",
                "http://a\u2100b".encode(), b"null", b"//", b"http://@", b"http://a:b@c"],
    b"Referer": [b"http://[", b"http://a:b:c"],
    b"Host": [b"[", b"[::1", b"a:b:c", b"a:99999", b"\xe9", b"a@b", b"a/b"],
    b"Content-Type": [b'text/plain; x="\xe9"', b"application/json; charset=\xe9", b"a/b; c=\"",
                      b"application/json;", b"multipart/form-data", b"text/plain; x=\"a\x7f\""],
    b"Content-Digest": [b"sha-256=:\xe9:", b"sha-256=::", b"sha-256=:====:"],
    b"Content-Encoding": [b"gzip", b"identity, \xe9"],
    b"Range": [b"bytes=" + b"9" * 5_000 + b"-", b"bytes=-", b"bytes=\xb2-", b"bytes=0-0,1-1"],
    b"If-Range": [b'"\xe9"', b"Sat, 99 Nov"],
    b"If-None-Match": [b'W/"\xe9', b'"' * 3_000],
    b"Idempotency-Key": [b"\xe9", b"a b", b"x" * 300],
    b"Last-Event-ID": [b"\xb2", b"c_\xe9", b"c_", b"c_AAAA", b"9" * 400],
    b"X-Log-Epoch": [b"\xe9"],
    b"Prefer": [b"handling=\xe9", b'handling="', b"=,;", b"respond-async;\xe9",
                b"wait=" + b"9" * 400],
    b"Accept": [b"text/event-stream;q=\xe9", b"*/*;q=NaN"],
    b"X-Request-Id": [b"\xe9", b"a\tb"],
    b"Access-Control-Request-Headers": [b"\xe9,,", b"," * 3_000],
    b"Access-Control-Request-Method": [b"\xe9"],
    b"traceparent": [b"\xe9", b"00-"],
    b"X-Forwarded-For": [b"[", b"\xe9"],
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("odd") / "data", limits__answer_wait=1, limits__poll_wait=1
    )
    yield server.start()
    server.stop()
    assert server.errors() == []


class Asking:
    """Requests as bytes, since no client library writes such ones."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        with sync_client(server, headers=bearer()) as client:
            body = {"agent_id": "guide", "goal": "count to 3"}
            session = client.post("/v1/sessions/execute", json=body).json()["session_id"]
            file = client.post("/v1/files?name=a.txt", content=b"content").json()["id"]
            event = client.post("/v1/events", json={"type": "app.a"}).json()["id"]
            token = make_token(client, "*", credential=KEY)
        self.ids = {**MISSING, "session_id": session, "file_id": file, "event_id": event}
        self.cookie = b"rg_token=" + token.encode()

    def status(self, method: str, target: bytes, headers: dict[bytes, bytes], body: bytes) -> int:
        """The answer's status; 0: the connection was closed without one."""
        lines = [b"%b %b HTTP/1.1" % (method.encode(), target)]
        given = {b"Host": b"127.0.0.1", b"Content-Length": b"%d" % len(body), **headers}
        lines += [name + b": " + value for name, value in given.items()]
        with socket.create_connection(("127.0.0.1", self._server.port), PATIENCE) as connection:
            connection.sendall(b"\r\n".join([*lines, b"Connection: close", b"", body]))
            with connection.makefile("rb") as answer:
                try:
                    return int([*answer.readline().split(b" "), b"0"][1])
                except ConnectionResetError:
                    return 0

    def request(
        self, method: str, template: str, endpoint: Endpoint
    ) -> tuple[bytes, dict[bytes, bytes], bytes]:
        headers: dict[bytes, bytes] = {}
        if endpoint.needs is not PUBLIC:
            headers[b"Authorization"] = b"Bearer " + KEY.encode()
        body = endpoint.content or b""
        if endpoint.body is not None:
            body = orjson.dumps(endpoint.body)
            headers[b"Content-Type"] = b"application/json"
        query = "".join(f"&{name}={quote(value)}" for name, value in endpoint.query.items())
        path = path_of(template, MISSING if method == "DELETE" else self.ids)
        return (path + ("?" + query[1:] if query else "")).encode(), headers, body


@pytest.fixture(scope="module")
def asking(odd: ServerProcess) -> Asking:
    return Asking(odd)


def odd_headers(asking: Asking, per_endpoint: int, seed: int) -> list[Any]:
    """Which requests were answered with a failure of the server's."""
    every = [(name, value) for name, near in NEAR.items() for value in [*near, *ODD]]
    chance, failed = random.Random(seed), []
    for (method, template), endpoint in ALL.items():
        if (method, template) in {("DELETE", "/v1/keys/{key_id}"), ("POST", "/v1/tokens/rotate")}:
            continue
        target, headers, body = asking.request(method, template, endpoint)
        for name, value in chance.sample(every, min(per_endpoint, len(every))):
            sent = {**headers, name: value}
            if name == b"Cookie":
                sent.pop(b"Authorization", None)
            if asking.status(method, target, sent, body) == 500:
                failed.append((method, target, name, value))
    return failed


def test_odd_headers(asking: Asking) -> None:
    assert odd_headers(asking, 8, seed=12) == []


@pytest.mark.soak
def test_many_odd_headers(asking: Asking) -> None:
    assert odd_headers(asking, 10_000, seed=0) == []


def test_a_page_of_an_odd_origin(asking: Asking) -> None:
    target = f"/v1/sessions/{asking.ids['session_id']}/stream?resume_from=0".encode()
    for value in [*NEAR[b"Origin"], *ODD]:
        status = asking.status("GET", target, {b"Cookie": asking.cookie, b"Origin": value}, b"")
        # Without a value it is as without the header: a stream of one's own site.
        assert status in ({200} if not value.strip() else {400, 401, 431, 0}), value


def test_odd_paths_and_queries(asking: Asking, odd: ServerProcess) -> None:
    document = httpx.get(f"{odd.url}/openapi.json").json()["paths"]
    failed, chance = [], random.Random(7)
    odd_texts = [quote(value) for value in ODD if len(value) < 6_000]
    for (method, template), endpoint in ENDPOINTS.items():
        if method == "HEAD" or "rotate" in template:
            continue
        target, headers, body = asking.request(method, template, endpoint)
        targets = []
        for place, text in enumerate(chance.sample(odd_texts, 6)):
            for parameter in document[template][method.lower()].get("parameters", []):
                name = parameter["name"]
                if parameter["in"] == "query" and place % 2:
                    targets.append(target.partition(b"?")[0] + f"?{name}={text}".encode())
                elif parameter["in"] == "path" and text and "/" not in text and not place % 2:
                    targets.append(path_of(template, {**asking.ids, name: text}).encode())
        for each in targets:
            if asking.status(method, each, headers, body) == 500:
                failed.append((method, each))
    assert failed == []


def test_every_type_that_is_taken_comes_back(odd: ServerProcess) -> None:
    """What an upload says of a file stands in each download's headers."""
    with sync_client(odd, headers=bearer()) as client:
        for value in [*NEAR[b"Content-Type"], *ODD, b'a/b; c="d e"', b"text/plain;charset=utf-8"]:
            if value != value.strip() or set(value) & set(b"\x00\r\n"):
                continue  # this client does not send these
            for name in ("a.txt", 'a"b%é€😀.html', "a;b=c,d"):
                headers: Any = [(b"Content-Type", value)]
                answer = client.post(
                    "/v1/files", params={"name": name}, headers=headers, content=b"x"
                )
                assert answer.status_code in {201, 400, 415, 422}, (value, answer.text)
                if answer.status_code == 201:
                    got = client.get(f"/v1/files/{answer.json()['id']}/content")
                    assert (got.status_code, got.content) == (200, b"x"), (value, name)
                    assert got.headers["content-type"] == answer.json()["content_type"]
