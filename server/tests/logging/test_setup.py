"""Whoever logs is neither stopped nor held up by it, whatever takes the lines."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from resonantgenesis_server.logging.output import MAX_WAITING, LineOutput, OutputStream
from resonantgenesis_server.logging.setup import _Lines, _Logger, hide
from resonantgenesis_server.metrics import METERS

PATIENCE = 20.0


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Reader:
    """The other end of a pipe, read only when it is asked."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.told: list[int] = []
        self.output = LineOutput(self.write_end, "stderr", self.told.append)

    def read(self, wanted: int = 1 << 20) -> bytes:
        return os.read(self.read_end, wanted)

    def read_until(self, last: bytes) -> bytes:
        text = b""
        while not text.endswith(last):
            text += self.read()
        return text


@pytest.fixture
def pipe() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    # The thread must have ended before the descriptor's number is somebody else's.
    with contextlib.suppress(OSError):
        os.close(reader.read_end)
    reader.output.close()
    if (thread := reader.output._thread) is not None:
        thread.join(10)
        assert not thread.is_alive()
    with contextlib.suppress(OSError):
        os.close(reader.write_end)


def test_lines_arrive_in_order(pipe: Reader) -> None:
    lines = [b"line %d\n" % number for number in range(2_000)]
    for line in lines:
        pipe.output.put(line)
    assert pipe.read_until(lines[-1]) == b"".join(lines)
    pipe.output.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_that_nobody_reads_drops_what_is_too_much_and_tells(
    pipe: Reader, blocking: bool
) -> None:
    os.set_blocking(pipe.write_end, blocking)
    line = b"x" * 999 + b"\n"
    before = METERS.log_dropped.counts["stderr"]
    count = MAX_WAITING // 1000 + 500
    for _ in range(count):
        pipe.output.put(line)  # would never return
    dropped = METERS.log_dropped.counts["stderr"] - before
    assert 300 < dropped <= 500
    got = 0
    while got < (count - dropped) * 1000:
        got += len(pipe.read())
    until(lambda: pipe.told == [dropped])
    pipe.output.put(b"again\n")
    assert pipe.read() == b"again\n"


def test_what_cannot_be_written_is_tried_again(
    pipe: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused = os.write, threading.Event()

    def watched(descriptor: int, data: bytes) -> int:
        try:
            return write(descriptor, data)
        except BrokenPipeError:
            refused.set()
            raise

    monkeypatch.setattr(os, "write", watched)
    os.close(pipe.read_end)  # EPIPE
    pipe.output.put(b"kept\n")
    assert refused.wait(PATIENCE)
    pipe.read_end, again = os.pipe()
    os.dup2(again, pipe.write_end)
    os.close(again)
    assert pipe.read() == b"kept\n"


@pytest.mark.parametrize("broken", ["closed", "full"])
def test_a_descriptor_that_takes_nothing(broken: str) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    if broken == "closed":
        os.close(descriptor)
        descriptor = 1_000_000
    output = LineOutput(descriptor, "stderr", lambda _count: None)
    for _ in range(100):
        output.put(b"lost\n")
    assert not output.flush(0.1)
    output.close()
    output.put(b"after the end\n")
    thread = output._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_end_writes_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    output = LineOutput(descriptor, "stderr", lambda _count: None)
    for number in range(5_000):
        output.put(b"%d\n" % number)
    assert output.flush(PATIENCE)
    output.close()
    os.close(descriptor)
    assert path.read_text().split() == [str(number) for number in range(5_000)]


def test_a_destructor_that_logs_while_a_line_is_taken(pipe: Reader) -> None:
    with pipe.output._lock:
        pipe.output.put(b"from the same thread\n")
    assert pipe.read() == b"from the same thread\n"


def test_a_child_writes_for_itself(pipe: Reader) -> None:
    pipe.output.put(b"parent\n")
    assert pipe.read() == b"parent\n"
    child = os.fork()
    if child == 0:
        try:
            pipe.output.put(b"child\n")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert pipe.read() == b"child\n"


def test_prints_go_through_the_same_thread(pipe: Reader) -> None:
    stream = OutputStream(pipe.output, lambda text: text.replace("secret", "***"))
    print("one", "secret", 3, file=stream)
    print("\ud83d no pair", file=stream)
    print("no end", end="", file=stream, flush=True)
    stream.buffer.write(b" bytes\n")
    assert pipe.read_until(b"bytes\n") == b"one *** 3\n\\ud83d no pair\nno end bytes\n"
    assert stream.fileno() == pipe.write_end and not stream.isatty()
    assert stream.encoding == "utf-8"


# -- what is logged ------------------------------------------------------------------------


class Bad:
    """Cannot be shown."""

    def __init__(self, raised: BaseException | None = None) -> None:
        self.raised = raised or ValueError("no")

    def __repr__(self) -> str:
        raise self.raised

    __str__ = __repr__


class BadError(Exception):
    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


def line_of(form: str = "json", /, **given: Any) -> str:
    return _Lines(form).of_event(None, "info", given).decode()


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "value",
    [
        Bad(),
        Bad(SystemExit()),
        Bad(KeyboardInterrupt()),
        [Bad()],
        {"deep": {"deeper": Bad()}},
        {Bad(): 1},
        "\ud800 half",
        "x" * 10_000_000,
        b"\xff" * 1_000_000,
        1 << 5_000_000,
        float("nan"),
        object(),
        {str(number): "y" * 9_000 for number in range(100)},
        [[[[[[[[]]]]]]]],
        "line\nfeed\x00\x1b[31m",
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_makes_one_line_of_bounded_size(form: str, value: object) -> None:
    line = line_of(form, event="it happens", value=value)
    assert "it happens" in line
    assert len(line) < 200_000 and line.endswith("\n")
    if form == "json":
        assert json.loads(line)["level"] == "info"
    as_event = line_of(form, event=value, key="kept")
    assert "kept" in as_event


def test_a_list_that_holds_itself() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "it happens" in line_of(event="it happens", value=loop)


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_exception_makes_one_line(form: str) -> None:
    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        raise ValueError("z" * 5_000_000)

    for error in (BadError(), BaseExceptionGroup("many", [BadError(), KeyboardInterrupt()])):
        assert type(error).__name__ in line_of(form, event="failed", exc_info=error)
    try:
        deep(300)
    except ValueError as error:
        line = line_of(form, event="failed", exc_info=error)
        assert "ValueError" in line and "characters left out" in line
        assert len(line) < 100_000


def test_nothing_of_a_secret_is_left_where_a_text_is_cut() -> None:
    secret = "Sesame-open-the-door-0123456789"
    hide(secret)
    for before in range(2_600, 2_700):
        line = line_of(event="e", value="a" * before + secret * 1_000)
        assert "Sesame" not in line.replace(secret, "") and secret not in line


def record(name: str, level: int, message: Any, *args: Any) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_lines_of_libraries() -> None:
    lines = _Lines("json")
    good = json.loads(lines.of_record(record("lib", logging.WARNING, "a %s", "b")))
    assert (good["event"], good["logger"], good["level"]) == ("a b", "lib", "warning")
    odd = json.loads(lines.of_record(record("lib", 25, "two %s %s", "one")))
    assert odd["event"] == "two %s %s" and odd["args"] == ["one"]
    assert b"lib" in lines.of_record(record("lib", logging.ERROR, Bad()))


def test_a_logger_of_structlog_that_writes_to_nobody(pipe: Reader) -> None:
    os.close(pipe.read_end)
    logger = structlog.wrap_logger(
        _Logger(pipe.output),
        processors=[_Lines("text").of_event],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    logger.error("failed", exc_info=BadError(), value=Bad())
    logger.exception("outside of any exception")
    pipe.read_end = os.open(os.devnull, os.O_RDONLY)


PROGRAM = """
import asyncio, gc, logging, os, sys, threading, warnings
from resonantgenesis_server.logging.setup import open_logs
form = sys.argv[1]
with open_logs("info", form, ["hidden-value"]):
    import structlog
    structlog.get_logger("x").info("ours", key="hidden-value")
    logging.getLogger("lib").warning("theirs hidden-value")
    warnings.warn("a warning hidden-value")
    print("printed hidden-value")
    print("complained hidden-value", file=sys.stderr)
    class Dying:
        def __del__(self):
            raise ValueError("dying hidden-value")
    Dying()
    gc.collect()
    def fails():
        raise ValueError("thread hidden-value")
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    async def main():
        async def task():
            raise ValueError("task hidden-value")
        asyncio.create_task(task())
        await asyncio.sleep(0)
        gc.collect()
    asyncio.run(main())
sys.exit(7)
"""


def run(*argv: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *argv], timeout=60, check=False, **options)


@pytest.mark.parametrize("form", ["json", "text"])
def test_everything_is_logged_and_masked(form: str) -> None:
    done = run("-c", PROGRAM, form, capture_output=True)
    assert done.returncode == 7, done.stderr
    text = done.stderr.decode()
    for word in ("ours", "theirs", "a warning", "complained", "dying", "thread", "task"):
        assert word in text
    assert done.stdout == b"printed ********\n"
    assert "hidden-value" not in text
    if form == "json":
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert sum("Traceback" in line.get("exception", "") for line in lines) == 3


@pytest.mark.parametrize("how", ["full", "closed", "reader gone", "nobody reads"])
def test_a_program_goes_on_whatever_takes_its_lines(how: str, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    if how == "nobody reads":
        os.set_blocking(write_end, False)
        while True:
            try:
                os.write(write_end, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(write_end, True)
    if how == "reader gone":
        os.close(read_end)
    if how == "full":
        os.close(write_end)
        write_end = os.open("/dev/full", os.O_WRONLY)
    try:
        if how == "closed":
            command = [sys.executable, "-c", PROGRAM, "json"]
            script = ' "$@" >&- 2>&-'
            done = subprocess.run(["sh", "-c", script, "sh", *command], timeout=60, check=False)
        else:
            done = run("-c", PROGRAM, "json", stdout=write_end, stderr=write_end)
    finally:
        os.close(write_end)
    assert done.returncode in (7, 120)  # 120: the interpreter could not flush what was its own
