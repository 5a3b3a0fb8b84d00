"""The built-in agent `guide`: real work without a key, a network or a model.

The guide computes with the calculator and answers from the packaged documentation. Equal turns
give equal chunks. A few rules decide what to do for a goal:

1. "count to N" and "lorem N" are demonstrations: N pieces of text, no tools.
2. "more" and the like continue the last search of the session.
3. Arithmetic, in signs or in words, is computed. A goal that begins with an operator
   ("and times 3?") goes on from the last result in the session.
4. The rest of the goal is looked up in the documentation. "and …?" and "what about …?" are looked
   up together with the last query.
5. A goal with neither gets a list of what the guide can do.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...model.chunks import AgentChunk, Step, ToolCall, ToolResult, Usage
from ...model.errors import InvalidRequest
from ..base import Agent, PastTurn, Turn
from ..tools.base import ToolContext, ToolRegistry
from ..tools.calculator import is_expression
from ..tools.docs_search import MAX_RESULTS, STOP_WORDS, Passage, blocks_of, terms_of
from ..tools.toolbox import embedded_tools

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

#: How much of a goal is looked through.
_MAX_TEXT = 2_000
#: How many sums of one goal are done.
MAX_EXPRESSIONS = 3
_NUMBER_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_NUMBERS = _NUMBER_NAMES.split()
_NUMBER_WORD = re.compile(rf"(?<![-\w])(?:{'|'.join(_NUMBERS)})(?![-\w])")
_N = r"(?<![\w.])[0-9]+(?:\.[0-9]+)?"
#: Signs by their words, between two operands.
_SIGN_WORDS = {
    r"(?:raised )?to the power(?: of)?": "**",
    "multiplied by|times|x": "*",
    "divided by": "/",
    "plus": "+",
    "minus": "-",
    "mod(?:ulo)?": "%",
}
#: Replacements of words by signs, in this order.
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))"), ""),
    (re.compile(rf"({_N})\s*(?:%|percent)\s+of\s+({_N})"), r"\1 * \2 / 100"),
    (re.compile(rf"(?:the )?square root of\s+({_N})"), r"\1 ** 0.5"),
    (re.compile(r"(?<=[0-9)])\s+squared\b"), " ** 2"),
    (re.compile(r"(?<=[0-9)])\s+cubed\b"), " ** 3"),
    *(
        (re.compile(rf"(?<=[0-9)])\s+(?:{words})\s+(?=[-(0-9])"), f" {sign} ")
        for words, sign in _SIGN_WORDS.items()
    ),
)
_SIGNS = str.maketrans({"×": "*", "÷": "/", "−": "-", "^": "**"})
_RUN = re.compile(r"(?<![\w.])[-+(]*[0-9.][-+*/%(). 0-9]*")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]+\.[0-9]+\.[0-9.]+")
_TIGHT = re.compile(r"[0-9]+(?:[-/][0-9]+)+")
_ASKED = re.compile(
    r"(?:please\s+)?(?:what(?:'s| is| are)|how much (?:is|are)|calculate|compute|evaluate)?\s*"
)
_COMMAND = re.compile(r"(?:please\s+)?(?:calculate|compute|evaluate)\s+(.*?[-+*/%(].*)", re.DOTALL)
_BINARY = re.compile(r"[0-9)]\s*(?:\*\*|//|[-+*/%])\s*[-+]*[(0-9.]")
_LEADS = re.compile(r"\A(?:(?:and|now|then|what about|how about)\s+)+")
_THAT = re.compile(r"\b(?:that|the result)\b")
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
#: A result stands on a line of its own in an answer; quoted lines begin with ">".
_RESULT = re.compile(r"^[^>\n].* = (-?[0-9](?:[0-9.e+-]*[0-9])?)$", re.MULTILINE)
_SMALL_TALK = "hello hi hey thanks thank ok okay yes no help good morning evening bye nice cool"
_SUMS = "calculate compute evaluate equals equal result sum value answer add number much"
_IGNORED = STOP_WORDS.union(_SMALL_TALK.split(), _SUMS.split())
#: Words per second that a request or a setting may ask for; 0 is as fast as possible.
MAX_PACE = 1_000.0
#: Results asked of a search: those quoted and those to read next.
_RESULTS = 5
#: Below this only words matched that nearly every section has.
_MIN_SCORE = 1.0
#: Words between two reports of usage, so that a cancelled turn counts too.
_USAGE_EVERY = 500
#: Words after which an unpaced stream lets others run.
_YIELD_EVERY = 256
_PIECE = re.compile(r"\s*\S+\s*")
_LOREM_IPSUM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco "
    "laboris nisi ut aliquip ex ea commodo consequat"
)
_LOREM = _LOREM_IPSUM.split()


def build(settings: Mapping[str, Any]) -> Agent:
    """A guide with the setting `words_per_second`, 0 to 1000. Raises `InvalidRequest`."""
    pace = settings.get("words_per_second")
    if pace is not None and _pace(pace) != pace:
        raise InvalidRequest.field(
            "defaults.words_per_second", f"must be a number from 0 to {MAX_PACE:g}"
        )
    return GuideAgent(pace)


class GuideAgent:
    """The guide with a pace of `words_per_second`; 0 or None is as fast as possible.

    A turn's context may hold another `words_per_second` (brought within 0 to 1000; ignored if it
    is no number), and `user_name`, which the first turn greets.
    """

    def __init__(
        self, words_per_second: float | None = None, tools: ToolRegistry | None = None
    ) -> None:
        self._words_per_second = words_per_second or 0.0
        self._tools = embedded_tools() if tools is None else tools

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        """Yield steps, tool calls and their results, then the answer word by word.

        Usage counts words as tokens. There are at most `turn.max_steps` steps.
        """
        asked = _pace(turn.context.get("words_per_second"))
        pace = _Pace(self._words_per_second if asked is None else asked)
        words = 0
        yield Usage(input_tokens=len(turn.goal.split()))
        async with aclosing(self._chunks(turn)) as chunks:
            async for chunk in chunks:
                if isinstance(chunk, str):
                    await pace.keep()
                    words += 1
                yield chunk
                if words == _USAGE_EVERY:
                    yield Usage(output_tokens=words)
                    words = 0
        if words:
            yield Usage(output_tokens=words)

    async def _chunks(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        intent = understand(turn.goal, turn.history)
        if intent.demo is not None:
            for piece in _demo_pieces(intent.demo):
                yield piece
            return
        tools = self._tools.select(turn.tools)
        calls = _plan(intent, tools, turn.turn)
        findings = Findings(greeting=_greeting(turn), goes_on=bool(intent.before))
        step: str | None = None
        for phase, name in _steps([*calls, "answer"], turn.max_steps):
            if name != step and step is not None:
                yield Step(step, "completed")
            if name != step and name is not None:
                yield Step(name, "started")
            step = name
            for call in calls.get(phase, ()):
                yield call
                result = await tools.run(call, ToolContext.of(turn))
                yield result
                _note(findings, call, result, intent.before)
        for piece in _PIECE.findall(write(findings)):
            yield piece
        if step is not None:
            yield Step(step, "completed")


class _Pace:
    """Lets one word pass per interval, without drift. Delays over a second are not made up for."""

    def __init__(self, words_per_second: float) -> None:
        self._interval = 1 / words_per_second if words_per_second > 0 else 0.0
        self._due: float | None = None
        self._passed = 0

    async def keep(self) -> None:
        if not self._interval:
            self._passed += 1
            if self._passed % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            return
        now = asyncio.get_running_loop().time()
        if self._due is None or now - self._due > 1.0:
            self._due = now
        elif now < self._due:
            await asyncio.sleep(self._due - now)
        self._due += self._interval


def _pace(value: object) -> float | None:
    """`value` brought within the bounds; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return min(max(value, 0.0), MAX_PACE)


def _plan(intent: Intent, tools: ToolRegistry, turn: int) -> dict[str, list[ToolCall]]:
    """The tool calls of each phase; phases without calls are left out."""
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        ("calculate", "calculator", {"expression": expression}) for expression in intent.expressions
    ]
    if intent.query is not None:
        limit = min(len(intent.before) * QUOTED + _RESULTS, MAX_RESULTS)
        wanted.append(("search", "docs_search", {"query": intent.query, "limit": limit}))
    plan: dict[str, list[ToolCall]] = {}
    for number, (phase, tool, args) in enumerate(wanted, start=1):
        if tool in tools:
            plan.setdefault(phase, []).append(ToolCall(tool, args, f"call_{turn}_{number}"))
    return plan


def _steps(phases: Sequence[str], max_steps: int) -> Iterator[tuple[str, str | None]]:
    """Each phase with the name of its step. If steps are too few, the last phases share one."""
    for index, phase in enumerate(phases):
        if max_steps < 1:
            yield phase, None
        else:
            yield phase, phase if index < max_steps - 1 else phases[-1]


def _note(findings: Findings, call: ToolCall, result: ToolResult, before: Sequence[str]) -> None:
    if call.tool == "calculator":
        said = result.result if result.is_error else result.result["result"]
        findings.sums.append((call.args["expression"], str(said), not result.is_error))
        return
    findings.query = call.args["query"]
    if result.is_error:
        findings.problem = str(result.result)
        return
    found = [Passage(**passage) for passage in result.result]
    findings.passages = [
        passage
        for passage in found
        if passage.score >= _MIN_SCORE and not any(is_quoted(passage, text) for text in before)
    ]


def _greeting(turn: Turn) -> str:
    name = turn.context.get("user_name")
    if turn.history or not isinstance(name, str):
        return ""
    plain = " ".join("".join(c if c.isprintable() else " " for c in name[:64]).split())
    return f"Hello {plain}. " if plain else ""


def _demo_pieces(demo: Demo) -> Iterator[str]:
    if not 1 <= demo.pieces <= MAX_PIECES:
        yield from _PIECE.findall(f"Please give me a number from 1 to {MAX_PIECES:,}.\n")
        return
    for number in range(1, demo.pieces + 1):
        word = str(number) if demo.kind == "count" else _LOREM[(number - 1) % len(_LOREM)]
        yield word if number == demo.pieces else f"{word} "


@dataclass(frozen=True, slots=True)
class Demo:
    """A demonstration: `kind` is "count" or "lorem", `pieces` the chunks of text asked for."""

    kind: str
    pieces: int


@dataclass(frozen=True, slots=True)
class Intent:
    """The work for a goal. Passages that the answers in `before` quote are not quoted again."""

    expressions: Sequence[str] = ()
    query: str | None = None
    before: Sequence[str] = ()
    demo: Demo | None = None


def understand(goal: str, history: Sequence[PastTurn]) -> Intent:
    """Decide what to do for a goal, by the rules at the top of this module."""
    text = goal.strip()
    demo = _DEMO.fullmatch(text)
    if demo is not None:
        kind = "count" if demo[1].lower().startswith("count") else "lorem"
        return Intent(demo=Demo(kind, int(demo[2].replace(",", "").replace("_", ""))))
    recent = history[-_LOOK_BACK:]
    if _is_more(text):
        return _more(recent)
    expressions, rest = _expressions(text, recent)
    # The rest of "2 + 2 and how do I …?" begins like a follow-up, but is none.
    return Intent(expressions=expressions, query=_query(rest, () if expressions else recent))


def last_result(history: Sequence[PastTurn]) -> str | None:
    """The newest result of a calculation in the answers of the session."""
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
    """The query for the documentation; None if the goal says nothing to look up."""
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


def find_expressions(text: str) -> tuple[list[str], str]:
    """The expressions in `text`, ready for the calculator, and the text without them.

    At most MAX_EXPRESSIONS, in order. After "calculate", "compute" or "evaluate" any text with an
    operator counts; the calculator then says what is wrong with it.
    """
    plain = _rewrite(text)
    meant = (run for run in _RUN.finditer(plain) if _is_meant(plain, run))
    runs = list(islice(meant, MAX_EXPRESSIONS))
    if runs:
        rest = plain
        for run in reversed(runs):
            rest = f"{rest[: run.start()]} {rest[run.end() :]}"
        return [_trim(run.group()) for run in runs], rest
    command = _COMMAND.fullmatch(plain)
    if command is not None:
        return [command[1].strip(" ?!.=")], ""
    return [], text


def continued(text: str, before: str) -> str | None:
    """The expression of a follow-up like "and times 3?" on the result `before`."""
    plain = _rewrite(text).strip(" \t\n?!.=")
    follow = _LEADS.sub("", plain)
    if follow[:1] in {"-", "+"} and find_expressions(follow)[0]:
        return None  # "-3 + 5" stands for itself
    left = f"({before})" if before.startswith("-") else before
    expression = _rewrite(f"{left} {follow}")
    if re.match(r" [-+*/%]", expression[len(left) :]):
        return expression if is_expression(expression) else None
    return _about_that(plain, before)


def _about_that(plain: str, before: str) -> str | None:
    """The expression of "12% of that": the result takes the place of the pronoun."""
    replaced = _THAT.sub(before, plain)
    if replaced == plain or find_expressions(plain)[0]:
        return None
    expressions, _ = find_expressions(replaced)
    return expressions[0] if expressions else None


def _rewrite(text: str) -> str:
    plain = " ".join(text[:_MAX_TEXT].lower().translate(_SIGNS).split())
    plain = _NUMBER_WORD.sub(lambda match: str(_NUMBERS.index(match.group())), plain)
    for pattern, replacement in _REWRITES:
        plain = pattern.sub(replacement, plain)
    return plain


def _trim(run: str) -> str:
    """The run without the full stop and the brackets of the sentence around it."""
    text = run.strip().rstrip("-+*/%. (")
    while text.endswith(")") and text.count(")") > text.count("("):
        text = text[:-1].rstrip()
    while text.startswith("(") and text.count("(") > text.count(")"):
        text = text[1:].lstrip()
    return text


def _is_meant(text: str, run: re.Match[str]) -> bool:
    """True if a run of digits and signs is arithmetic, and no date, version or range."""
    expression = _trim(run.group())
    if _BINARY.search(expression) is None or _DATE.search(expression) is not None:
        return False
    after = text[run.start() + len(run.group().rstrip()) :]
    if after[:1].isalnum() or after[:1] == "_" or not is_expression(expression):
        return False
    # "24/7" and "100-200" are sums only on their own or after a question, not in a sentence.
    if _TIGHT.fullmatch(expression) is not None:
        return _ASKED.fullmatch(text[: run.start()]) is not None
    return True


@dataclass(slots=True)
class Findings:
    """The results of the tools for one goal. A sum: expression, result or problem, success."""

    greeting: str = ""
    sums: list[tuple[str, str, bool]] = field(default_factory=list)
    query: str | None = None
    passages: list[Passage] = field(default_factory=list)
    goes_on: bool = False
    problem: str | None = None


def is_quoted(passage: Passage, answer: str) -> bool:
    """True if `answer`, written by this agent, quotes the passage."""
    return f"rom {_place(passage)}:" in answer


def write(findings: Findings) -> str:
    """The answer in Markdown; ends with a line break."""
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
    """Lines of whole blocks of `text`: the block that fits `terms` best, and its neighbours.

    Following blocks are added first, then preceding ones, up to `length` characters in all. The
    best block itself is never cut.
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
    # The first letters stand for all forms of a word: resume, resuming, resumed.
    return sum(term[:5] in lower for term in terms)
