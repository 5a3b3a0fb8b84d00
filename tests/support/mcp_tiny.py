"""A small MCP server without a library, for faults that a library would not make.

python mcp_tiny.py MODE [FILE]: each start adds a line with its process id to FILE. Modes:

normal     offers `say`, which gives its argument back, and `end`, which ends the process
mute       starts and never says anything
quits      ends at once, with a word on stderr
noisy      writes what is no message between its messages
stubborn   ignores SIGTERM and the end of its stdin
parent     starts a process that ignores everything, then is normal
paged      has tools on pages without end
wrong      answers every call with what is no result
long       answers every call with a line that never ends
odd        has tools and results that miss what the protocol, or the tool itself, says of them
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('ready', flush=True); time.sleep(600)"
)


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "inputSchema": SCHEMA}


ODD_TOOLS = [
    {"name": "bare", "inputSchema": {"type": "object"}},
    {"name": "none"},
    {"name": "null", "inputSchema": {"type": "object", "properties": None}},
    {
        "name": "misfit",
        "inputSchema": SCHEMA,
        "outputSchema": {
            "type": "object",
            "required": ["n"],
            "properties": {"n": {"type": "integer"}},
        },
    },
]
ODD_RESULTS: dict[str, dict[str, Any]] = {
    "bare": {
        "content": [{"type": "text", "text": "Three were found."}],
        "structuredContent": {"n": 3},
    },
    "none": {"structuredContent": {"n": 4}},
    "null": {
        "content": [
            {"type": "text", "text": "before"},
            {"type": "hologram", "depth": 3},
            {"type": "image"},
            "not even an object",
            {"type": "text", "text": "after"},
        ]
    },
    "misfit": {
        "content": [{"type": "text", "text": '{"n": "many"}'}],
        "structuredContent": {"n": "many"},
    },
}


def listed(mode: str, params: dict[str, Any]) -> dict[str, Any]:
    if mode == "odd":
        return {"tools": ODD_TOOLS}
    if mode != "paged":
        return {"tools": [tool("say"), tool("end")]}
    page = int(params.get("cursor") or 0)
    tools = [tool(f"t{page}_{n}") for n in range(20)]
    return {"tools": tools, "nextCursor": str(page + 1)}


def called(mode: str, params: dict[str, Any]) -> Any:
    if params["name"] == "end":
        sys.exit(3)
    if mode == "odd":
        return ODD_RESULTS[params["name"]]
    if mode == "wrong":
        return {"content": "no list"}
    if mode == "long":
        while True:
            sys.stdout.write("x" * 65_536)
    return {"content": [{"type": "text", "text": params["arguments"].get("text", "")}]}


def answer(mode: str, method: str, params: dict[str, Any]) -> Any:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "1"},
        }
    if method == "tools/list":
        return listed(mode, params)
    return called(mode, params) if method == "tools/call" else None


def serve(mode: str) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        if mode == "noisy":
            print("this is no message", flush=True)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        result = answer(mode, request["method"], request.get("params") or {})
        if result is None:
            reply["error"] = {"code": -32601, "message": "no such method"}
        else:
            reply["result"] = result
        print(json.dumps(reply), flush=True)


def main() -> None:
    mode = sys.argv[1]
    pids = [str(os.getpid())]
    if mode == "parent":
        child = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        pids.append(str(child.pid))
    if len(sys.argv) > 2:
        with Path(sys.argv[2]).open("a") as file:
            file.write(" ".join(pids) + "\n")
    if mode == "quits":
        sys.exit("cannot work like this")
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode != "mute":
        serve(mode)
    while mode in {"mute", "stubborn"}:
        time.sleep(600)


if __name__ == "__main__":
    main()
