"""Neighbouring text chunks merged into one, for readers who want the text and not the pace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from ..codec.json import dumps
from ..log.base import Entry

#: A merged chunk's text stays within this, in bytes of JSON: common WebSocket clients take no
#: message over 1 MiB.
MERGED_BYTES = 768 * 1024
#: What a text chunk's JSON takes around its content.
_FRAME = len(dumps({"type": "text", "content": ""}))
_TEXT = "message"


def compact(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The same log with runs of text chunks as one each.

    A merged chunk has the `position` of its last part and `from`, that of its first; a run of one
    stays as it is. Runs end at every other chunk, so never reach over the end of a turn.
    """
    run: list[Entry] = []
    size = 0
    for entry in entries:
        if entry.kind != _TEXT:
            yield from _merged(run)
            run, size = [], 0
            yield entry
            continue
        size += len(entry.body) - _FRAME
        if run and size > MERGED_BYTES:
            yield from _merged(run)
            run, size = [], len(entry.body) - _FRAME
        run.append(entry)
    yield from _merged(run)


def _merged(run: list[Entry]) -> Iterator[Entry]:
    if len(run) < 2:
        yield from run
        return
    content = "".join([orjson.loads(entry.body)["content"] for entry in run])
    body = dumps({"type": "text", "content": content, "from": run[0].position})
    yield Entry(run[-1].position, _TEXT, body, run[-1].at)
