"""What the guide makes of a goal, by a few rules.

1. "count to N" and "lorem N" are demonstrations: N pieces of text, no tools.
2. "more" and the like continue the last search of the session.
3. Arithmetic, in signs or in words, is computed. A goal that begins with an operator
   ("and times 3?") goes on from the last result in the session.
4. What else the goal says is looked up in the documentation; "and …?", "what about …?" together
   with what was looked up before.
5. What has neither is answered with what the guide can do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...base import PastTurn
from ...tools.docs_search import STOP_WORDS, terms_of
from .arithmetic import continued, find_expressions

#: The most pieces a demonstration streams.
MAX_PIECES = 1_000_000

#: Earlier turns that a follow-up may go back over.
_LOOK_BACK = 20

_DEMO = re.compile(r"(count\s+to|lorem)\s+([0-9][0-9,_]{0,12})(?:\s+words)?\s*[.!?]*", re.I)
_MORE = re.compile(
    r"(?:and\s+)?(?:more|tell me more|show more|go on|continue|next|what else)(?:\s+please)?", re.I
)
_LEAD = re.compile(r"(?:and|now|then|what about|how about)\s+", re.I)
#: Results stand at the beginning of an answer; other agents' outputs may be long.
_RESULT_WITHIN = 20_000
#: How an answer shows a result, on a line of its own; what it quotes begins with ">".
_RESULT = re.compile(r"^[^>\n].* = (-?[0-9](?:[0-9.e+-]*[0-9])?)$", re.MULTILINE)
_SMALL_TALK = "hello hi hey thanks thank ok okay yes no help good morning evening bye nice cool"
_SUMS = "calculate compute evaluate equals equal result sum value answer add number much"
_IGNORED = STOP_WORDS.union(_SMALL_TALK.split(), _SUMS.split())


@dataclass(frozen=True, slots=True)
class Demo:
    """`kind` is "count" or "lorem", `pieces` how many chunks of text, as asked for."""

    kind: str
    pieces: int


@dataclass(frozen=True, slots=True)
class Intent:
    """What to do for a goal. `before`: answers whose passages are not to be quoted again."""

    expressions: Sequence[str] = ()
    query: str | None = None
    before: Sequence[str] = ()
    demo: Demo | None = None


def understand(goal: str, history: Sequence[PastTurn]) -> Intent:
    """The rules above."""
    text = goal.strip()
    demo = _DEMO.fullmatch(text)
    if demo is not None:
        kind = "count" if demo[1].lower().startswith("count") else "lorem"
        return Intent(demo=Demo(kind, int(demo[2].replace(",", "").replace("_", ""))))
    recent = history[-_LOOK_BACK:]
    if _is_more(text):
        return _more(recent)
    expressions, rest = _expressions(text, recent)
    # "2 + 2 and how do I …?" is no follow-up, though what is left of it begins like one.
    return Intent(expressions=expressions, query=_query(rest, () if expressions else recent))


def last_result(history: Sequence[PastTurn]) -> str | None:
    """The newest number that an answer of the session ended a calculation with."""
    for past in reversed(history):
        results: list[str] = _RESULT.findall(past.output[:_RESULT_WITHIN])
        if results:
            return results[-1]
    return None


def _is_more(goal: str) -> bool:
    return _MORE.fullmatch(goal.strip(" \t\n.!?…")) is not None


def _expressions(goal: str, recent: Sequence[PastTurn]) -> tuple[list[str], str]:
    before = last_result(recent)
    expression = continued(goal, before) if before is not None else None
    return ([expression], "") if expression is not None else find_expressions(goal)


def _query(rest: str, recent: Sequence[PastTurn]) -> str | None:
    """What to look up: None when nothing is left that could be asked about."""
    telling = _telling(rest)
    if not telling:
        return None
    if _LEAD.match(rest.strip()) and len(telling) <= 3:
        before = _last_query(recent)
        if before is not None:
            return f"{' '.join(telling)} {before}"
    return " ".join(telling)


def _telling(text: str) -> list[str]:
    return [term for term in terms_of(text) if term not in _IGNORED and not term.isdigit()]


def _more(recent: Sequence[PastTurn]) -> Intent:
    for turns, past in enumerate(reversed(recent), start=1):
        if not _is_more(past.goal):
            before = [earlier.output for earlier in recent[-turns:]]
            return Intent(query=_last_query([past]), before=before)
    return Intent()


def _last_query(recent: Sequence[PastTurn]) -> str | None:
    for past in reversed(recent):
        if _is_more(past.goal) or _DEMO.fullmatch(past.goal.strip()) is not None:
            continue
        _, rest = find_expressions(past.goal)
        telling = _telling(rest)
        if telling:
            return " ".join(telling)
    return None
