"""SIGHUP: a server whose terminal is closed drains; one that has its terminal goes on."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
from pathlib import Path

import httpx
import pytest
from support.server import COMMAND, PATIENCE, free_port

pytestmark = pytest.mark.anyio


async def ready(url: str) -> None:
    async with asyncio.timeout(PATIENCE), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                if (await client.get(f"{url}/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)


async def test_a_terminal_that_is_closed_drains_the_server(tmp_path: Path) -> None:
    port = free_port()
    arguments = [*COMMAND, "serve", "--port", str(port), "--data", str(tmp_path / "data")]
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
        os.execv(arguments[0], arguments)
    try:
        await ready(f"http://127.0.0.1:{port}")
        os.kill(pid, signal.SIGHUP)
        await ready(f"http://127.0.0.1:{port}")
        os.close(terminal)
        _, status = await asyncio.wait_for(asyncio.to_thread(os.waitpid, pid, 0), PATIENCE)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(status) == 0
