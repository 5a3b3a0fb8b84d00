"""A server of chat completions that sends what a row of `llm_quirks.yaml` says, byte for byte.

Strict in what it takes: a request that a strict server would refuse is answered 400 and noted in
`faults`. A row is

    name       what is odd
    sends      packets: a text as it is; DONE; {say: TEXT}; {delta: {…}, finish: WORD}; {finish: W};
               {calls: […]}; {json: VALUE}; {raw: {…}} (JSON without `data:`); {hex: BYTES};
               {pause: SECONDS}; {repeat: TEXT, every: SECONDS} until the client goes
    status, type, headers   of the response: 200, text/event-stream, none
    then       end (default), open (nothing more comes, the connection stays), cut (reset)
    refuses    names of fields, or of parts of contents, with which a request is answered 400;
               `words` of that answer, in which {name} stands for the field
    provider, settings      the provider's name (`local`) and settings of the engine
    text, thoughts, calls, finish, error   what the turn gives; `error` is a code
    says       words of the provider that reach the log
    needs      a field without which the server refuses messages that call tools
    back       what the assistant's message has when it comes back to the server
    requests   how many there were; `images`, how many images each had
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_IMAGE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$")
_KEYS = {"role", "content", "tool_calls", "tool_call_id"}
_HEAD = "HTTP/1.1 {status} X\r\nContent-Type: {type}\r\n{more}Transfer-Encoding: chunked\r\n\r\n"
#: What the server answers once a row's answers have been given.
_LAST = [{"say": "ok"}, {"finish": "stop"}, "DONE"]


def rows() -> list[Json]:
    text = Path(__file__).with_name("llm_quirks.yaml").read_text()
    # Every worker of the tests loads them, and the loader in Python takes a second.
    loaded: list[Json] = yaml.load(text, Loader=yaml.CSafeLoader)
    return loaded


def packets(row: Json) -> bytes:
    """All that a row sends, without its pauses."""
    items = [item for item in row["sends"] if isinstance(item, str) or "pause" not in item]
    return b"".join(map(_packet, items))


def faults_of(body: Json, own: Collection[str] = ()) -> list[str]:
    """Why a strict server would refuse a request; `own` are further fields of messages."""
    return list(_faults(body["messages"], own))


def _faults(messages: list[Json], own: Collection[str]) -> Iterator[str]:
    ids: set[str] = set()
    waiting: list[str] = []
    for number, message in enumerate(messages):
        where = f"message {number}"
        yield from (f"{where}: unknown {key}" for key in set(message) - _KEYS - set(own))
        if message["role"] == "tool":
            if not waiting or message["tool_call_id"] != waiting.pop(0):
                yield f"{where}: no call waits for {message['tool_call_id']}"
        elif waiting:
            yield f"{where}: calls without results: {waiting}"
        calls = message.get("tool_calls")
        content = message.get("content")
        if isinstance(content, list) and message["role"] == "user":
            yield from (f"{where}: part {part}" for part in content if not _is_part(part))
        elif not (isinstance(content, str) and content.strip()) and not (calls and content is None):
            yield f"{where}: no content"
        for call in calls or ():
            yield from (f"{where}: {fault}" for fault in _call_faults(call, ids))
            waiting.append(call["id"])
    if waiting:
        yield f"calls without results: {waiting}"


def _is_part(part: Json) -> bool:
    if part["type"] == "text":
        return set(part) == {"type", "text"} and bool(part["text"].strip())
    url = str(part.get("image_url", {}).get("url"))
    return bool(_IMAGE.match(url)) and part == {"type": "image_url", "image_url": {"url": url}}


def _call_faults(call: Json, ids: set[str]) -> Iterator[str]:
    if not call["id"] or call["id"] in ids:
        yield f"id {call['id']!r}"
    ids.add(call["id"])
    if call["type"] != "function" or not _NAME.fullmatch(call["function"]["name"]):
        yield f"name {call['function']['name']!r}"
    try:
        if not isinstance(json.loads(call["function"]["arguments"]), dict):
            raise ValueError
    except (ValueError, TypeError):
        yield f"arguments {call['function']['arguments']!r}"


@dataclass
class QuirkServer:
    """`row` is what it sends first; then a plain answer."""

    row: Json
    url: str = ""
    bodies: list[Json] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _answered: int = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[QuirkServer]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                size = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
                assert size is not None
                body = json.loads(await reader.readexactly(int(size.group(1))))
                self.bodies.append(body)
                if not head.startswith("POST /v1/chat/completions "):
                    await _send(writer, {"status": 404, "sends": ["{}"]})
                elif not await self._answer(body, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, body: Json, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        refusal = self._refusal(body)
        if refusal:
            said = json.dumps({"error": {"message": refusal, "type": "invalid_request_error"}})
            await _send(writer, {"status": 400, "type": "application/json", "sends": [said]})
            return True
        row = self.row if self._answered == 0 else {"sends": _LAST}
        self._answered += 1
        await _send(writer, row)
        how = row.get("then", "end")
        if how == "cut":
            writer.transport.abort()
        elif how == "open":
            await reader.read()
        return bool(how == "end")

    def _refusal(self, body: Json) -> str:
        for name in self.row.get("refuses", ()):
            if name in body or any(_has(message, name) for message in body["messages"]):
                return str(self.row.get("words", "Unknown parameter: {name}")).format(name=name)
        needs = self.row.get("needs")
        if needs and any(m.get("tool_calls") and not m.get(needs) for m in body["messages"]):
            return f"{needs} is missing in assistant tool call message"
        faults = faults_of(body, set(self.row.get("back", {})) | ({needs} if needs else set()))
        self.faults += faults
        return "; ".join(faults)


def _has(message: Json, name: str) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return name in message or any(part["type"] == name for part in parts)


async def _send(writer: asyncio.StreamWriter, row: Json) -> None:
    more = "".join(f"{name}: {value}\r\n" for name, value in row.get("headers", {}).items())
    kind = row.get("type", "text/event-stream")
    writer.write(_HEAD.format(status=row.get("status", 200), type=kind, more=more).encode())
    for item in row["sends"]:
        if isinstance(item, dict) and "pause" in item:
            await asyncio.sleep(item["pause"])
            continue
        data = _packet(item)
        while data:
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            if not isinstance(item, dict) or "every" not in item:
                break
            await asyncio.sleep(item["every"])
    if row.get("then", "end") == "end":
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _packet(item: str | Json) -> bytes:
    if item == "DONE":
        return b"data: [DONE]\n\n"
    if isinstance(item, str):
        return item.encode()
    if "hex" in item:
        return bytes.fromhex(item["hex"])
    if "repeat" in item:
        return str(item["repeat"]).encode()
    if "raw" in item:
        return json.dumps(item["raw"]).encode()
    value = item["json"] if "json" in item else _event(item)
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _event(item: Json) -> Json:
    delta = dict(item.get("delta", {}))
    if "say" in item:
        delta["content"] = item["say"]
    if "calls" in item:
        delta["tool_calls"] = item["calls"]
    choice = {"index": 0, "delta": delta, "finish_reason": item.get("finish")}
    event: Json = {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}
    if "usage" in item:
        read, written = item["usage"]
        event["usage"] = {"prompt_tokens": read, "completion_tokens": written}
    return event
