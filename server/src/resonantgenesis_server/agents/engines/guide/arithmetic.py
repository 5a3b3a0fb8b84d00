"""Finds arithmetic in a sentence, written in signs or in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

from ...tools.calculator import is_expression

#: How much of a goal is looked through.
_MAX_TEXT = 2_000
#: How many sums of one goal are done.
MAX_EXPRESSIONS = 3

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_WORDS = _NUMBERS.split()
_NUMBER_WORD = re.compile(rf"(?<![-\w])(?:{'|'.join(_WORDS)})(?![-\w])")

_N = r"(?<![\w.])[0-9]+(?:\.[0-9]+)?"
_POWER = r"(?:raised\s+)?to the (?:power(?: of)?)"
_Replacement = str | Callable[[re.Match[str]], str]

#: Words become signs, in this order.
_REWRITES: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))"), ""),
    (_NUMBER_WORD, lambda match: str(_WORDS.index(match.group()))),
    (re.compile(rf"({_N})\s*(?:%|percent)\s+of\s+({_N})"), r"\1 * \2 / 100"),
    (re.compile(rf"(?:the )?square root of\s+({_N})"), r"\1 ** 0.5"),
    (re.compile(rf"({_N})\s+squared\b"), r"\1 ** 2"),
    (re.compile(rf"({_N})\s+cubed\b"), r"\1 ** 3"),
    (re.compile(rf"(?<=[0-9)])\s+{_POWER}\s+(?=[-(0-9])"), " ** "),
    (re.compile(r"(?<=[0-9)])\s+(?:multiplied by|times|x)\s+(?=[-(0-9])"), " * "),
    (re.compile(r"(?<=[0-9)])\s+divided by\s+(?=[-(0-9])"), " / "),
    (re.compile(r"(?<=[0-9)])\s+plus\s+(?=[-(0-9])"), " + "),
    (re.compile(r"(?<=[0-9)])\s+minus\s+(?=[-(0-9])"), " - "),
    (re.compile(r"(?<=[0-9)])\s+mod(?:ulo)?\s+(?=[-(0-9])"), " % "),
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
_FOLLOW = re.compile(
    r"(?:(?:and|now|then|what about|how about)\s+)*"
    r"(?:(?P<sign>\*\*|//|[*/%^×÷])|(?P<lone>[-+])"
    r"|(?P<word>times|multiplied by|divided by|plus|minus|mod(?:ulo)?"
    rf"|{_POWER}|squared|cubed))"
    r"\s*(?P<rest>.*)",
    re.DOTALL,
)
_THAT = re.compile(r"\b(?:that|the result)\b")
_WORD_SIGNS = {"times": "*", "multiplied by": "*", "divided by": "/", "plus": "+", "minus": "-"}
_WHOLE = {"squared": "** 2", "cubed": "** 3"}


def find_expressions(text: str) -> tuple[list[str], str]:
    """The expressions in `text`, ready for the calculator, and the text without them.

    At most MAX_EXPRESSIONS, in their order. After "calculate", "compute" or "evaluate" whatever
    holds an operator counts: the calculator then says what is wrong with it.
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
    match = _FOLLOW.fullmatch(plain)
    if match is None:
        return _about_that(plain, before)
    left = _operand(before)
    rest = _rewrite(match["rest"]).strip()
    word = match["word"]
    if word in _WHOLE:
        return f"{left} {_WHOLE[word]}" if not rest else None
    if match["lone"] is not None and find_expressions(f"{match['lone']}{rest}")[0]:
        return None  # "-3 + 5" stands for itself
    sign = match["sign"] or match["lone"] or _WORD_SIGNS.get(word) or _long_sign(word)
    expression = f"{left} {sign} {rest}"
    return expression if is_expression(expression) else None


def _about_that(plain: str, before: str) -> str | None:
    """ "12% of that": the result takes the pronoun's place."""
    replaced = _THAT.sub(before, plain)
    if replaced == plain or find_expressions(plain)[0]:
        return None
    found, _ = find_expressions(replaced)
    return found[0] if found else None


def _operand(number: str) -> str:
    return f"({number})" if number.startswith("-") else number


def _long_sign(word: str) -> str:
    return "%" if word.startswith("mod") else "**"


def _rewrite(text: str) -> str:
    plain = " ".join(text[:_MAX_TEXT].lower().translate(_SIGNS).split())
    for pattern, replacement in _REWRITES:
        plain = pattern.sub(replacement, plain)
    return plain


def _trim(run: str) -> str:
    """The run without what belongs to the sentence: its full stop, its brackets."""
    text = run.strip().rstrip("-+*/%. (")
    while text.endswith(")") and text.count(")") > text.count("("):
        text = text[:-1].rstrip()
    while text.startswith("(") and text.count("(") > text.count(")"):
        text = text[1:].lstrip()
    return text


def _is_meant(text: str, run: re.Match[str]) -> bool:
    """Whether a run of digits and signs is arithmetic, and not a date, a version or a range."""
    expression = _trim(run.group())
    if _BINARY.search(expression) is None or _DATE.search(expression) is not None:
        return False
    after = text[run.start() + len(run.group().rstrip()) :]
    if after[:1].isalnum() or after[:1] == "_" or not is_expression(expression):
        return False
    # "24/7" and "100-200" within a sentence are not sums; on their own, or asked for, they are.
    if _TIGHT.fullmatch(expression) is not None:
        return _ASKED.fullmatch(text[: run.start()]) is not None
    return True
