"""Web pages that a model's answer cites, each once."""

from __future__ import annotations

from collections.abc import Iterator

from ....model.chunks import Source

#: Sources of one answer; more are left out.
MAX_SOURCES = 100
#: Characters of an address. A longer one is left out, since a part of it would be another address.
_MAX_URL = 4_096
#: Characters of a title that are kept.
_MAX_TITLE = 500


class SourceList:
    """The sources of one answer. Providers repeat them, some with every piece of the answer."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, url: object, title: object = None) -> Iterator[Source]:
        """The source, if it is new and an address on the web."""
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            return
        if len(url) > _MAX_URL or url in self._seen or len(self._seen) >= MAX_SOURCES:
            return
        self._seen.add(url)
        yield Source(url, title[:_MAX_TITLE] if isinstance(title, str) else "")
