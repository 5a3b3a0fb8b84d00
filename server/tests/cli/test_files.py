"""`files put|get|ls|rm`: what goes up comes down, through cuts, and nothing half-written stays."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest
from cli_fake import FakeServer, Reply, as_json, failure, page
from cli_process import COMMAND, Cli, Process, RealServer

CONTENT = os.urandom(300_000)
FILE = {
    "id": "file_1",
    "name": "report.pdf",
    "size": len(CONTENT),
    "content_type": "application/pdf",
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
    "created_at": "2026-02-21T00:00:00.000000Z",
}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def use(real: RealServer, monkeypatch: pytest.MonkeyPatch) -> RealServer:
    """The real server, found by the variables."""
    for name, value in real.environment.items():
        monkeypatch.setenv(name, value)
    return real


def test_up_and_down(use: RealServer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "ü b.bin").write_bytes(CONTENT)
    put = cli("files", "put", "ü b.bin", "--type", "application/x-mine", "--subject", "ann")
    assert (put.code, put.err) == (0, "")
    file_id = put.out.strip()
    assert put.out == f"{file_id}\n" and file_id.startswith("file_")
    listed = cli("files", "ls").out.splitlines()[0].split("\t")
    assert listed[:4] == [file_id, "ü b.bin", "300000", "application/x-mine"]
    as_line = json.loads(cli("files", "ls", "--json", "--limit", "1").out)
    assert (as_line["subject"], as_line["sha256"]) == ("ann", FILE["sha256"])
    down = tmp_path / "down"
    down.mkdir()
    got = cli("files", "get", file_id, str(down))
    assert (got.code, got.out) == (0, f"{down / 'ü b.bin'}\n")
    assert (down / "ü b.bin").read_bytes() == CONTENT and left_in(down) == ["ü b.bin"]
    # What is there is not replaced unless one says so.
    again = cli("files", "get", file_id, str(down))
    assert again.code == 2 and "--force" in again.err
    (down / "ü b.bin").write_bytes(b"changed")
    assert cli("files", "get", file_id, str(down), "--force").code == 0
    assert (down / "ü b.bin").read_bytes() == CONTENT
    assert cli("files", "get", file_id, "here.bin").out == "here.bin\n"
    assert cli("files", "rm", file_id).code == 0
    for command in (["get", file_id], ["rm", file_id]):
        missing = cli("files", *command)
        assert (missing.code, missing.out) == (5, "") and "no such file" in missing.err


def test_through_pipes(use: RealServer) -> None:
    environment = {**os.environ, **use.environment}
    put = subprocess.run(
        [*COMMAND, "files", "put", "-", "--name", "piped.txt", "--json"],
        input=CONTENT,
        capture_output=True,
        env=environment,
        check=True,
        timeout=30,
    )
    made = json.loads(put.stdout)
    assert (made["name"], made["content_type"], made["size"]) == (
        "piped.txt",
        "text/plain",
        300_000,
    )
    get = subprocess.run(
        [*COMMAND, "files", "get", made["id"], "-"],
        capture_output=True,
        env=environment,
        check=True,
        timeout=30,
    )
    assert (get.stdout, get.stderr, put.stderr) == (CONTENT, b"", b"")


def test_on_a_terminal_there_is_a_bar_and_then_what_was_made(
    use: RealServer, tmp_path: Path
) -> None:
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(48 * 1024 * 1024)
    with Process("files", "put", str(path), terminal=True, **use.environment) as process:
        assert process.wait() == 0
    assert "━" in process.out and "50.3 MB" in process.out
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", process.out).splitlines()[-5:]
    assert [line.split()[0] for line in shown] == ["id", "name", "size", "content_type", "sha256"]


def test_bad_places_and_names(use: RealServer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for arguments, code, words in (
        (["put", "none"], 2, "none: No such file"),
        (["put", "."], 2, "Is a directory"),
        (["put", "-"], 2, "--name"),
        (["put", "a", "--name", "b/c"], 2, "without a path"),
        (["put", "a", "--type", "nonsense"], 2, "content type"),
        (["get", "file_none"], 5, "no such file"),
    ):
        got = cli("files", *arguments)
        assert (got.code, got.out) == (code, ""), arguments
        assert words in got.err and got.err.count("\n") == 1, got.err
    made = cli("files", "put", "a").out.strip()
    got = cli("files", "get", made, "none/b")
    assert got.code == 2 and "No such file" in got.err


def cut(start: int, end: int, *, status: int = 206) -> Reply:
    """Bytes of the content, up to `end`, of an answer that promised one more."""
    headers = {"Content-Type": "application/pdf"}
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return Reply(status, CONTENT[start:end], headers, cut=True)


def whole(start: int = 0) -> Reply:
    reply = cut(start, len(CONTENT), status=206 if start else 200)
    return Reply(reply.status, reply.body, reply.headers)


def test_a_download_is_resumed_where_it_broke_off(
    fake: FakeServer, cli: Cli, tmp_path: Path
) -> None:
    fake.script = [
        as_json(FILE),
        cut(0, len(CONTENT) - 1, status=200),
        Reply(0),
        failure(503, "UNAVAILABLE", retry_after=0),
        whole(len(CONTENT) - 1),
    ]
    got = cli("files", "get", "file_1", "a.pdf")
    assert (got.code, (tmp_path / "a.pdf").read_bytes()) == (0, CONTENT)
    tag = f'"{FILE["sha256"]}"'
    asked = [(s.headers.get("range"), s.headers.get("if-range")) for s in fake.seen[1:]]
    assert asked == [(None, None)] + [("bytes=299999-", tag)] * 3
    # A server that knows no ranges sends what is here once more.
    fake.script = [as_json(FILE), cut(0, len(CONTENT) - 1, status=200), whole()]
    assert cli("files", "get", "file_1", "b.pdf").code == 0
    assert (tmp_path / "b.pdf").read_bytes() == CONTENT


def test_what_fails_for_good_leaves_nothing(fake: FakeServer, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"what stood there")
    damaged = Reply(200, bytes([CONTENT[0] ^ 1]) + CONTENT[1:], {})
    for script, code, words in (
        ([as_json(FILE), damaged, damaged], 4, "damaged"),
        ([as_json(FILE), failure(404, "NOT_FOUND", "no such file")], 5, "no such file"),
        ([as_json(FILE), failure(401, "UNAUTHENTICATED")], 3, "RESONANTGENESIS_API_KEY"),
    ):
        fake.script = list(script)
        got = cli("files", "get", "file_1", "a.pdf", "--force")
        assert (got.code, words in got.err) == (code, True), got.err
        assert left_in(tmp_path) == ["a.pdf"]
        assert (tmp_path / "a.pdf").read_bytes() == b"what stood there"


def test_an_upload_to_no_server_fails_at_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESONANTGENESIS_API_KEY", "key")
    (tmp_path / "a.txt").write_bytes(b"a")
    with socket.socket() as nobody:  # bound and not listening: each connection is refused
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        got = cli("files", "put", "a.txt", "--url", url)
    assert got.code == 4
    assert "no server answers at" in got.err
    assert "again" not in got.err


def test_an_upload_is_sent_again_under_the_same_key(
    fake: FakeServer, cli: Cli, tmp_path: Path
) -> None:
    content = b'{"json": "since the fake reads nothing else"}'
    (tmp_path / "a.json").write_bytes(content)
    made = FILE | {"sha256": hashlib.sha256(content).hexdigest()}
    fake.script = [Reply(0), failure(503, "UNAVAILABLE", retry_after=0), as_json(made, 201)]
    got = cli("files", "put", "a.json")
    assert (got.code, got.out) == (0, "file_1\n")
    assert len({seen.headers["idempotency-key"] for seen in fake.seen}) == 1
    assert [seen.body for seen in fake.seen] == [json.loads(content)] * 3
    fake.script = [as_json(FILE, 201)]
    wrong = cli("files", "put", "a.json")
    assert wrong.code == 1 and "something else" in wrong.err
    fake.script = [failure(413, "PAYLOAD_TOO_LARGE", "the file is over 5 bytes")]
    assert cli("files", "put", "a.json").code == 2


def test_a_servers_name_is_never_a_path(fake: FakeServer, cli: Cli, tmp_path: Path) -> None:
    fake.script = [as_json(FILE | {"name": "../../evil\x1b[2J"}), whole()]
    (tmp_path / "down").mkdir()
    assert cli("files", "get", "file_1", "down").code == 0
    assert left_in(tmp_path) == ["down"] and left_in(tmp_path / "down") == ["evil\x1b[2J"]


def test_lists(fake: FakeServer, cli: Cli) -> None:
    fake.script = [page([FILE] * 2)]
    got = cli("files", "ls", "--session", "sess_1", "--limit", "2")
    assert fake.seen[0].query == {"session_id": "sess_1", "limit": "2"}
    assert got.out.splitlines()[0].split("\t")[:3] == ["file_1", "report.pdf", "300000"]
