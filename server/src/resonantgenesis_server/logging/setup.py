"""Structured logs on standard error: text for people, JSON lines for machines.

Lines carry `request_id` and `key_id` of their request (`request_fields`), and `session` and `turn`
of their turn. The code that begins a turn binds them to its task (structlog's contextvars).

No line shows a secret: every line is searched as a whole before it is written, with lines of
libraries and texts of foreign exceptions. Tracebacks are without local variables.

Logging neither fails nor blocks: a value that cannot be shown is named, a huge value is cut, and a
thread writes the lines (`output.py`). This holds for libraries, warnings, prints of agents, and
uncaught exceptions as well.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog

from .. import metrics
from .masking import Hidden, secret_variables
from .output import LineOutput, OutputStream, open_standard_descriptors

#: The fields of lines outside requests.
NO_REQUEST: Mapping[str, str] = MappingProxyType({})
#: The fields of the lines that are written while a request is answered. One variable, since each
#: request sets it.
request_fields: ContextVar[Mapping[str, str]] = ContextVar("request_fields", default=NO_REQUEST)

#: Characters of one value, of a traceback, of a line; items of a list and depth of a value.
_MAX_TEXT, _MAX_TRACEBACK, _MAX_LINE = 8_000, 32_000, 64_000
_MAX_ITEMS, _MAX_DEPTH = 30, 4
#: Longer than any secret, so that a cut leaves no part of one that no pattern matches.
_MARGIN = 4_096
#: Whole numbers of more bits are not shown: the time for digits grows with the square of their
#: count.
_MAX_BITS = 1_000
#: Seconds for the last lines.
_LAST_LINES = 2.0

#: By their descriptors.
_NAMES = {1: "stdout", 2: "stderr"}
_OF_ERRORS = {"exc_info", "stack_info"}

_HIDDEN = Hidden()
_ALL: list[LineOutput] = []
_log = structlog.get_logger("resonantgenesis.log")


def hide(*secrets: str) -> None:
    """Mask these secrets in every line from now on."""
    _HIDDEN.add(secrets)


@contextlib.contextmanager
def open_logs(
    level: str, form: str, secrets: Iterable[str] = (), fields: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Log within the block. At its end the lines that wait get some seconds to be written.

    `level` is a name of the logging module, `form` is text or json. `secrets`, and the values of
    variables with names of secrets, are never shown. `fields` are on every line. Within the block
    `sys.stdout` and `sys.stderr` are replaced.
    """
    hide(*secrets, *secret_variables())
    open_standard_descriptors()
    stdout, stderr = (LineOutput(number, name, _recovered(name)) for number, name in _NAMES.items())
    _configure(level, _Lines(form, fields), stderr)
    _ALL[:] = [stdout, stderr]
    before = sys.stdout, sys.stderr, sys.unraisablehook, threading.excepthook
    sys.stdout, sys.stderr = (OutputStream(each, _HIDDEN.mask) for each in _ALL)
    sys.unraisablehook, threading.excepthook = _unraisable, _thread_ended
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        flush_logs()
        sys.stdout, sys.stderr, sys.unraisablehook, threading.excepthook = before
        for each in _ALL:
            each.close()


def say(line: str) -> None:
    """Write a line to standard output unchanged, for a person."""
    if _ALL:
        _ALL[0].put(f"{line}\n".encode("utf-8", "backslashreplace"))
    else:
        sys.stdout.write(f"{line}\n")


def flush_logs() -> None:
    """Wait until all logged and printed lines are written, some seconds at most."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # an agent may have closed or replaced it
            stream.flush()
    ends_at = time.monotonic() + _LAST_LINES
    for each in _ALL:
        each.flush(ends_at - time.monotonic())


def _configure(level: str, lines: _Lines, output: LineOutput) -> None:
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[lines.of_event],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_names: _Logger(output),
        cache_logger_on_first_use=True,
    )
    # Libraries log through the standard module; only their warnings and errors are shown.
    handler = _Handler(lines, output)
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


class _Logger:
    """The logger that structlog calls."""

    def __init__(self, output: LineOutput) -> None:
        self._output = output

    def msg(self, line: bytes) -> None:
        self._output.put(line)

    debug = info = warning = error = critical = exception = msg


class _Handler(logging.Handler):
    """The handler of the standard module's records."""

    def __init__(self, lines: _Lines, output: LineOutput) -> None:
        super().__init__()
        self._lines = lines
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        self._output.put(self._lines.of_record(record))


class _Lines:
    """Makes lines of events and records. Never raises, whatever they hold."""

    def __init__(self, form: str, fields: Mapping[str, Any] | None = None) -> None:
        self._fields = fields or {}
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        self._render: structlog.types.Processor
        if form == "json":
            self._render = structlog.processors.JSONRenderer()
        else:
            # The default shows local variables, which hold credentials.
            is_terminal = os.isatty(2)
            self._render = structlog.dev.ConsoleRenderer(
                colors=is_terminal, exception_formatter=structlog.dev.plain_traceback
            )

    def of_event(
        self, _logger: structlog.types.WrappedLogger, level: str, event: structlog.types.EventDict
    ) -> bytes:
        """The only processor of structlog."""
        return self._line("error" if level == "exception" else level, event)

    def of_record(self, record: logging.LogRecord) -> bytes:
        event: dict[str, Any] = {"logger": record.name, "exc_info": record.exc_info}
        try:
            event["event"] = record.getMessage()
        except BaseException:  # the arguments do not fit, or cannot be shown
            event["event"] = record.msg
            event["args"] = record.args
        return self._line(record.levelname.lower(), event)

    def _line(self, level: str, event: Mapping[str, Any]) -> bytes:
        try:
            bound = structlog.contextvars.get_contextvars()
            line = self._rendered(level, {**self._fields, **request_fields.get(), **bound, **event})
        except BaseException as error:  # an agent's values may raise anything
            words = {"event": "a line cannot be shown", "raised": type(error).__name__}
            line = self._rendered(level, words)
        return line.encode("utf-8", "backslashreplace") + b"\n"

    def _rendered(self, level: str, given: Mapping[str, Any]) -> str:
        event = {name: _shown(value) for name, value in given.items() if name not in _OF_ERRORS}
        event["event"] = _cut(str(event.get("event", "")), _MAX_TEXT)
        error = _exc_info(given.get("exc_info"))
        if error is not None:
            event["exception"] = _cut(_traceback(error), _MAX_TRACEBACK)
        event["level"] = level
        line = str(self._render(None, level, dict(self._stamp(None, level, event))))
        if len(line) > _MAX_LINE + _MAX_TRACEBACK:
            few = {name: event[name] for name in ("event", "level", "timestamp")}
            line = str(self._render(None, level, {**few, "left_out": "the line was too long"}))
        return _HIDDEN.mask(line)


def _shown(value: object, depth: int = _MAX_DEPTH) -> Any:
    """The value for a line: short, and of plain types."""
    try:
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int) and value.bit_length() < _MAX_BITS:
            return value
        if depth and isinstance(value, Mapping):
            some = list(value.items())[:_MAX_ITEMS]
            return {str(_shown(name, 0)): _shown(each, depth - 1) for name, each in some}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [_shown(each, depth - 1) for each in list(value)[:_MAX_ITEMS]]
        return _cut(str(value) if isinstance(value, str) else repr(value), _MAX_TEXT)
    except BaseException:
        return f"<{type(value).__name__} that cannot be shown>"


def _exc_info(given: object) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3:
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exception() if given else None


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error)).rstrip("\n")
    except BaseException:
        return f"{type(error).__name__}, which cannot be shown"


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a long text, without parts of a secret."""
    if len(text) <= limit + 3 * _MARGIN:
        return text
    head = _HIDDEN.mask(text[: limit // 3 + _MARGIN])[:-_MARGIN]
    tail = _HIDDEN.mask(text[-(limit * 2 // 3) - _MARGIN :])[_MARGIN:]
    return f"{head} … {len(text) - limit} characters left out … {tail}"


def _recovered(name: str) -> Any:
    def report(lines: int) -> None:
        _log.warning(f"{lines} lines were dropped", lines=lines, output=name)

    return report


def _unraisable(found: sys.UnraisableHookArgs, /) -> None:
    metrics.defect("other")
    _log.error(
        "an exception that nobody can catch",
        where=found.object,
        said=found.err_msg,
        exc_info=found.exc_value,
    )


def _thread_ended(found: threading.ExceptHookArgs, /) -> None:
    if found.exc_type is SystemExit:
        return
    name = None if found.thread is None else found.thread.name
    _log.error("a thread ended", thread=name, exc_info=found.exc_value)
