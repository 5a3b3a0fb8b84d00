"""A real MCP server for tests, over stdio or over HTTP on a port of its own.

python mcp_server.py                 stdio
python mcp_server.py --http [PORT]   streamable HTTP; prints its port
python mcp_server.py --sse [PORT]    the older HTTP with server-sent events; prints its port
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJg"
    "gg=="
)
server = MCPServer("tests", log_level="CRITICAL")


@server.tool()
def add(a: int, b: int = 1) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def about(topic: str) -> dict[str, Any]:
    """Tells about a topic."""
    return {"topic": topic, "known": True}


@server.tool(structured_output=False)
def echo(text: str) -> str:
    """Says what it is told."""
    return text


@server.tool()
def fail(why: str) -> str:
    """Always fails."""
    raise ToolError(why)


@server.tool(name="dotted.name")
def dotted() -> str:
    """Has a name that models' providers refuse."""
    return "dotted"


@server.tool()
async def hang() -> str:
    """Never answers."""
    await asyncio.Event().wait()
    return "never"


@server.tool()
def freeze() -> str:
    """Never answers, and lets nothing else answer."""
    os.kill(os.getpid(), 19)  # SIGSTOP
    return "never"


@server.tool()
def crash() -> str:
    """Ends the process."""
    print("crashing as told", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool(structured_output=False)
def large(size: int) -> str:
    """A text of so many characters."""
    return "x" * size


@server.tool()
def process() -> dict[str, int]:
    """The process, and one that it has started."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return {"server": os.getpid(), "child": child.pid}


@server.tool(structured_output=False)
def picture() -> Image:
    """A picture, which no text is."""
    return Image(data=b"not really", format="png")


@server.tool(structured_output=False)
def photo(media: str) -> list[Any]:
    """A pixel, said to be of a format, and a text with it."""
    return ["a pixel", Image(data=base64.b64decode(PIXEL), format=media)]


@server.tool(structured_output=False)
def variable(name: str) -> str:
    """The value of a variable, or nothing."""
    return os.environ.get(name, "")


@server.tool()
async def steps(count: int, pause: float, ctx: Context) -> str:
    """Takes its time and says how far it is."""
    for done in range(count):
        await asyncio.sleep(pause)
        await ctx.report_progress(done + 1, count)
    return "done"


@server.tool()
async def grow() -> str:
    """Adds a tool, `grown`."""

    def grown() -> str:
        """Was not there before."""
        return "grown"

    server.add_tool(grown)
    return "done"


def main() -> None:
    if len(sys.argv) == 1:
        server.run("stdio")
        return
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(listener.getsockname()[1], flush=True)
        app = server.sse_app() if sys.argv[1] == "--sse" else server.streamable_http_app()
        config = uvicorn.Config(app, log_level="warning", lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
