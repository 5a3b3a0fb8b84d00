"""How the guide puts what it found into words (Markdown)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...tools.docs_search import Passage, blocks_of, terms_of

#: Characters of a passage that are quoted, to the next end of a paragraph.
_QUOTE = 900
_QUOTE_SECOND = 300
#: Passages quoted in one answer, and named after it.
QUOTED = 2
_NAMED = 3
#: How well the second passage must fit, beside the first, to be quoted too.
_CLOSE = 0.6

CAPABILITIES = """\
I answer questions about this streaming server from its own documentation, and I do sums. Try:

- "How do I resume a stream after my connection broke?"
- "What is 12% of 250, and how do I cancel a turn?"
- "and times 3?" or "more", to go on from my last answer
- "count to 100", to watch a stream
"""


@dataclass(slots=True)
class Findings:
    """What the tools gave for one goal. `sums`: expression, result or problem, whether done."""

    greeting: str = ""
    sums: list[tuple[str, str, bool]] = field(default_factory=list)
    query: str | None = None
    passages: list[Passage] = field(default_factory=list)
    goes_on: bool = False
    problem: str | None = None


def is_quoted(passage: Passage, answer: str) -> bool:
    """Whether `answer`, written here, quotes the passage."""
    return f"rom {_place(passage)}:" in answer


def write(findings: Findings) -> str:
    """The answer; ends with a line break."""
    parts = [_sums(findings), _looked_up(findings)]
    text = "\n\n".join(part.strip("\n") for part in parts if part) or CAPABILITIES.strip("\n")
    return f"{findings.greeting}{text}\n"


def _sums(findings: Findings) -> str:
    done = [f"{expression} = {said}" for expression, said, ok in findings.sums if ok]
    refused = [
        f"I could not compute {expression}: {said}."
        for expression, said, ok in findings.sums
        if not ok
    ]
    opening = ["I have worked it out with the calculator:\n"] if done else []
    return "\n".join([*opening, *done, *([""] if done and refused else []), *refused])


def _looked_up(findings: Findings) -> str:
    if findings.query is None:
        return ""
    if findings.problem is not None:
        return f"I could not look it up: {findings.problem}."
    if not findings.passages:
        about = findings.query if len(findings.query) <= 100 else f"{findings.query[:100]}…"
        if findings.goes_on:
            return f"That is all the documentation says about “{about}”."
        return f"I found nothing about “{about}” in the documentation.\n\n{CAPABILITIES}"
    return _quoted(findings, terms_of(findings.query))


def _quoted(findings: Findings, terms: Sequence[str]) -> str:
    first, *others = findings.passages
    opening = "Here is more on that." if findings.goes_on else "The documentation has this."
    parts = [f"{opening} From {_place(first)}:", _quote(first, terms, _QUOTE)]
    if others and _fits_too(others[0], first, terms):
        second = others.pop(0)
        parts += [f"And from {_place(second)}:", _quote(second, terms, _QUOTE_SECOND)]
    if others:
        places = "; ".join(_place(passage) for passage in others[:_NAMED])
        parts.append(f"Read next: {places}.")
    return "\n\n".join(parts)


def _fits_too(second: Passage, first: Passage, terms: Sequence[str]) -> bool:
    covered = _hits(f"{second.title}\n{second.section}\n{second.text}", terms)
    return second.score >= _CLOSE * first.score and 2 * covered >= len(terms)


def _place(passage: Passage) -> str:
    page = f"*{passage.title}* ({passage.page}.md)"
    return page if passage.section == passage.title else f"“{passage.section}” in {page}"


def _quote(passage: Passage, terms: Sequence[str], length: int) -> str:
    return "\n".join(f"> {line}".rstrip() for line in excerpt(passage.text, terms, length))


def excerpt(text: str, terms: Sequence[str], length: int) -> list[str]:
    """Lines of whole blocks of `text`: the one that fits `terms` best, and those around it.

    What follows the best block comes along, then what leads to it, while all stays within
    `length` characters; the best block itself is never cut.
    """
    blocks = blocks_of(text)
    if not blocks:
        return []
    first = max(range(len(blocks)), key=lambda i: (_hits(blocks[i], terms), -i))
    last, size = first, len(blocks[first])
    while last + 1 < len(blocks) and size + len(blocks[last + 1]) <= length:
        last += 1
        size += len(blocks[last])
    while first > 0 and (size + len(blocks[first - 1]) <= length or blocks[first - 1][-1] == ":"):
        first -= 1
        size += len(blocks[first])
    return "\n\n".join(blocks[first : last + 1]).splitlines()


def _hits(block: str, terms: Sequence[str]) -> int:
    lower = block.lower()
    # The first letters stand for the word's forms: resume, resuming, resumed.
    return sum(term[:5] in lower for term in terms)
