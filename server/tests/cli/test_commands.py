"""The commands: what they ask, what they write, with which code they exit."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from cli_fake import (
    KEY,
    SESSION,
    FakeServer,
    Reply,
    Seen,
    as_json,
    events,
    failure,
    page,
    turn_of,
)
from cli_process import COMMAND, Cli, Outcome
from resonantgenesis import Reconnection
from resonantgenesis_server.cli import chat, main
from resonantgenesis_server.cli.client import Patience

ROW = {
    "session_id": SESSION,
    "agent_id": "guide",
    "status": "completed",
    "turns": 2,
    "updated_at": "2026-02-21T00:00:00.000000Z",
}
TURN = turn_of("Hel", "lo\x1b[2J")


def test_sessions_list_pages_and_is_lines_with_tabs(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page([ROW] * 200, "c_2"), page([ROW] * 50)]
    got = cli("sessions", "list", "--limit", "250", "--agent", "guide", "--search", "a b")
    assert got.code == 0
    lines = got.out.splitlines()
    assert len(lines) == 250
    assert lines[0].split("\t") == [SESSION, "guide", "completed", "2", ROW["updated_at"]]
    assert fake.seen[0].query == {"agent_id": "guide", "search": "a b", "limit": "200"}
    assert fake.seen[1].query == fake.seen[0].query | {"limit": "50", "cursor": "c_2"}
    assert fake.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_lists_as_json(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page([ROW])]
    assert json.loads(cli("sessions", "list", "--json").out) == ROW
    fake.script = [page([{"id": "guide", "name": "Gu\tide", "engine": "guide", "source": "api"}])]
    assert cli("agents", "list").out == "guide\tGu ide\tguide\tapi\n"


def test_sessions_show(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json({**ROW, "output": "line\nnext\x1b]0;x\x07"})]
    got = cli("sessions", "show", SESSION)
    assert "status      completed\n" in got.out
    assert got.out.endswith("\n\nline\nnext]0;x\n")
    assert fake.seen[0].path == f"/v1/sessions/{SESSION}"


def _said(turn: int, role: str, *texts: str, **more: object) -> dict[str, object]:
    parts = [{"type": "text", "content": text} for text in texts]
    return {"role": role, "turn": turn, "status": "success", "parts": parts, **more}


def test_sessions_messages(fake: FakeServer, cli: Cli) -> None:
    older = page([_said(1, "user", "hi"), _said(1, "assistant", "Hel", "lo\x1b[2J")])
    call = {"type": "tool_call", "tool": "t", "args": {}, "call_id": "c"}
    newer = [
        _said(2, "user", "again", replaced_by=3),
        _said(2, "assistant", status="failed") | {"parts": [call]},
    ]
    fake.script = [page(newer, "0.2"), older]
    got = cli("sessions", "messages", SESSION, "--limit", "3")
    assert got.out.splitlines() == [
        *("agent (turn 1)", "Hello[2J", ""),
        *("user (turn 2, replaced by turn 3)", "again", ""),
        *("agent (turn 2, failed, 1 tool call)", "", ""),
    ]
    assert fake.seen[0].query == {"limit": "3"}
    assert fake.seen[1].query == {"limit": "1", "cursor": "0.2"}
    fake.script = [page(newer)]
    got = cli("sessions", "messages", SESSION, "--json")
    assert [json.loads(line) for line in got.out.splitlines()] == newer


def test_sessions_fork(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json(ROW), as_json(ROW)]
    assert cli("sessions", "fork", SESSION, "--turn", "2").out == f"{SESSION}\n"
    assert json.loads(cli("sessions", "fork", SESSION, "--json").out) == ROW
    assert fake.seen[0].path == f"/v1/sessions/{SESSION}/fork"
    assert [seen.body for seen in fake.seen] == [{"turn": 2}, {}]


def test_an_id_cannot_lead_elsewhere(fake: FakeServer, cli: Cli) -> None:
    assert cli("sessions", "show", "../agents?x=1").code == 5
    assert fake.seen[0].path == "/v1/sessions/..%2Fagents%3Fx%3D1"


def test_sessions_stream_writes_text_and_a_summary_beside_it(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json(ROW), events(TURN), Reply(204)]
    got = cli("sessions", "stream", SESSION, "--from", "0")
    assert got.out == "● step 1: answer\nHello[2J\n"
    assert "success, 1 step in 1.2 s, position 4" in got.err
    assert fake.seen[1].query == {"resume_from": "0"}


def test_sessions_stream_as_json_is_every_chunk(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json(ROW), events(TURN)]
    got = cli("sessions", "stream", SESSION, "--turn", "1", "--json")
    assert [json.loads(line) for line in got.out.splitlines()] == TURN
    assert fake.seen[1].query == {"turn": "1"}


def test_sessions_stream_where_nothing_follows(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json(ROW), Reply(204)]
    got = cli("sessions", "stream", SESSION, "--from", "4")
    assert (got.code, got.out) == (0, "")
    assert "nothing follows position 4" in got.err


def test_sessions_cancel(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json({"session_id": SESSION, "cancelled": [2], "status": "cancelled"})]
    assert cli("sessions", "cancel", SESSION, "--turn", "2").out == "cancelled turn 2\n"
    assert fake.seen[0].body == {"turn": 2}
    fake.script = [as_json({"session_id": SESSION, "cancelled": [], "status": "completed"})]
    assert cli("sessions", "cancel", SESSION).out == "no turn runs or waits\n"
    fake.script = [as_json({})]
    assert cli("sessions", "cancel", SESSION).code == 1


@pytest.mark.parametrize(
    ("reply", "code", "says"),
    [
        (failure(401, "UNAUTHENTICATED", "bad key"), 3, "bad key; set RESONANTGENESIS_API_KEY"),
        (failure(403, "FORBIDDEN", "lacks it"), 3, "lacks it; use a key that has the scope"),
        (failure(404, "SESSION_NOT_FOUND", "none"), 5, "none; `resonantgenesis sessions list`"),
        (failure(404, "NOT_FOUND", "no such file"), 5, "no such file; `resonantgenesis files ls`"),
        (failure(404, "NOT_FOUND", "there is no such key"), 5, "`resonantgenesis keys list`"),
        (failure(409, "CONFLICT", "it was answered"), 1, "it was answered\n"),
        (failure(422, "INVALID_REQUEST", "status: no"), 2, "status: no"),
        (failure(500, "INTERNAL", "oops"), 1, "oops (request req_7); the server's log"),
        (failure(503, "UNAVAILABLE", "draining"), 1, "UNAVAILABLE: draining"),
        (failure(418, "TEAPOT", "new\nto us"), 1, "TEAPOT: new to us"),
        (Reply(502, b"<html>"), 4, "answered 502 and is no ResonantGenesis server; check --url"),
        (Reply(413, b"<html>"), 2, "takes no body of this size (413), and it was not the server"),
        (Reply(431, b"<html>"), 2, "takes no header fields of this size (431)"),
        (Reply(302, b"", {"Location": "https://else.example/x"}), 4, "points to else.example;"),
        (Reply(200, b"<html>"), 4, "no ResonantGenesis server; check --url"),
        (Reply(200, b"[]"), 4, "no ResonantGenesis server; check --url"),
        (Reply(0), 4, "broke off"),
    ],
)
def test_errors_are_one_line_with_what_to_do_next(
    fake: FakeServer, cli: Cli, reply: Reply, code: int, says: str
) -> None:
    fake.script = [reply]
    got = cli("sessions", "show", SESSION)
    assert got.code == code
    assert got.out == ""
    assert says in got.err
    assert got.err.startswith("resonantgenesis: ") and got.err.count("\n") == 1


def test_no_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", KEY)
    got = cli("agents", "list", "--url", "http://127.0.0.1:1")
    assert got.code == 4
    assert "no server answers at http://127.0.0.1:1; start one with" in got.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["sessions", "stream"],
        ["sessions", "list", "--limit", "0"],
        ["sessions", "list", "--what"],
        ["serve", "--port", "x"],
        ["serve", "--port", "70000"],
        ["serve", "--agent", "x"],
        ["serve", "--agent", "x=a:b", "--agent", "x=a:c"],
        ["serve", "--config", "nowhere.toml"],
        ["config", "--config", "nowhere.toml"],
        ["agents", "list", "--url", "ftp://x"],
    ],
)
def test_usage_errors_are_one_line_and_2(
    cli: Cli, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", KEY)
    got = cli(*arguments)
    assert (got.code, got.out) == (2, "")
    assert got.err.startswith("resonantgenesis: ") and got.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["sessions"], ["keys"]])
def test_a_command_without_its_word_shows_its_help_and_no_error(
    cli: Cli, arguments: list[str]
) -> None:
    got = cli(*arguments)
    assert got.code == 2
    assert "Usage: " in got.out + got.err
    assert "resonantgenesis: " not in got.err


@pytest.mark.parametrize(
    ("status", "code"), [("success", 0), ("failed", 1), ("timeout", 1), ("cancelled", 1)]
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_the_exit_code_of_a_stream_is_that_of_its_last_turn(
    fake: FakeServer, cli: Cli, status: str, code: int, more: list[str]
) -> None:
    turn = turn_of("Hello", status="failed")
    last = turn_of("again", first=len(turn) + 1, turn=2, status=status)
    fake.script = [as_json(ROW), events([*turn, *last]), Reply(204)]
    assert cli("sessions", "stream", SESSION, "--from", "0", *more).code == code


@pytest.mark.parametrize(("status", "code"), [("success", 0), ("failed", 1)])
def test_chat_in_a_pipe(
    fake: FakeServer, cli: Cli, monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    turn = turn_of("Hello", status=status)
    for more, out in (([], "● step 1: answer\nHello\n"), (["--json"], None)):
        monkeypatch.setattr("sys.stdin", io.StringIO("Say hello.\n"))
        fake.script = [as_json({"session_id": SESSION}, 201), events(turn)]
        got = cli("chat", *more)
        assert got.code == code
        if out is None:
            assert [json.loads(line) for line in got.out.splitlines()] == turn
        else:
            assert got.out == out


def test_an_interrupt_before_the_first_chunk_brings_no_earlier_turn(
    fake: FakeServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Patience):
        def __call__(self, reconnection: Reconnection) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(chat, "Patience", Interrupted)
    monkeypatch.setattr("sys.stdin", io.StringIO("Say hello.\n"))
    silent = events([], hang=True, turn=2)
    silent.headers["X-Heartbeat-Seconds"] = "0.05"
    cancelled = as_json({"session_id": SESSION, "cancelled": [2], "status": "cancelled"})
    last = turn_of("Hello", first=9, turn=2, status="cancelled")
    fake.script = [as_json({"session_id": SESSION}, 201), silent, cancelled, events(last, turn=2)]
    got = cli("chat")
    assert (got.code, got.out) == (1, "● step 1: answer\nHello\n")
    assert fake.seen[2].body == {"turn": 2}
    assert fake.seen[3].query == {"turn": "2"}


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out == "resonantgenesis 0.1.0\n"
    got = cli("--help")
    assert got.code == 0
    for command in ("serve", "config", "demo", "chat", "sessions", "events", "agents", "keys"):
        assert f" {command} " in got.out
    assert "4 network" in " ".join(got.out.split())


def test_config_shows_where_settings_come_from(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_BOOTSTRAP_KEY", "never-to-be-shown-at-all")
    monkeypatch.setenv("RESONANTGENESIS_PROT", "1")
    (tmp_path / "f.toml").write_text("port = 5\n")
    got = cli("config", "--config", "f.toml")
    lines = got.out.splitlines()
    assert "port\t5\tfile f.toml" in lines
    assert "host\t127.0.0.1\tdefault" in lines
    assert "bootstrap_key\t********\tvariable RESONANTGENESIS_BOOTSTRAP_KEY" in lines
    assert "never-to-be-shown" not in got.out + got.err
    assert "RESONANTGENESIS_PROT is no setting and does nothing; did you mean" in got.err


def test_config_check_tells_only_what_is_wrong(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "f.toml").write_text("port = 5\n")
    assert cli("config", "--check", "--config", "f.toml") == Outcome(0, "", "")
    (tmp_path / "g.toml").write_text("port = 'x'\nprot = 1\n")
    got = cli("config", "--check", "--config", "g.toml")
    assert (got.code, got.out, got.err.count("\n")) == (2, "", 1)
    assert "port: " in got.err and "prot: there is no such setting; did you mean port?" in got.err
    monkeypatch.setenv("RESONANTGENESIS_PROT", "1")
    got = cli("config", "--check", "--config", "f.toml")
    assert got.code == 2 and "RESONANTGENESIS_PROT is no setting and does nothing" in got.err
    monkeypatch.delenv("RESONANTGENESIS_PROT")
    (tmp_path / "h.toml").write_text("tls_cert = 'none.pem'\ntls_key = 'none.pem'\n")
    got = cli("config", "--check", "--config", "h.toml")
    assert got.code == 2 and "tls_cert none.pem, tls_key none.pem: " in got.err
    monkeypatch.setenv("RESONANTGENESIS_WORKERS", "2")
    assert "workers: 2 are not possible" in cli("config", "--check").err


def test_colour_on_a_terminal_only_and_not_under_no_color(
    fake: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(seen: Seen) -> Reply:
        return events(TURN) if seen.path.endswith("/stream") else as_json(ROW)

    fake.always = answer
    outputs = []
    for variables in ({}, {"FORCE_COLOR": "1"}, {"FORCE_COLOR": "1", "NO_COLOR": "1"}):
        with monkeypatch.context() as patch:
            patch.setenv("TERM", "xterm-256color")
            for name, value in variables.items():
                patch.setenv(name, value)
            assert main(["sessions", "stream", SESSION]) == 0
        outputs.append(capsys.readouterr().out)
    assert ["\x1b[34m" in output for output in outputs] == [False, True, False]


@pytest.mark.parametrize("command", [["config"], ["--help"]])
def test_an_output_on_a_full_disk(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *command],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "resonantgenesis: the output cannot be written (No space left on device);"
        " make room, or write elsewhere\n"
    )


def test_teams_create_and_delete(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json({"id": "desk", "name": "desk"}, 201)]
    got = cli(
        *("teams", "create", "a=writer", "b", "--id", "desk"),
        *("--strategy", "hierarchical", "--lead", "b", "--continue"),
    )
    assert (got.code, got.out) == (0, "desk\n")
    assert fake.seen[0].body == {
        "id": "desk",
        "name": "desk",
        "strategy": "hierarchical",
        "members": [{"agent_id": "a", "role": "writer"}, {"agent_id": "b", "role": None}],
        "lead": "b",
        "on_failure": "continue",
    }
    fake.script = [Reply(204)]
    assert cli("teams", "delete", "desk").out == "deleted desk\n"
    assert (fake.seen[1].method, fake.seen[1].path) == ("DELETE", "/v1/teams/desk")


def test_agents_create_and_delete(fake: FakeServer, cli: Cli) -> None:
    fake.script = [as_json({"id": "helper", "name": "helper"}, 201)]
    got = cli(
        *("agents", "create", "helper", "--model", "openai:m", "--tool", "calculator"),
        *("--defaults", '{"max_steps": 5}'),
    )
    assert (got.code, got.out) == (0, "helper\n")
    assert fake.seen[0].body == {
        "id": "helper",
        "name": "helper",
        "engine": "llm",
        "model": "openai:m",
        "tools": ["calculator"],
        "defaults": {"max_steps": 5},
    }
    fake.script = [Reply(204)]
    assert cli("agents", "delete", "helper").out == "deleted helper\n"
    assert (fake.seen[1].method, fake.seen[1].path) == ("DELETE", "/v1/agents/helper")


def test_agents_create_over_http_shows_the_secret(fake: FakeServer, cli: Cli) -> None:
    made = {"id": "mirror", "name": "mirror", "secret": "whsec_c2VjcmV0"}
    fake.script = [as_json(made, 201)]
    got = cli("agents", "create", "mirror", "--endpoint", "https://a.example/turns")
    assert (got.code, got.out) == (0, "mirror\nwhsec_c2VjcmV0\n")
    assert fake.seen[0].body == {
        "id": "mirror",
        "name": "mirror",
        "engine": "http",
        "url": "https://a.example/turns",
    }


def test_sessions_delete(fake: FakeServer, cli: Cli) -> None:
    fake.script = [Reply(204)]
    assert cli("sessions", "delete", SESSION).out == f"deleted {SESSION}\n"
    assert (fake.seen[0].method, fake.seen[0].path) == ("DELETE", f"/v1/sessions/{SESSION}")


def test_sessions_export_ends_where_the_log_ended(fake: FakeServer, cli: Cli) -> None:
    later = [{"type": "text", "content": "later", "position": len(TURN) + 1}]
    expired = failure(410, "POSITION_EXPIRED", details={"earliest": 2})
    fake.script = [as_json({**ROW, "position": len(TURN)}), expired, events([*TURN[1:], *later])]
    got = cli("sessions", "export", SESSION)
    assert got.code == 0
    assert [json.loads(line) for line in got.out.splitlines()] == TURN[1:]
    assert "before position 2 were trimmed" in got.err
    assert fake.seen[1].query["resume_from"] == "0" and fake.seen[2].query["resume_from"] == "1"


def test_the_console_is_named_only_where_there_is_one(fake: FakeServer, cli: Cli) -> None:
    made = as_json({"code": "eyJ", "path": "/console/#sign-in=eyJ", "expires_at": "2026"}, 201)
    fake.script = [made, Reply(200, b"<html>")]
    assert cli("console").out == f"{fake.url}/console/#sign-in=eyJ\n"
    fake.script = [made, failure(404, "NOT_FOUND")]
    got = cli("console")
    assert (got.code, got.out) == (1, "")
    assert "`make site`" in got.err
