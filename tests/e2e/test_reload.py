"""`serve --reload`: files of agents are edited while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from resonantgenesis import ResonantGenesis
from support.server import KEY, ServerProcess

pytestmark = pytest.mark.anyio

AGENT = """
import asyncio
from pathlib import Path

from words import WORD


async def answer(turn):
    yield WORD
    while turn.context.get("hold") and not Path(turn.context["hold"]).exists():
        await asyncio.sleep(0.01)
    yield "."
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "words.py").write_text("WORD = 'one'\n")
    (tmp_path / "resonantgenesis.toml").write_text("[agents]\nit = 'agent:answer'\n")
    running = ServerProcess(tmp_path / "data", options=["--reload"], drain_seconds=2)
    try:
        yield running.start()
    finally:
        running.stop()


async def test_edits_while_turns_run(server: ServerProcess, tmp_path: Path) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30) as client:

        async def said(agent: str = "it") -> str:
            return (await client.sessions.execute(agent_id=agent, goal="x")).output

        async def holding() -> tuple[asyncio.Task[str], Path]:
            """A turn that runs until its file is there."""
            hold, has_begun = tmp_path / "hold", asyncio.Event()
            hold.unlink(missing_ok=True)
            stream = client.sessions.execute_stream(
                agent_id="it", goal="x", context={"hold": str(hold)}
            )

            async def read() -> str:
                text = ""
                async for chunk in stream:
                    has_begun.set()
                    text += chunk.content or ""
                    if chunk.type == "done" and chunk.status != "success":
                        text += f"({chunk.status})"
                return text

            task = asyncio.create_task(read())
            await has_begun.wait()
            return task, hold

        assert await said() == "one."
        # A turn that ends within the drain ends as it would have; the next one has the new code.
        task, hold = await holding()
        (tmp_path / "words.py").write_text("WORD = 'two'\n")
        await asyncio.to_thread(server.logged, "draining; a second signal stops at once")
        hold.touch()
        assert (await task, await said()) == ("one.", "two.")

        # Bad code is refused in one line, and nothing stops.
        task, hold = await holding()
        (tmp_path / "words.py").write_text("WORD = (\n")
        [line] = await asyncio.to_thread(
            server.logged, "the change is refused; the code before it goes on"
        )
        assert "SyntaxError: '(' was never closed" in line["reason"]
        assert "words.py, line 1" in line["reason"]
        hold.touch()
        assert (await task, await said()) == ("two.", "two.")
        assert len(server.errors()) == 1

        # A turn that does not end within the drain is cancelled, as at every stop. The
        # configuration is read again as well.
        task, hold = await holding()
        (tmp_path / "more.py").write_text("def answer(turn):\n    return 'more'\n")
        with (tmp_path / "resonantgenesis.toml").open("a") as file:
            file.write("more = 'more:answer'\n")
        (tmp_path / "words.py").write_text("WORD = 'three'\n")
        assert await task == "two(cancelled)"
        assert (await said(), await said("more")) == ("three.", "more")
    server.terminate()
    assert server.wait() == 0
