"""A calculator that any stranger may use: numbers and operators, no names, no calls.

The text is parsed by Python's own grammar and walked by hand, so precedence is the familiar one.
Sizes are bounded before anything is computed: no expression takes more than a few milliseconds.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from .base import JsonValue, ToolContext, ToolError, text_argument

MAX_LENGTH = 500
#: Depth of the syntax tree. A sum of n numbers is n deep, and no deeper one fits in MAX_LENGTH.
MAX_DEPTH = 250
#: Bits of the largest whole number: 1,233 digits, below Python's own bound for printing one.
MAX_BITS = 4096
#: Whole numbers beyond this lose digits in readers that keep numbers as doubles (RFC 8259, 6).
_SAFE_INTEGER = 2**53 - 1

Number = int | float

_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})
_TOKEN = re.compile(
    r"\s+|[0-9][0-9_]*(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?(?![\w.])|\.[0-9]+(?:[eE][+-]?[0-9]+)?(?![\w.])"
    r"|\*\*|//|[-+*/%^()]"
)
_NAME = re.compile(r"[^\W\d]\w*")


class CalculatorError(ToolError):
    """The expression was refused or has no result. The message says why."""


def evaluate(expression: str) -> Number:
    """The value of an expression of numbers, `+ - * / // % **` and parentheses.

    `^` also stands for the power, and `× ÷ −` for their operators. Raises `CalculatorError`, and
    nothing else, for everything else: names, calls, division by zero, numbers too large.
    """
    try:
        return _value(_parse(expression).body, 0)
    except ZeroDivisionError:
        raise CalculatorError("division by zero") from None
    except OverflowError:
        raise CalculatorError("the result is too large") from None
    except RecursionError:  # the caller's own stack is nearly full
        raise CalculatorError("the expression is nested too deeply") from None


def is_expression(text: str) -> bool:
    """True if `text` is an expression, with or without a value."""
    try:
        _parse(text)
    except CalculatorError:
        return False
    return True


def show(value: Number) -> str:
    """A result for people: whole numbers in full, others to 15 significant digits."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) <= _SAFE_INTEGER:
        return str(int(value))
    return f"{value:.15g}"


def _parse(expression: str) -> ast.Expression:
    if len(expression) > MAX_LENGTH:
        raise CalculatorError(f"the expression is longer than {MAX_LENGTH} characters")
    text = expression.translate(_SIGNS)
    _check_tokens(text)
    # A line break would end a Python expression; here it is a space.
    text = " ".join(text.replace("^", "**").split())
    try:
        return ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CalculatorError("this is not an arithmetic expression") from None


def _check_tokens(text: str) -> None:
    """Refuses, by its name, whatever is not a number, an operator or a parenthesis."""
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is not None:
            position = token.end()
            continue
        name = _NAME.match(text, position)
        if name is not None:
            raise CalculatorError(f"names and calls are refused: {name.group()!r}")
        raise CalculatorError(f"unexpected {text[position]!r}")


def _value(node: ast.expr, depth: int) -> Number:
    if depth > MAX_DEPTH:
        raise CalculatorError("the expression is nested too deeply")
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.UnaryOp(op=ast.USub()):
            return -_value(node.operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd()):
            return _value(node.operand, depth + 1)
        case ast.BinOp():
            operate = _OPERATORS.get(type(node.op))
            if operate is not None:
                left = _value(node.left, depth + 1)
                return _bounded(operate(left, _value(node.right, depth + 1)))
    raise CalculatorError("only numbers, + - * / // % ** and parentheses are allowed")


def _bounded(number: Number) -> Number:
    if isinstance(number, int):
        if number.bit_length() > MAX_BITS:
            raise CalculatorError("the result is too large")
    elif not math.isfinite(number):
        raise CalculatorError("the result is too large")
    return number


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length() - 1)
    return left * right


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(base) > 1:  # |base| >= 2 ** (bits - 1), so the power has at least this many bits
            _refuse_bits((base.bit_length() - 1) * exponent)
        return int(base**exponent)
    result = base**exponent
    if isinstance(result, complex):
        raise CalculatorError("the result is not a real number")
    return float(result)


def _refuse_bits(at_least: int) -> None:
    if at_least > MAX_BITS:
        raise CalculatorError("the result is too large")


_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: _multiply,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: _power,
}


class Calculator:
    """The tool `calculator`."""

    name = "calculator"
    description = "Computes an arithmetic expression exactly: + - * / // % ** and parentheses."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"expression": {"type": "string", "maxLength": MAX_LENGTH}},
        "required": ["expression"],
        "additionalProperties": False,
    }

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """`{expression, result}`; a whole number too long for a double is text."""
        expression = text_argument(args, "expression", MAX_LENGTH)
        value = evaluate(expression)
        shown = show(value)
        result: JsonValue = shown
        if isinstance(value, float):
            result = float(shown)
        if shown.lstrip("-").isdigit() and abs(value) <= _SAFE_INTEGER:
            result = int(shown)
        return {"expression": expression, "result": result}
