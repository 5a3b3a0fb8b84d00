"""A small server of files over real sockets, whose next answers a test can spoil."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from .fake_wire import error, head, send_json


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Download:
    """An answer about to be sent; a fault changes it. `cut`: bytes of it that get through."""

    status: int
    content: bytes
    headers: dict[str, str]
    cut: int | None = None


Fault = Callable[[Download], Download]


@dataclass
class FakeFiles:
    """`faults` spoil downloads, `upload_faults` uploads: "cut" in mid-body, "lose" the answer
    after the file was stored, "lie" about what came, or an HTTP status with a body."""

    files: dict[str, tuple[dict[str, Any], bytes]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    upload_faults: deque[str | tuple[int, Any]] = field(default_factory=deque)
    keys: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def put(self, content: bytes, name: str = "a.bin") -> str:
        file_id = f"file_{len(self.files) + 1}"
        sha256 = hashlib.sha256(content).hexdigest()
        raw = {"id": file_id, "name": name, "size": len(content), "sha256": sha256}
        self.files[file_id] = (raw, content)
        return file_id

    async def start(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def downloads(self) -> list[Asked]:
        return [one for one in self.asked if one.path.endswith("/content")]

    def uploads(self) -> list[Asked]:
        return [one for one in self.asked if one.method == "POST"]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._answer(reader, writer):
                continue
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can go on."""
        request = _parse(await reader.readuntil(b"\r\n\r\n"))
        self.asked.append(request)
        if request.headers.get("authorization") != "Bearer rg_test_key":
            await send_json(writer, 401, error("UNAUTHENTICATED", "no valid credential"))
            return True
        if request.method == "POST":
            return await self._upload(request, reader, writer)
        match = re.fullmatch(r"/v1/files(?:/([^/]+)(/content)?)?", request.path)
        assert match is not None, request.path
        file_id, content = match.groups()
        if file_id is None:
            data = [raw for raw, _ in self.files.values()]
            await send_json(writer, 200, {"data": data, "next_cursor": None, "has_more": False})
        elif file_id not in self.files:
            await send_json(writer, 404, error("NOT_FOUND", "no such file"))
        elif request.method == "DELETE":
            del self.files[file_id]
            await send_json(writer, 204, None)
        elif content is None:
            await send_json(writer, 200, self.files[file_id][0])
        else:
            return await self._download(request, file_id, writer)
        return True

    async def _download(self, request: Asked, file_id: str, writer: asyncio.StreamWriter) -> bool:
        raw, content = self.files[file_id]
        etag = f'"{raw["sha256"]}"'
        answer = Download(200, content, {"ETag": etag})
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if wanted and request.headers.get("if-range") in {None, etag}:
            start = int(wanted[1])
            place = f"bytes {start}-{len(content) - 1}/{len(content)}"
            answer = Download(206, content[start:], {"ETag": etag, "Content-Range": place})
        if self.faults:
            answer = self.faults.popleft()(answer)
        length = len(answer.content)
        sent = answer.content if answer.cut is None else answer.content[: answer.cut]
        writer.write(head(answer.status, "application/octet-stream", length, answer.headers))
        for start in range(0, len(sent), 65_536):
            writer.write(sent[start : start + 65_536])
            await writer.drain()
        return answer.cut is None

    async def _upload(
        self, request: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        fault = self.upload_faults.popleft() if self.upload_faults else ""
        if fault == "cut":
            await reader.read(1_000)
            return False
        request.body = await _read_body(request, reader)
        if isinstance(fault, tuple):
            await send_json(writer, *fault)
            return True
        key = request.headers["idempotency-key"]
        if key not in self.keys:
            content = request.body + (b"!" if fault == "lie" else b"")
            self.keys[key] = self.put(content, request.query["name"])
        if fault == "lose":
            return False
        await send_json(writer, 201, self.files[self.keys[key]][0])
        return True


def _parse(data: bytes) -> Asked:
    lines = data.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    url = urlsplit(target)
    return Asked(method, url.path, dict(parse_qsl(url.query)), headers)


async def _read_body(request: Asked, reader: asyncio.StreamReader) -> bytes:
    length = request.headers.get("content-length")
    if length is not None:
        return await reader.readexactly(int(length))
    parts: list[bytes] = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def cut_after(count: int) -> Fault:
    """The connection ends after so many bytes."""

    def fault(answer: Download) -> Download:
        answer.cut = min(count, len(answer.content) - 1)
        return answer

    return fault


def with_status(status: int, code: str) -> Fault:
    """A refusal instead."""

    def fault(_: Download) -> Download:
        return Download(status, json.dumps(error(code, "no")).encode(), {})

    return fault
