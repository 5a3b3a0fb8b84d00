"""`/v1/agents`."""

from __future__ import annotations

from typing import Any

import pytest
from http_harness import Serve, Service, bearer

pytestmark = pytest.mark.anyio

NEW: dict[str, Any] = {"id": "writer", "name": "Writer", "engine": "python"}


async def make(service: Service, **fields: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/agents", json={**NEW, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_an_agent_is_made_and_read(service: Service) -> None:
    answer = await service.client.post(
        "/v1/agents",
        json={
            **NEW,
            "instructions": "Be brief.",
            "model": "m",
            "tools": ["calculator"],
            "defaults": {"max_steps": 3, "timeout_seconds": 7.5, "unknown": 1},
            "unknown": True,
        },
        headers={"Prefer": "handling=lenient"},
    )
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/agents/writer"
    made = answer.json()
    assert made["created_at"] == made["updated_at"]
    assert made["created_at"].endswith("Z") and len(made["created_at"]) == 27
    assert {key: made[key] for key in made if not key.endswith("_at")} == {
        "id": "writer",
        "name": "Writer",
        "engine": "python",
        "instructions": "Be brief.",
        "model": "m",
        "tools": ["calculator"],
        "defaults": {"max_steps": 3, "timeout_seconds": 7.5},
        "source": "api",
    }
    assert (await service.client.get("/v1/agents/writer")).json() == made


async def test_an_id_is_made_up_if_none_is_given(service: Service) -> None:
    body = {"name": "a", "engine": "guide"}
    one = (await service.client.post("/v1/agents", json=body)).json()
    two = (await service.client.post("/v1/agents", json=body)).json()
    assert one["id"].startswith("agent_") and one["id"] != two["id"]


async def test_a_taken_id_is_a_conflict(service: Service) -> None:
    await make(service)
    for taken in ("writer", "guide"):
        answer = await service.client.post("/v1/agents", json={**NEW, "id": taken})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")


async def test_a_patch_changes_what_is_sent(service: Service) -> None:
    made = await make(service, model="m", tools=["a"], instructions="i")
    service.clock.ahead += 1
    answer = await service.client.patch("/v1/agents/writer", json={"name": "New", "tools": None})
    assert answer.status_code == 200
    changed = answer.json()
    assert changed["updated_at"] > made["updated_at"]
    expected = {**made, "name": "New", "tools": None, "updated_at": changed["updated_at"]}
    assert changed == expected
    second = await service.client.patch(
        "/v1/agents/writer", json={"defaults": {"max_steps": 2}, "tools": ["b"], "engine": "guide"}
    )
    assert second.json()["defaults"] == {"max_steps": 2}
    assert second.json()["tools"] == ["b"]
    for wrong in ({"name": None}, {"engine": None}, {"defaults": None}, {"engine": "none"}):
        refused = await service.client.patch("/v1/agents/writer", json=wrong)
        assert refused.status_code == 422
        assert refused.json()["error"]["details"]["fields"].keys() == wrong.keys()
    assert (await service.client.get("/v1/agents/writer")).json() == second.json()


async def test_a_deleted_agent_is_not_found(service: Service) -> None:
    await make(service)
    gone = await service.client.delete("/v1/agents/writer")
    assert (gone.status_code, gone.content) == (204, b"")
    for method in ("GET", "DELETE", "PATCH"):
        answer = await service.client.request(method, "/v1/agents/writer", json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "AGENT_NOT_FOUND")


async def test_configured_agents_are_listed_and_read_only(service: Service) -> None:
    await make(service, id="aaa")
    await make(service, id="zzz")
    listed = (await service.client.get("/v1/agents")).json()
    assert [agent["id"] for agent in listed["data"]] == ["aaa", "guide", "zzz"]
    assert [agent["source"] for agent in listed["data"]] == ["api", "configuration", "api"]
    assert (listed["has_more"], listed["next_cursor"]) == (False, None)
    for method in ("PATCH", "DELETE"):
        answer = await service.client.request(method, "/v1/agents/guide", json={"name": "x"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")


async def test_the_list_is_paged(service: Service) -> None:
    for number in range(5):
        await make(service, id=f"agent{number}")
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await service.client.get("/v1/agents", params=params)).json()
        seen += [agent["id"] for agent in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert seen == [*(f"agent{number}" for number in range(5)), "guide"]


async def test_organizations_do_not_see_each_other(service: Service) -> None:
    await make(service)
    other = await service.records.organizations.create("second")
    theirs = bearer(await service.make_key("*", organization_id=other.id))
    unknown = await service.client.get("/v1/agents/none", headers=theirs)
    for method in ("GET", "PATCH", "DELETE"):
        answer = await service.client.request(method, "/v1/agents/writer", headers=theirs, json={})
        assert answer.status_code == 404
        told, reference = answer.json()["error"], unknown.json()["error"]
        assert {**told, "request_id": ""} == {**reference, "request_id": ""}
    listed = (await service.client.get("/v1/agents", headers=theirs)).json()["data"]
    assert [agent["id"] for agent in listed] == ["guide"]
    assert (await service.client.post("/v1/agents", json=NEW, headers=theirs)).status_code == 201


async def test_a_token_bound_to_an_agent_sees_only_that_one(service: Service) -> None:
    await make(service)
    bound = bearer(await service.make_token(agent_id="writer"))
    listed = (await service.client.get("/v1/agents", headers=bound)).json()
    assert [agent["id"] for agent in listed["data"]] == ["writer"]
    assert (await service.client.get("/v1/agents/writer", headers=bound)).status_code == 200
    assert (await service.client.get("/v1/agents/guide", headers=bound)).status_code == 404
    refused = await service.client.post("/v1/agents", json={**NEW, "id": "b"}, headers=bound)
    assert refused.status_code == 403
    lost = bearer(await service.make_token(agent_id="none"))
    assert (await service.client.get("/v1/agents", headers=lost)).json()["data"] == []


# ------------------------------------------------------------------------- Idempotency-Key

KEY = {"Idempotency-Key": "once-1"}


async def test_a_repeat_gets_the_first_answer(service: Service) -> None:
    body = {"name": "a", "engine": "guide"}
    first = await service.client.post("/v1/agents", json=body, headers=KEY)
    again = await service.client.post("/v1/agents", json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    # The alias is the same resource, and unknown fields, where they may pass, are no difference.
    lenient = {**KEY, "Prefer": "handling=lenient"}
    alias = await service.client.post("/api/v1/agents", json={**body, "x": 1}, headers=lenient)
    assert alias.json() == first.json()


async def test_another_body_under_the_same_key_is_a_conflict(service: Service) -> None:
    await service.client.post("/v1/agents", json={"name": "a", "engine": "guide"}, headers=KEY)
    answer = await service.client.post(
        "/v1/agents", json={"name": "b", "engine": "guide"}, headers=KEY
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")


async def test_a_refusal_does_not_use_the_key_up(service: Service) -> None:
    taken = {**NEW, "id": "guide"}
    for _ in range(2):
        refused = await service.client.post("/v1/agents", json=taken, headers=KEY)
        assert refused.status_code == 409
    wrong = await service.client.post("/v1/agents", json={"name": "a"}, headers=KEY)
    assert wrong.status_code == 422
    assert (await service.client.post("/v1/agents", json=NEW, headers=KEY)).status_code == 201


async def test_the_key_is_free_after_its_window(service: Service) -> None:
    body = {"name": "a", "engine": "guide"}
    first = (await service.client.post("/v1/agents", json=body, headers=KEY)).json()
    service.clock.ahead += 86_400 + 1
    second = (await service.client.post("/v1/agents", json=body, headers=KEY)).json()
    assert first["id"] != second["id"]


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "a\x7f", "\xe9"])
async def test_a_malformed_key_is_refused(service: Service, key: str) -> None:
    answer = await service.client.post(
        "/v1/agents", json=NEW, headers=[(b"idempotency-key", key.encode("latin-1"))]
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["fields"].keys() == {"Idempotency-Key"}


# ----------------------------------------------------------------------------- what it leaves


async def test_defaults_that_the_engine_refuses_are_refused(service: Service) -> None:
    fast = {"words_per_second": 1_001}
    refused = await service.client.post(
        "/v1/agents", json={**NEW, "engine": "guide", "defaults": fast}
    )
    assert refused.status_code == 422
    assert refused.json()["error"]["details"]["fields"].keys() == {"defaults.words_per_second"}
    made = await make(service, defaults=fast)  # python does not know it and leaves it
    assert made["defaults"] == {"words_per_second": 1_001}
    # A patch counts together with what it leaves as it is.
    for patch in ({"engine": "guide"}, {"engine": "guide", "defaults": fast}):
        refused = await service.client.patch("/v1/agents/writer", json=patch)
        assert refused.status_code == 422, patch
    assert (await service.client.get("/v1/agents/writer")).json() == made
    slow = {"engine": "guide", "defaults": {"words_per_second": 5}}
    assert (await service.client.patch("/v1/agents/writer", json=slow)).status_code == 200
    refused = await service.client.patch("/v1/agents/writer", json={"defaults": fast})
    assert refused.status_code == 422
    unknown = await service.client.patch("/v1/agents/none", json=slow)
    assert unknown.status_code == 404
    configured = await service.client.patch("/v1/agents/guide", json={"defaults": fast})
    assert configured.status_code == 409


async def test_the_event_of_a_change_comes_before_its_answer(serve: Serve) -> None:
    settled: list[list[str]] = []

    async def settle() -> None:
        rows = await service.records.outbox.pending()
        settled.append([row.event.type for row in rows])
        await service.records.outbox.done([row.id for row in rows])

    service = await serve(settle=settle)
    await make(service)
    of = "system.audit."  # each change is an act of administration as well
    assert settled == [["agent.created", f"{of}agent.created"]]
    await service.client.patch("/v1/agents/writer", json={"name": "New"})
    await service.client.delete("/v1/agents/writer")
    words = ("created", "updated", "deleted")
    assert settled == [[f"agent.{word}", f"{of}agent.{word}"] for word in words]
    for method in ("PATCH", "DELETE"):
        await service.client.request(method, "/v1/agents/writer", json={})
    again = {"Idempotency-Key": "k"}
    for _ in range(2):
        await service.client.post("/v1/agents", json=NEW, headers=again)
    assert len(settled) == 4, "a refusal or a repeat was told"


async def test_an_event_names_who_asked(service: Service) -> None:
    token = bearer(await service.make_token())
    asked = await service.client.post(
        "/v1/agents", json=NEW, headers={**token, "X-Request-Id": "my-request-1"}
    )
    assert asked.headers["x-request-id"] == "my-request-1"
    token_made, *rows = await service.records.outbox.pending()
    assert token_made.event.type == "system.audit.token.created"
    assert [row.event.type for row in rows] == ["agent.created", "system.audit.agent.created"]
    for row in rows:
        assert row.event.metadata == {
            "organization_id": service.organization_id,
            "key_id": service.key_id,
            "request_id": "my-request-1",
        }
