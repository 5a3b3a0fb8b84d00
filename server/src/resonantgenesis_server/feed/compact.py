"""Neighbouring text chunks merged into one, for readers who want the text and not the pace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from ..codec.json import dumps
from ..log.base import Entry

#: A merged chunk's text stays within this, in bytes.
MERGED_BYTES = 256 * 1024
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
        if run and size + len(entry.body) > MERGED_BYTES:
            yield from _merged(run)
            run, size = [], 0
        run.append(entry)
        size += len(entry.body)
    yield from _merged(run)


def _merged(run: list[Entry]) -> Iterator[Entry]:
    if len(run) < 2:
        yield from run
        return
    content = "".join([orjson.loads(entry.body)["content"] for entry in run])
    body = dumps({"type": "text", "content": content, "from": run[0].position})
    yield Entry(run[-1].position, _TEXT, body, run[-1].at)
