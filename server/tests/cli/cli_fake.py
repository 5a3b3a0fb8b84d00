"""A server that says what a test tells it to, over real sockets, in the protocol's words."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

SESSION = "sess_of_the_tests"
KEY = "rg_live_of_the_tests"
Chunk = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """`cut`: the connection ends without the end of the answer; `hang`: it stays, silent; `mute`:
    there is no answer until the server closes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False
    mute: bool = False


def as_json(value: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def failure(status: int, code: str, message: str = "no", **more: object) -> Reply:
    error = {"code": code, "message": message, "details": {}, "request_id": "req_7", **more}
    return as_json({"error": error}, status)


def page(items: Sequence[object], cursor: str | None = None) -> Reply:
    return as_json({"data": items, "next_cursor": cursor, "has_more": cursor is not None})


def events(
    chunks: Iterable[Chunk], *, cut: bool = False, hang: bool = False, turn: int = 1, end: str = ""
) -> Reply:
    """A session's stream; `end` follows the frames as it is."""
    return stream_of((frames(chunks) + end).encode(), cut=cut, hang=hang, turn=turn)


def stream_of(body: bytes, *, cut: bool = False, hang: bool = False, turn: int = 1) -> Reply:
    headers = {
        "Content-Type": "text/event-stream; charset=utf-8",
        "X-Session-Id": SESSION,
        "X-Turn": str(turn),
        "X-Log-Epoch": "ep_1",
        "X-Heartbeat-Seconds": "4",
    }
    return Reply(200, b": stream\n\n" + body, headers, cut=cut, hang=hang)


def frames(chunks: Iterable[Chunk]) -> str:
    names = {"text": "message"}
    return "".join(
        f"id: {chunk['position']}\nevent: {names.get(chunk['type'], chunk['type'])}\n"
        f"data: {json.dumps(chunk)}\n\n"
        for chunk in chunks
    )


def turn_of(*texts: str, first: int = 1, turn: int = 1, status: str = "success") -> list[Chunk]:
    """The chunks of a turn that says `texts`."""
    chunks: list[Chunk] = [{"type": "step", "step": 1, "name": "answer", "status": "started"}]
    chunks += [{"type": "text", "content": text} for text in texts]
    usage = {"input_tokens": 1, "output_tokens": 1, "steps": 1, "duration_ms": 1200}
    chunks.append(
        {"type": "done", "session_id": SESSION, "turn": turn, "status": status, "usage": usage}
    )
    return [{**chunk, "position": first + index} for index, chunk in enumerate(chunks)]


class FakeServer:
    """`script` answers requests in turn; when it is used up, `always` does."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.always: Callable[[Seen], Reply] = lambda seen: failure(404, "NOT_FOUND")
        self.seen: list[Seen] = []
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _answer(self, seen: Seen) -> Reply:
        self.seen.append(seen)
        return self.script.pop(0) if self.script else self.always(seen)

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                url = urlsplit(self.path)
                seen = Seen(
                    self.command,
                    url.path,
                    dict(parse_qsl(url.query)),
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(body) if body else None,
                )
                self.reply(fake._answer(seen))

            do_POST = do_PATCH = do_DELETE = do_GET

            def reply(self, reply: Reply) -> None:
                self.close_connection = True
                if reply.mute:
                    fake._closing.wait(30)
                    return
                if reply.status == 0:  # not even an answer
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                # Else a client may ask on while the connection is being closed.
                self.send_header("Connection", "close")
                more = 1 if reply.cut or reply.hang else 0
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(reply.body) + more))
                self.end_headers()
                self.wfile.write(reply.body)
                self.wfile.flush()
                if reply.hang:
                    fake._closing.wait(10)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
