"""`resonantgenesis keys`, `tokens` and `organizations`: what they ask, what they write."""

from __future__ import annotations

import json

import httpx
import pytest
from cli_fake import FakeServer, Reply, as_json, failure, page
from cli_process import Cli, Process, RealServer

KEY = {
    "id": "key_1",
    "name": "app",
    "scopes": ["sessions:read"],
    "created_at": "2026-02-21T00:00:00.000000Z",
    "expires_at": None,
    "revoked_at": None,
}


def test_keys_create_writes_the_key_alone_in_a_pipe(fake: FakeServer, cli: Cli) -> None:
    made = {**KEY, "key": "rg_live_new"}
    fake.always = lambda seen: as_json(made, 201)
    got = cli("keys", "create", "--name", "app", "--scope", "sessions:read", "--expires-in", "60")
    assert got.out == "rg_live_new\n"
    assert fake.seen[0].body == {"name": "app", "scopes": ["sessions:read"], "expires_in": 60}
    assert json.loads(cli("keys", "create", "--json").out) == made
    assert fake.seen[1].body["scopes"] == [
        "agents:read",
        "events:read",
        "sessions:read",
        "sessions:write",
    ]


@pytest.mark.parametrize(
    ("said", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("45s", 45)]
)
def test_times_are_said_in_words(fake: FakeServer, cli: Cli, said: str, seconds: int) -> None:
    fake.always = lambda seen: as_json({**KEY, "key": "k", "token": "t"}, 201)
    assert cli("keys", "create", "--expires-in", said).code == 0
    assert fake.seen[0].body["expires_in"] == seconds
    assert cli("tokens", "create", "--expires-in", said).code == 0
    assert fake.seen[1].body["ttl_seconds"] == seconds


@pytest.mark.parametrize("said", ["soon", "-1", "1y", "1.5h", "", "²"])
def test_what_is_no_time_is_said(fake: FakeServer, cli: Cli, said: str) -> None:
    got = cli("keys", "create", f"--expires-in={said}")
    assert got.code == 2 and "write it like 90d" in got.err and fake.seen == []


def test_keys_are_listed_and_revoked(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page([KEY]), Reply(204), Reply(204)]
    assert cli("keys", "list").out.startswith('key_1\tapp\t["sessions:read"]\t2026-02-21T00')
    assert cli("keys", "revoke", "key_1", "a/b").code == 0
    assert [(one.method, one.path) for one in fake.seen[1:]] == [
        ("DELETE", "/v1/keys/key_1"),
        ("DELETE", "/v1/keys/a%2Fb"),
    ]


def test_tokens_are_made_and_their_key_changed(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json({"token": "a.b.c", "scopes": []}, 201)]
    got = cli("tokens", "create", "--scope", "sessions:read", "--subject", "ann", "--agent", "a")
    assert got.out == "a.b.c\n"
    assert fake.seen[0].body == {
        "scopes": ["sessions:read"],
        "ttl_seconds": 3_600,
        "subject": "ann",
        "agent_id": "a",
    }
    for option in ([], ["--end-tokens"]):
        fake.script = [as_json({"id": "abc", "created_at": "now", "former": 1})]
        assert "abc" in cli("tokens", "rotate", *option).out
        assert fake.seen[-1].path == "/v1/tokens/rotate"
        assert fake.seen[-1].body == {"end_tokens": bool(option)}


def test_organizations(fake: FakeServer, cli: Cli) -> None:
    one = {"id": "org_1", "name": "n", "created_at": "t", "disabled_at": None}
    fake.script = [as_json({**one, "key": {**KEY, "key": "rg_live_first"}}, 201), page([one])]
    assert cli("organizations", "create", "n").out == "rg_live_first\n"
    assert cli("organizations", "list").out == "org_1\tn\tt\t-\n"
    fake.always = lambda seen: as_json(one)
    for command, change in (("disable", {"disabled": True}), ("enable", {"disabled": False})):
        assert cli("organizations", command, "org_1").code == 0
        assert (fake.seen[-1].method, fake.seen[-1].body) == ("PATCH", change)
    assert cli("organizations", "rename", "org_1", "new").code == 0
    assert (fake.seen[-1].path, fake.seen[-1].body) == ("/v1/organizations/org_1", {"name": "new"})
    fake.always = lambda seen: as_json({**KEY, "key": "rg_live_again"}, 201)
    assert cli("organizations", "key", "org_1").out == "rg_live_again\n"
    assert fake.seen[-1].path == "/v1/organizations/org_1/keys"
    assert fake.seen[-1].body == {"name": "cli", "scopes": ["*"]}


def test_nodes(fake: FakeServer, cli: Cli) -> None:
    one = {"id": "node_1", "name": "web", "version": "1.0", "started_at": "t"}
    one |= {"last_seen_seconds": 0.1, "running_turns": 2, "queued_turns": 0, "open_streams": 9}
    silent = dict.fromkeys(("started_at", "running_turns", "queued_turns", "open_streams"))
    fake.script = [page([one, {**one, "id": "node_2", **silent}])] * 2
    lines = cli("nodes").out.splitlines()
    assert lines[0] == "node_1\tweb\t1.0\tt\t0.1\t2\t0\t9"
    assert lines[1] == "node_2\tweb\t1.0\t-\t0.1\t-\t-\t-"
    assert json.loads(cli("nodes", "--json").out.splitlines()[0]) == one
    assert fake.seen[-1].path == "/v1/nodes"


def test_a_missing_scope_says_how_to_get_it(fake: FakeServer, cli: Cli) -> None:
    lacking = failure(403, "FORBIDDEN", "lacks keys:read", details={"scope": "keys:read"})
    fake.script = [lacking]
    got = cli("keys", "list")
    assert (
        got.code == 3 and "`resonantgenesis keys create --scope keys:read` makes a key" in got.err
    )


def test_against_the_server(real: RealServer) -> None:
    """An organization from its making to its end, as an operator types it."""

    def run(*arguments: str, key: str = "", code: int = 0) -> str:
        own = {"RESONANTGENESIS_API_KEY": key} if key else {}
        with Process(*arguments, **{**real.environment, **own}) as command:
            assert command.wait() == code, command.out
        return command.out

    made = json.loads(run("organizations", "create", "tenant", "--json"))
    first = made["key"]["key"]
    key = run("keys", "create", "--scope", "agents:read", key=first).strip()
    assert "guide" in run("agents", "list", key=key)
    assert "keys:read" in run("keys", "list", key=key, code=3)
    listed = run("keys", "list", key=first).splitlines()
    assert len(listed) == 2
    token = run("tokens", "create", "--scope", "agents:read", key=first, code=0).strip()
    run("tokens", "rotate")
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{real.url}/v1/agents", headers=headers, trust_env=False).status_code == 200
    run("organizations", "disable", made["id"])
    run("agents", "list", key=first, code=3)
    run("organizations", "enable", made["id"])
    run("keys", "revoke", listed[0].split("\t")[0], key=first)
    run("agents", "list", key=key, code=3)
    run("organizations", "list", key=first, code=3)


def test_the_secret_is_rotated_looked_at_and_retired(fake: FakeServer, cli: Cli) -> None:
    key = {"id": "key_1", "organization_id": "org_1", "name": "app"}
    state = {
        "id": "ab",
        "rotated_at": "2026-02-21T00:00:00.000000Z",
        "former": 1,
        "coming": None,
        "unused_keys": {"count": 1, "first": [key]},
    }
    ended = {"revoked_keys": {"count": 1, "first": [key]}}
    fake.script = [*[as_json(state)] * 4, as_json(ended)]
    assert cli("rotate-secret").out.splitlines() == [
        "secret ab, since 2026-02-21T00:00:00.000000Z",
        "1 former; 1 keys were not used since",
        "key_1 org_1 app",
    ]
    assert json.loads(cli("rotate-secret", "--status", "--json").out) == state
    refused = cli("rotate-secret", "--retire")  # nobody can be asked
    assert refused.code == 2 and "--yes" in refused.err
    assert cli("rotate-secret", "--retire", "--yes").out.splitlines()[1:] == ["key_1 org_1 app"]
    assert [(one.method, one.path) for one in fake.seen] == [
        ("POST", "/v1/secret/rotate"),
        *[("GET", "/v1/secret")] * 3,
        ("POST", "/v1/secret/retire"),
    ]
    assert cli("rotate-secret", "--retire", "--status").code == 2
