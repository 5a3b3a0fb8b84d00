"""HTTP and the wire format, as the fake server writes and reads them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Payload = dict[str, Any]


def story(count: int) -> list[Payload]:
    """A turn of `count` chunks: a step, a tool call, its result, text, and at the end `done`."""
    head: list[Payload] = [
        {"type": "step", "step": 1, "name": "answer", "status": "started"},
        {"type": "tool_call", "tool": "docs_search", "args": {"query": "x"}, "call_id": "c1"},
        {"type": "tool_result", "tool": "docs_search", "result": ["y"], "call_id": "c1"},
    ]
    words = [{"type": "text", "content": f"w{n}é\u2028 "} for n in range(count - len(head) - 1)]
    return [*head, *words, {"type": "done", "status": "success"}]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: dict[str, Any]


def frame(chunk: Payload) -> bytes:
    event = "message" if chunk["type"] == "text" else chunk["type"]
    place = f"id: {chunk['position']}\n" if chunk.get("position") else ""
    return f"{place}event: {event}\ndata: {json.dumps(chunk)}\n\n".encode()


def part(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def head(status: int, kind: str, length: int | None, headers: dict[str, str]) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", size, "X-Request-Id: req_1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def error(code: str, message: str) -> Payload:
    return {"error": {"code": code, "message": message, "details": {}, "request_id": "req_1"}}


async def send_json(
    writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
) -> None:
    content = b"" if body is None else json.dumps(body).encode()
    writer.write(head(status, "application/json", len(content), headers or {}) + content)
    await writer.drain()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    url = urlsplit(target)
    body = json.loads(content) if content else {}
    return Request(method, url.path, dict(parse_qsl(url.query)), headers, body)
