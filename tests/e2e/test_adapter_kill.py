"""An agent of pydantic-ai that waits twice, with a kill in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from resonantgenesis import SyncResonantGenesis
from support.models import Call, FakeProvider, Reply
from support.server import KEY, Serve

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pydantic_ai_agent" / "agent.py"


def test_it_goes_on_behind_its_second_wait(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(EXAMPLE, tmp_path / "desk_agent.py")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("MODEL", "openai-chat:m")
    with FakeProvider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        calls = [Call("refund", {"order": number}, f"call-{number}") for number in (1, 2)]
        provider.answer("m", *(Reply(calls=[call]) for call in calls), Reply.saying("Both."))
        server = serve(agents={"desk": "desk_agent:answer"})
        with SyncResonantGenesis(api_key=KEY, base_url=server.url, max_retries=30) as client:
            stream = client.sessions.execute_stream(agent_id="desk", goal="x")
            chunks = list(stream)
            session = str(stream.session_id)
            client.sessions.input(session, "call-1", approved=True)
            chunks += client.sessions.join(session, resume_from=chunks[-1].position)
            server.kill()
            server.start()
            client.sessions.input(session, "call-2", approved=True)
            chunks += client.sessions.join(session, resume_from=chunks[-1].position)
    results = [chunk.result for chunk in chunks if chunk.type == "tool_result"]
    assert results == ["order 1 is paid back", "order 2 is paid back"]
    assert chunks[-1].output == "Both."
