"""What a search of sessions finds, the same on every database.

A session has a text: its agent, its subject, the beginning of its first goal and the values of its
metadata. Text and query are folded here, so no database's idea of letters matters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, true

from . import tables
from .base import SessionRecord

#: Characters of a session's text.
_TEXT = 2_000


def folded(text: str) -> str:
    """The text as it is compared: without case, width and composition."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return plain.replace("\0", " ")  # which PostgreSQL cannot keep


def text_of(session: SessionRecord) -> str:
    """The folded text that a search looks through."""
    parts = [session.agent_id, session.subject or "", session.first_goal]
    size = sum(map(len, parts))
    for value in _values(session.metadata):
        if size >= _TEXT:
            break
        parts.append(value[:_TEXT])
        size += len(value)
    return folded("\n".join(parts))[:_TEXT]


def _values(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The texts and numbers in it, in their order."""
    waiting: list[Any] = [metadata]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping):
            waiting.extend(reversed([*value.values()]))
        elif isinstance(value, (list, tuple)):
            waiting.extend(reversed(value))
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            yield str(value)


@dataclass(frozen=True, slots=True)
class Search:
    """Sessions whose id begins with `prefix`, or whose text has each of the words somewhere."""

    prefix: str
    words: frozenset[str]

    @classmethod
    def of(cls, query: str) -> Search:
        return cls(query.strip(), frozenset(folded(query).split()))

    def finds(self, session: SessionRecord) -> bool:
        text = text_of(session)
        return session.id.startswith(self.prefix) or all(word in text for word in self.words)

    def condition(self) -> ColumnElement[bool]:
        """Of a row of the sessions."""
        columns = tables.sessions.c
        has_words = (columns.search_text.contains(word, autoescape=True) for word in self.words)
        # Not LIKE: for SQLite `sess_A` is like `sess_a`.
        is_named = func.substr(columns.id, 1, len(self.prefix)) == self.prefix
        return or_(is_named, and_(true(), *has_words))
