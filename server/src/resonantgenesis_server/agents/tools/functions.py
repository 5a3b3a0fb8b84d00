"""Tools that are Python functions, named in the configuration as MODULE:FUNCTION.

The function's name and docstring become the tool's, its signature the JSON Schema, by pydantic.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from ..loading import AgentLoadError, attribute_of
from .base import JsonValue, ToolContext, ToolError, in_thread

#: Seconds that a function which was cancelled gets to end.
_GRACE = 0.5
_MAX_PROBLEMS = 5
#: Characters; some model providers take no more.
_MAX_DESCRIPTION = 1_024


class ToolLoadError(Exception):
    """A reference does not lead to a function that can be a tool. The message is one line."""


def load_tool(name: str, reference: str) -> FunctionTool:
    """The tool `name` of `MODULE:FUNCTION`. Imports the module. Raises `ToolLoadError`."""
    try:
        found = attribute_of(reference)
    except AgentLoadError as exc:
        raise ToolLoadError(str(exc).removeprefix("agent ")) from exc
    if not callable(found) or inspect.isclass(found):
        what = "a class" if inspect.isclass(found) else f"a {type(found).__name__}"
        raise ToolLoadError(f"{reference!r}: a tool is a function, and this is {what}")
    if inspect.isasyncgenfunction(found):
        raise ToolLoadError(f"{reference!r}: a tool returns its result, and this one yields")
    return FunctionTool(name, found)


class _Untitled(GenerateJsonSchema):
    """Titles that only repeat the names would cost models tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Signature:
    """`positional` parameters are given by place; `context` is the parameter for ToolContext."""

    arguments: TypeAdapter[dict[str, Any]]
    schema: dict[str, Any]
    positional: tuple[str, ...]
    context: str | None


class FunctionTool:
    """A tool that calls a function: `async` ones on the event loop, others each in a thread.

    A parameter annotated `ToolContext` gets the turn's and is not an argument. The return value
    becomes JSON as pydantic does it. An attribute `needs_approval` of the function, a bool or a
    function of the arguments, says which calls a person has to approve. The function may raise
    `ToolError` to tell the agent what is wrong. Raises `ToolLoadError` for a signature that has no
    schema. To be closed.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self._is_async = _is_async(function)
        self.needs_approval: bool | Callable[[Mapping[str, Any]], bool] = getattr(
            function, "needs_approval", False
        )
        documented = read_docstring(inspect.getdoc(_documented(function)))
        self.description = documented.summary[:_MAX_DESCRIPTION] or name.replace("_", " ")
        self._signature = _read_signature(name, function, documented)
        self._tasks: set[asyncio.Task[JsonValue]] = set()

    @property
    def parameters(self) -> Mapping[str, Any]:
        return self._signature.schema

    async def call(self, args: Mapping[str, Any], context: ToolContext) -> JsonValue:
        """The result of the function. Raises `ToolError`, and the exceptions of the function."""
        call = self._bound(args, context)
        if self._is_async:
            return await self._in_task(self._on_loop(call))
        result = await in_thread(lambda: self._called(call), f"tool {self.name}")
        if not isinstance(result, Awaitable):
            return result
        # A plain function may return something async: decorated ones do.
        return await self._in_task(self._on_loop(lambda: result))

    async def _in_task(self, work: Coroutine[Any, Any, JsonValue]) -> JsonValue:
        task = asyncio.create_task(work, name=f"tool {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            # A function that ignores its cancellation must not hold up its caller.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_GRACE)
            raise

    async def close(self) -> None:
        """Cancel the calls that still run, and wait for them a moment."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE)

    def _called(self, call: Callable[[], Any]) -> JsonValue | Awaitable[Any]:
        """In a thread, where its JSON is made too."""
        result = call()
        return result if isinstance(result, Awaitable) else _jsonable(self.name, result)

    async def _on_loop(self, call: Callable[[], Awaitable[Any]]) -> JsonValue:
        try:
            return _jsonable(self.name, await call())
        except SystemExit as exc:  # would end the server's event loop
            raise RuntimeError(f"tool {self.name} raised SystemExit") from exc

    def _ended(self, task: asyncio.Task[JsonValue]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller's affair, if it is still there

    def _bound(self, args: Mapping[str, Any], context: ToolContext) -> Callable[[], Any]:
        try:
            values = self._signature.arguments.validate_python(dict(args))
        except ValidationError as exc:
            raise ToolError(_problems(self.name, exc)) from exc
        if self._signature.context is not None:
            values[self._signature.context] = context
        places = [values.pop(name) for name in self._signature.positional if name in values]
        return functools.partial(self._function, *places, **values)


def _read_signature(name: str, function: Callable[..., Any], documented: Documented) -> _Signature:
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(_documented(function), include_extras=True)
    except (ValueError, TypeError, NameError) as exc:
        raise ToolLoadError(f"tool {name}: its signature cannot be read: {exc}") from exc
    fields: dict[str, Any] = {}
    positional: list[str] = []
    context: str | None = None
    for parameter in signature.parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise ToolLoadError(f"tool {name}: {parameter} has no schema; name its parameters")
        hint = hints.get(parameter.name, Any)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(parameter.name)
        if hint is ToolContext:
            context = parameter.name
        else:
            fields[parameter.name] = _field(parameter, hint, documented)
    try:
        arguments = TypeAdapter(_arguments(name, fields))
        schema = arguments.json_schema(schema_generator=_Untitled)
    except (PydanticUserError, TypeError) as exc:
        why = str(exc).splitlines()[0]
        raise ToolLoadError(f"tool {name}: its signature has no JSON Schema: {why}") from exc
    for noise in ("title", "description"):
        schema.pop(noise, None)
    return _Signature(arguments, schema, tuple(positional), context)


def _arguments(name: str, fields: dict[str, Any]) -> Any:
    """The type of the arguments: a TypedDict, in which a parameter may have any name."""
    make: Any = TypedDict  # type checkers know only a TypedDict whose fields stand in the source
    kind = make(f"{name}_arguments", fields)
    kind.__pydantic_config__ = ConfigDict(extra="forbid")
    return kind


def _field(parameter: inspect.Parameter, hint: Any, documented: Documented) -> Any:
    about: dict[str, Any] = {}
    if parameter.name in documented.parameters:
        about["description"] = documented.parameters[parameter.name]
    if parameter.default is inspect.Parameter.empty:
        return Annotated[hint, Field(**about)]
    try:
        about["json_schema_extra"] = {"default": to_jsonable_python(parameter.default)}
    except PydanticSerializationError:
        about.pop("json_schema_extra", None)
    return NotRequired[Annotated[hint, Field(**about)]]


def _problems(name: str, error: ValidationError) -> str:
    problems = [
        f"{'.'.join(str(part) for part in each['loc']) or 'arguments'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False)[:_MAX_PROBLEMS]
    ]
    return f"{name} was called with wrong arguments: {'; '.join(problems)}"


def _jsonable(name: str, value: Any) -> JsonValue:
    try:
        result: JsonValue = to_jsonable_python(value)
    except PydanticSerializationError as exc:
        raise ToolError(f"the result of {name} has no JSON form: {exc}") from exc
    return result


def _documented(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself behind a partial or an object that can be called."""
    if isinstance(function, functools.partial):
        return _documented(function.func)
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    call: Callable[..., Any] = type(function).__call__
    return call


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        _documented(function)
    )


_SECTION = re.compile(r"(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*$")
_ARGUMENTS = frozenset({"Args", "Arguments", "Parameters"})
_GOOGLE = re.compile(r"(?P<indent>\s+)(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)$")
_SPHINX = re.compile(r":param\s+(?:[^:]*\s)?(?P<name>\w+):\s*(?P<text>.*)$")
_FIELD = re.compile(r":\w+")


@dataclass(slots=True)
class Documented:
    """`summary` is the text before the parameters, `parameters` the words about each."""

    summary: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read_docstring(docstring: str | None) -> Documented:
    """Read `Args:` sections (Google's style) and `:param name:` fields (Sphinx's)."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    summary: list[str] = []
    parameters: dict[str, list[str]] = {}
    current: list[str] = summary
    section = ""
    indent = 0
    for line in lines:
        heading = _SECTION.fullmatch(line)
        google = _GOOGLE.fullmatch(line) if section in _ARGUMENTS else None
        sphinx = _SPHINX.fullmatch(line)
        if heading:
            section, current, indent = heading.group(1), [], 0
        elif sphinx:
            current = parameters[sphinx["name"]] = [sphinx["text"]]
        elif google and (not indent or len(google["indent"]) <= indent):
            indent = len(google["indent"])
            current = parameters[google["name"].lstrip("*")] = [google["text"]]
        elif _FIELD.match(line) or (section and line and not line[0].isspace()):
            section, current = "", [] if _FIELD.match(line) else summary
            current.append(line)
        else:
            current.append(line)
    return Documented("\n".join(summary).strip(), _joined(parameters))


def _joined(parameters: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: " ".join(" ".join(lines).split()) for name, lines in parameters.items()}
