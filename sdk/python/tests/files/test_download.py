"""A download over any network gives the file's bytes, each once, or says that it cannot."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis import ConnectionLost, InvalidRequest, NotFound, StreamError, Unavailable
from resonantgenesis._core.actions import (
    Answered,
    Emit,
    Ended,
    Finish,
    Lost,
    Open,
    Opened,
    Outcome,
    Read,
    Received,
    Silent,
    Wait,
    Waited,
)
from resonantgenesis._core.messages import Answer, Request
from resonantgenesis._core.settings import Settings
from resonantgenesis._files.download import MAX_DAMAGED, DownloadMachine
from resonantgenesis.models import File

SETTINGS = Settings("http://h", "k", max_retries=4)
FAULTS = [
    "none", "refuse", "lost", "silent", "cut", "reset", "stall", "whole", "flip", "long",
    "shifted", "gone-part", "other-tag", "packed",
]  # fmt: skip


class World:
    """One file behind a network that treats each connection as `faults` say."""

    def __init__(self, content: bytes, faults: list[tuple[str, int]]) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.faults = faults
        self.requests: list[Request] = []
        self.waiting: list[Outcome] = []
        self.got = bytearray()

    def file(self) -> File:
        raw = {"id": "file_1", "name": "a", "size": len(self.content), "sha256": self.sha256}
        return File(raw)

    def open(self, request: Request) -> Outcome:
        self.requests.append(request)
        fault, at = self.faults.pop() if self.faults else ("none", 0)
        if fault == "refuse":
            return Answered(Answer(503))
        if fault == "lost":
            return Lost("no")
        if fault == "silent":
            return Silent()
        if fault == "gone-part":
            return Answered(Answer(416))
        return self.treat(fault, at, request)

    def treat(self, fault: str, at: int, request: Request) -> Outcome:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        assert "If-Range" not in request.headers or request.headers["If-Range"] == self.tag
        headers = {"etag": self.tag}
        status, size = 200, len(self.content)
        if start and fault != "whole":
            status = 206
            first = start - 1 if fault == "shifted" else start
            headers["content-range"] = f"bytes {first}-{size - 1}/{size}"
        else:
            start = 0
        if fault == "other-tag":
            headers["etag"] = '"other"'
        if fault == "packed":
            headers["content-encoding"] = "gzip"
        rest = self.content[start:]
        if fault == "flip" and rest:
            rest = bytes([rest[0] ^ 1]) + rest[1:]
        if fault == "long":
            rest += b"more"
        if fault in {"cut", "reset", "stall"}:
            rest = rest[: at % (len(rest) or 1)]
        step = at % 7 + 1
        self.waiting = [Received(rest[i : i + step]) for i in range(0, len(rest), step)]
        self.waiting.append({"reset": Lost("reset"), "stall": Silent()}.get(fault, Ended()))
        return Opened(headers, status)

    @property
    def tag(self) -> str:
        return f'"{self.sha256}"'

    def run(self) -> StreamError | None:
        """The error, if the download failed; `got` is what it wrote."""
        machine = DownloadMachine(self.file(), SETTINGS, rng=lambda: 0.0)
        for _ in range(5_000):
            action = machine.next()
            if isinstance(action, Emit):
                piece = action.item
                assert piece.data and piece.offset <= len(self.got)
                self.got[piece.offset :] = piece.data
            elif isinstance(action, Finish):
                return action.error
            elif isinstance(action, Open):
                machine.give(self.open(action.request))
            elif isinstance(action, Read):
                machine.give(self.waiting.pop(0))
            elif isinstance(action, Wait):
                machine.give(Waited())
        raise AssertionError("no end")


@given(
    content=st.binary(max_size=60),
    faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 60)), max_size=12),
)
def test_whole_or_an_error(content: bytes, faults: list[tuple[str, int]]) -> None:
    world = World(content, list(faults))
    failure = world.run()
    if failure is None:
        assert bytes(world.got) == content
    else:
        assert failure.code in {"CONNECTION_LOST", "UNAVAILABLE"}
        assert len(faults) >= 2
    for request in world.requests:
        assert request.headers["Accept-Encoding"] == "identity"


@given(content=st.binary(min_size=2, max_size=60), cuts=st.lists(st.integers(1, 60), max_size=40))
def test_any_number_of_cuts_that_let_something_through(content: bytes, cuts: list[int]) -> None:
    world = World(content, [("cut", at) for at in cuts])
    # A cut that lets nothing through is no progress: at most `max_retries` of them in a row.
    world.faults = [f for f in world.faults if f[1] % len(content)]
    before = len(world.faults)
    assert world.run() is None or before > SETTINGS.max_retries
    starts = [int(r.headers.get("Range", "bytes=0-")[6:-1]) for r in world.requests]
    assert starts == sorted(starts), "what has come is never asked for again"


def test_what_has_come_is_not_asked_for_again() -> None:
    world = World(bytes(range(20)), [("cut", 5), ("reset", 7)])
    assert world.run() is None
    assert [r.headers.get("Range") for r in world.requests] == [None, "bytes=7-", "bytes=12-"]
    assert [r.headers.get("If-Range") for r in world.requests] == [None, world.tag, world.tag]


def test_a_server_that_ignores_ranges_starts_over() -> None:
    world = World(bytes(range(20)), [("whole", 3), ("cut", 15)])
    assert world.run() is None
    assert bytes(world.got) == world.content


@pytest.mark.parametrize("fault", ["flip", "long"])
def test_damaged_content_is_fetched_once_more_and_then_given_up(fault: str) -> None:
    once = World(b"content", [(fault, 5)])
    assert once.run() is None and len(once.requests) == 2
    always = World(b"content", [(fault, 5)] * 10)
    failure = always.run()
    assert isinstance(failure, ConnectionLost) and not failure.retryable
    assert len(always.requests) == MAX_DAMAGED


def test_refusals_that_are_for_good() -> None:
    for status, code, kind in (
        (404, "NOT_FOUND", NotFound),
        (422, "INVALID_REQUEST", InvalidRequest),
    ):
        machine = DownloadMachine(World(b"content", []).file(), SETTINGS)
        body = f'{{"error": {{"code": "{code}", "message": "no"}}}}'.encode()
        machine.give(Answered(Answer(status, {}, body)))
        action = machine.next()
        assert isinstance(action, Finish) and isinstance(action.error, kind)


def test_the_retries_are_bounded_and_progress_renews_them() -> None:
    world = World(b"content", [("lost", 0)] * 10)
    failure = world.run()
    assert isinstance(failure, ConnectionLost) and len(world.requests) == SETTINGS.max_retries + 1
    world = World(b"content", [("cut", 1), ("lost", 0), ("lost", 0), ("lost", 0)] * 4)
    assert world.run() is None
    world = World(b"content", [("packed", 0)] * 10)
    assert isinstance(world.run(), Unavailable)


def test_an_empty_file_needs_one_answer() -> None:
    world = World(b"", [])
    assert world.run() is None and len(world.requests) == 1
