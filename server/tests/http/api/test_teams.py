"""`/v1/teams`."""

from __future__ import annotations

from typing import Any

import pytest
from http_harness import Service, bearer

pytestmark = pytest.mark.anyio

NEW: dict[str, Any] = {
    "id": "desk",
    "name": "Desk",
    "strategy": "sequential",
    "members": [{"agent_id": "guide"}],
}
AGENT = {"id": "writer", "name": "Writer", "engine": "guide"}


async def make(service: Service, **fields: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/teams", json={**NEW, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_team_is_made_read_changed_and_deleted(service: Service) -> None:
    made = await make(service, members=[{"agent_id": "guide", "role": "writer"}])
    assert (made["on_failure"], made["lead"], made["description"]) == ("fail", None, None)
    assert made["defaults"] == {"max_steps": 100, "timeout_seconds": 600.0}
    assert (await service.client.get("/v1/teams/desk")).json() == made
    assert (await service.client.get("/v1/teams")).json()["data"] == [made]
    await service.client.post("/v1/agents", json=AGENT)
    changes: dict[str, Any] = {
        "strategy": "hierarchical",
        "members": [{"agent_id": "guide"}, {"agent_id": "writer"}],
        "lead": "writer",
        "description": "News.",
    }
    changed = await service.client.patch("/v1/teams/desk", json=changes)
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["name"], body["lead"], body["description"]) == ("Desk", "writer", "News.")
    assert (await service.client.delete("/v1/teams/desk")).status_code == 204
    for method in ("GET", "DELETE"):
        assert (await service.client.request(method, "/v1/teams/desk")).status_code == 404
    assert (await service.client.patch("/v1/teams/desk", json={})).status_code == 404


async def test_a_team_is_an_agent_that_only_teams_change(service: Service) -> None:
    await make(service, description="News.")
    agent = (await service.client.get("/v1/agents/desk")).json()
    assert (agent["engine"], agent["description"]) == ("team", "News.")
    listed = (await service.client.get("/v1/agents")).json()["data"]
    assert [each["id"] for each in listed] == ["desk", "guide"]
    for method, body in (("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = await service.client.request(method, "/v1/agents/desk", json=body)
        assert answer.status_code == 409
        assert "/v1/teams" in answer.json()["error"]["message"]
    await service.client.post("/v1/agents", json=AGENT)
    assert (await service.client.get("/v1/teams/writer")).status_code == 404
    assert (await service.client.delete("/v1/teams/writer")).status_code == 404
    for path, body in (("/v1/agents", {**AGENT, "id": "desk"}), ("/v1/teams", NEW)):
        assert (await service.client.post(path, json=body)).status_code == 409
    refused = await service.client.post("/v1/agents", json={**AGENT, "id": "x", "engine": "team"})
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"members": []}, "members"),
        ({"members": [{"agent_id": "guide"}] * 2}, "members"),
        ({"members": [{"agent_id": f"a{n}"} for n in range(33)]}, "members"),
        ({"members": [{"agent_id": "guide"}, {"agent_id": "nobody"}]}, "members.1.agent_id"),
        ({"members": [{"agent_id": "other"}]}, "members.0.agent_id"),
        ({"members": [{"agent_id": "guide", "role": "x" * 201}]}, "members.0.role"),
        ({"lead": "guide"}, "lead"),
        ({"strategy": "hierarchical"}, "lead"),
        ({"strategy": "hierarchical", "lead": "guide"}, "members"),
        ({"strategy": "round"}, "strategy"),
        ({"on_failure": "retry"}, "on_failure"),
        ({"description": "x" * 4_001}, "description"),
        ({"defaults": {"max_steps": 1_001}}, "defaults.max_steps"),
    ],
)
async def test_a_team_that_could_not_run_is_refused(
    service: Service, fields: dict[str, Any], named: str
) -> None:
    """Also a team in a team: there is no circle."""
    await make(service, id="other")
    answers = [await service.client.post("/v1/teams", json={**NEW, **fields})]
    answers.append(await service.client.patch("/v1/teams/other", json=fields))
    for answer in answers:
        assert answer.status_code == 422, answer.text
        assert list(answer.json()["error"]["details"]["fields"]) == [named]


async def test_a_repeat_under_a_key_makes_one_team(service: Service) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {name: value for name, value in NEW.items() if name != "id"}
    one, two = [
        (await service.client.post("/v1/teams", json=body, headers=headers)).json()
        for _ in range(2)
    ]
    assert one == two and one["id"].startswith("team_")


async def test_organizations_and_tokens_see_their_own(service: Service) -> None:
    await make(service)
    other = await service.records.organizations.create("second")
    stranger = bearer(await service.make_key("*", organization_id=other.id))
    assert (await service.client.get("/v1/teams", headers=stranger)).json()["data"] == []
    for method in ("GET", "DELETE"):
        answer = await service.client.request(method, "/v1/teams/desk", headers=stranger)
        assert answer.status_code == 404
    elsewhere = await service.client.post("/v1/teams", json=NEW, headers=stranger)
    assert elsewhere.status_code == 201
    reader = await service.make_token(scopes=["teams:read"], agent_id="guide", ttl_seconds=60)
    assert (await service.client.get("/v1/teams", headers=bearer(reader))).json()["data"] == []
    answer = await service.client.get("/v1/teams/desk", headers=bearer(reader))
    assert answer.status_code == 404
    own = await service.make_token(scopes=["teams:read"], agent_id="desk", ttl_seconds=60)
    page = (await service.client.get("/v1/teams", headers=bearer(own))).json()
    assert [each["id"] for each in page["data"]] == ["desk"]
    bound = await service.make_token(scopes=["teams:write"], subject="u", ttl_seconds=60)
    refused = await service.client.delete("/v1/teams/desk", headers=bearer(bound))
    assert refused.status_code == 403
    lesser = await service.make_key("agents:write")
    refused = await service.client.delete("/v1/teams/desk", headers=bearer(lesser))
    assert refused.json()["error"]["details"]["scope"] == "teams:write"
