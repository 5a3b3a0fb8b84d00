"""`/v1/organizations`: made, listed, renamed and disabled by the server's own key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from http_harness import Service, bearer, status
from resonantgenesis_server.model.errors import Unauthenticated

pytestmark = pytest.mark.anyio
PATH = "/v1/organizations"


async def make(service: Service, name: str = "second", **more: Any) -> dict[str, Any]:
    answer = await service.client.post(PATH, json={"name": name, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_one_is_made_with_its_first_key(service: Service, tmp_path: Path) -> None:
    made = await make(service, key_name="of the owner")
    key = made.pop("key")
    assert (made["name"], made["disabled_at"]) == ("second", None)
    assert (key["name"], key["scopes"], key["expires_at"]) == ("of the owner", ["*"], None)
    shown = await service.client.get(f"{PATH}/{made['id']}")
    assert shown.json() == made
    listed = (await service.client.get(PATH)).json()["data"]
    assert [one["id"] for one in listed] == [service.organization_id, made["id"]]
    # The key is the organization's own and no more than that.
    own = bearer(key["key"])
    keys = (await service.client.get("/v1/keys", headers=own)).json()["data"]
    assert [one["id"] for one in keys] == [key["id"]]
    assert await status(service, own, PATH) == 403
    for file in tmp_path.iterdir():
        assert key["key"].encode() not in file.read_bytes()


async def test_a_repeat_shows_no_key_and_makes_none(service: Service) -> None:
    headers = {"Idempotency-Key": "once"}
    for expected in (201, 409):
        answer = await service.client.post(PATH, json={"name": "n"}, headers=headers)
        assert answer.status_code == expected
    assert len((await service.client.get(PATH)).json()["data"]) == 2


async def test_disabled_its_credentials_open_nothing_until_it_is_enabled(service: Service) -> None:
    made = await make(service)
    own = bearer(made["key"]["key"])
    answer = await service.client.post("/v1/tokens", json={"scopes": ["*"]}, headers=own)
    token = bearer(answer.json()["token"])
    holder = await service.authenticator.verify(made["key"]["key"])
    for _ in range(2):
        answer = await service.client.patch(f"{PATH}/{made['id']}", json={"disabled": True})
        assert answer.status_code == 200
    since = answer.json()["disabled_at"]
    assert since is not None
    for headers in (own, token):
        assert await status(service, headers) == 401
    with pytest.raises(Unauthenticated):  # what ends the streams that are open
        await service.authenticator.recheck(holder)
    assert await status(service, bearer(service.key)) == 200
    # A change of another field leaves it as it is.
    renamed = await service.client.patch(f"{PATH}/{made['id']}", json={"name": "renamed"})
    assert (renamed.json()["name"], renamed.json()["disabled_at"]) == ("renamed", since)
    enabled = await service.client.patch(f"{PATH}/{made['id']}", json={"disabled": False})
    assert (enabled.json()["name"], enabled.json()["disabled_at"]) == ("renamed", None)
    for headers in (own, token):
        assert await status(service, headers) == 200


async def test_another_process_notices_within_a_second(service: Service) -> None:
    made = await make(service)
    own = bearer(made["key"]["key"])
    assert await status(service, own) == 200
    await service.records.organizations.update(made["id"], disabled=True)
    service.clock.ahead += 1.001
    assert await status(service, own) == 401


async def test_the_servers_own_cannot_be_disabled(service: Service) -> None:
    path = f"{PATH}/{service.organization_id}"
    answer = await service.client.patch(path, json={"disabled": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CONFLICT")
    assert (await service.client.patch(path, json={"name": "mine"})).json()["name"] == "mine"


async def test_lost_keys_are_replaced(service: Service) -> None:
    made = await make(service)
    body = {"name": "again", "scopes": ["agents:read"], "expires_in": 60}
    answer = await service.client.post(f"{PATH}/{made['id']}/keys", json=body)
    assert answer.status_code == 201 and "location" not in answer.headers
    key = answer.json()
    assert key["expires_at"] > key["created_at"]
    listed = await service.client.get("/v1/keys", headers=bearer(made["key"]["key"]))
    assert key["id"] in [one["id"] for one in listed.json()["data"]]
    assert await status(service, bearer(key["key"])) == 200
    assert await status(service, bearer(key["key"]), "/v1/keys") == 403


async def test_what_there_is_not(service: Service) -> None:
    key = {"name": "k", "scopes": ["*"]}
    for method, path, body in (
        ("GET", "", {}),
        ("PATCH", "", {"name": "k"}),
        ("POST", "/keys", key),
    ):
        for missing in ("org_none", "a%00b", "x" * 200):
            answer = await service.client.request(method, f"{PATH}/{missing}{path}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a\x00"}, {"name": 1}])
async def test_wrong_names(service: Service, body: dict[str, Any]) -> None:
    answer = await service.client.post(PATH, json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"]["fields"].keys() == {"name"}


async def test_the_list_is_paged(service: Service) -> None:
    names = [(await make(service, f"n{number}"))["name"] for number in range(4)]
    seen, cursor = [], None
    while True:
        query = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = (await service.client.get(PATH, params=query)).json()
        seen += [one["name"] for one in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert seen == ["first", *names]
