"""What a client of LangGraph's SDK for Python goes through; prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from collections.abc import AsyncIterator
from typing import Any

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

given = json.load(sys.stdin)
# A cut before the first event has no id to go on from; the address that the server gave has.
warnings.simplefilter("ignore")


class Cutting(httpx.AsyncBaseTransport):
    """A network that breaks the next stream after so many bytes."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.after: int | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        if self.after is None or "event-stream" not in response.headers["content-type"]:
            return response
        left, self.after = self.after, None
        body = _cut(response, left)
        return httpx.Response(response.status_code, headers=response.headers, stream=body)


class _cut(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, left: int) -> None:
        self.response, self.left = response, left

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self.response.stream:  # type: ignore[union-attr]
            yield part[: self.left]
            self.left -= len(part)
            if self.left <= 0:
                raise httpx.ReadError("cut")

    async def aclose(self) -> None:
        await self.response.aclose()


def client(key: str) -> tuple[LangGraphClient, Cutting]:
    made = get_client(url=f"{given['base']}/langgraph", api_key=key)
    network = Cutting()
    made.http.client._transport = network
    return made, network


def said(content: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


async def text_of(stream: AsyncIterator[Any]) -> tuple[str, Any, list[str]]:
    """The text of the pieces, the last values, and the ids."""
    text, values, ids = "", None, []
    async for part in stream:
        ids.append(part.id)
        if part.event == "messages":
            text += part.data[0]["content"]
        elif part.event == "values":
            values = part.data
        elif part.event == "error":
            values = part.data["message"]
    return text, values, ids


MODES: Any = ["messages-tuple", "values"]


async def cut_at(after: int) -> list[Any]:
    langgraph, network = client(given["key"])
    thread = await langgraph.threads.create()
    network.after = after
    run = langgraph.runs.stream(
        thread["thread_id"], "guide", input=said("count to 4"), stream_mode=MODES
    )
    text, _, ids = await text_of(run)
    return [text, len(set(ids)) == len(ids)]


async def main() -> None:
    found: dict[str, Any] = {}
    langgraph, _ = client(given["key"])
    thread = await langgraph.threads.create(graph_id="guide", metadata={"of": "ada"})
    name = thread["thread_id"]
    run = langgraph.runs.stream(name, "guide", input=said("count to 4"), stream_mode=MODES)
    text, values, _ = await text_of(run)
    (made,) = await langgraph.runs.list(name)
    found["whole"] = [made["status"], text, values["messages"][-1]["content"]]
    found["cuts"] = await asyncio.gather(*(cut_at(after) for after in (1, 150, 500, 900, 1_500)))

    first = await langgraph.runs.wait(
        None, "refunds", input=said("o"), context={"paid": "/dev/null"}
    )
    action = first["__interrupt__"][0]["value"]["action_requests"][0]["name"]
    (asking,) = await langgraph.threads.search(status="interrupted", limit=1)
    await langgraph.runs.wait(asking["thread_id"], "refunds", command={"resume": True})
    state = await langgraph.threads.get_state(asking["thread_id"])
    found["interrupt"] = [action, state["values"]["messages"][-1]["content"]]

    wrong, _ = client("rg_wrong")
    refused = await asyncio.gather(
        wrong.threads.search(),
        langgraph.threads.create(thread_id=name),
        langgraph.runs.get(name, "00000009-0000-8000-8000-000000000000"),
        return_exceptions=True,
    )
    found["refused"] = [type(each).__name__ for each in refused]
    failing = langgraph.runs.stream(None, "refusing", input=said("go"))
    found["failed"] = (await text_of(failing))[1]
    print(json.dumps(found))


asyncio.run(main())
