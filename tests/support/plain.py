"""The app under uvicorn as anybody would start it: asyncio, h11, no protocol class of ours."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import sys
from typing import Any

import structlog
import uvicorn
from resonantgenesis_server.app import open_parts
from resonantgenesis_server.config.load import load_settings
from resonantgenesis_server.datadir.lock import lock_data
from resonantgenesis_server.logging.setup import open_logs


def arguments() -> dict[str, Any]:
    """Those of `resonantgenesis serve`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--data")
    parser.add_argument("--agent", action="append", default=[])
    given = vars(parser.parse_args())
    agents = dict(agent.split("=", 1) for agent in given.pop("agent"))
    del given["command"]
    return {**given, "agents": agents or None}


async def main() -> int:
    settings = load_settings(arguments()).settings
    with (
        open_logs(settings.log_level, settings.log_format),
        lock_data(settings.data),
        socket.create_server((settings.host, settings.port)) as bound,
    ):
        async with open_parts(settings) as parts:
            config = uvicorn.Config(
                parts.app, http="h11", loop="asyncio", lifespan="off", log_config=None
            )
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            structlog.get_logger().info("serving", url=url)
            server = uvicorn.Server(config)
            with contextlib.suppress(KeyboardInterrupt):
                await server.serve(sockets=[bound])
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
