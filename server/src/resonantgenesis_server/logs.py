"""Structured logs on standard error: text for people, JSON lines for machines.

Lines carry `request_id` and `key_id` of the request they belong to, and `session` and `turn` of
the turn: whoever begins one binds them to its task (structlog's contextvars).

No line shows a secret: every line is looked through as a whole before it is written, those of
libraries and the words of foreign exceptions included. Tracebacks are without local variables.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable

import structlog

MASK = "********"
#: Shorter values are words that happen to be set, and masking them would tell what they are.
_MIN_SECRET = 8
#: Variables that hold a secret, by the ends of their names.
_SECRET_VARIABLE = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)", re.IGNORECASE)
#: What looks like a credential, whoever's it is: ours, a signed token, a provider's key, and
#: what follows the name of an authorization scheme.
_PATTERNS = (
    r"\brg_(?:live|test)_[\w-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|\bsk-[\w-]{16,}"
    r"|(?<=bearer )[^\s\"'\\,;]{12,}|(?<=basic )[^\s\"'\\,;]{12,}"
)


class _Hidden:
    """What no line may show."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = re.compile(_PATTERNS, re.IGNORECASE)

    def add(self, values: Iterable[str]) -> None:
        new = {value for value in values if len(value) >= _MIN_SECRET}
        # As a line of JSON or the representation of a string shows them.
        self._values |= new | {json.dumps(value)[1:-1] for value in new}
        known = sorted(self._values, key=len, reverse=True)
        exact = "|".join(map(re.escape, known))
        self._pattern = re.compile(f"{exact}|{_PATTERNS}" if exact else _PATTERNS, re.IGNORECASE)

    def mask(self, text: str) -> str:
        return self._pattern.sub(MASK, text)


_HIDDEN = _Hidden()


def hide(*secrets: str) -> None:
    """Mask these in every line from now on."""
    _HIDDEN.add(secrets)


def configure_logs(level: str, form: str, secrets: Iterable[str] = ()) -> None:
    """`level` is a name of the logging module, `form` is text or json.

    `secrets`, and the values of variables whose names say that they are secret, are never shown.
    """
    hide(*secrets, *_in_variables())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, _renderer(form), _masked],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries speak through the standard module; only what matters of them is shown.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_of_libraries(shared, form))
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)


def _renderer(form: str) -> structlog.types.Processor:
    if form == "json":
        return structlog.processors.JSONRenderer()
    # The default shows local variables, which hold credentials.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _of_libraries(shared: list[structlog.types.Processor], form: str) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _renderer(form),
            _masked,
        ],
    )


def _masked(
    _logger: structlog.types.WrappedLogger, _name: str, rendered: structlog.types.EventDict
) -> str:
    """The last processor: what comes from the renderer is text."""
    return _HIDDEN.mask(str(rendered))


def _in_variables() -> list[str]:
    return [value for name, value in os.environ.items() if _SECRET_VARIABLE.fullmatch(name)]
