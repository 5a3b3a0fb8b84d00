"""Merge neighbouring text chunks into one, for readers that want the text and not its pace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson

from ..codec.json import dumps
from ..log.base import Entry
from ..model.chunks import is_own_text

#: Largest text of a merged chunk, in bytes of JSON. Common WebSocket clients refuse messages over
#: 1 MiB.
MERGED_BYTES = 768 * 1024
#: Bytes of a text chunk's JSON around its content.
_FRAME = len(dumps({"type": "text", "content": ""}))
_TEXT = "message"


def compact(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Merge each run of text chunks into one chunk.

    A merged chunk has the `position` of its last part, and the position of its first part in
    `from`. A run of one chunk stays unchanged. Any other chunk ends a run, so no merged chunk
    spans two turns. Texts of sub-agents stay as they are.
    """
    run: list[Entry] = []
    size = 0
    for entry in entries:
        if not is_own_text(entry.kind, entry.body):
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
