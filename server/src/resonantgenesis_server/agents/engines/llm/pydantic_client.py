"""Models of every other provider, through pydantic-ai's direct requests.

Only its models are used and not its agents: the tool loop is ours for every provider.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai import exceptions as errors
from pydantic_ai.direct import model_request_stream
from pydantic_ai.messages import (
    BinaryContent,
    InstructionPart,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, infer_model
from pydantic_ai.providers import Provider, infer_provider, infer_provider_class
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from ....model.chunks import Reasoning, Source
from .calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    FailureKind,
    Finish,
    FinishReason,
    Message,
    ModelCall,
    ModelFailure,
    ToolMessage,
    ToolSpec,
    UserMessage,
    why_it_stopped,
)
from .openai.errors import refusal_kind
from .sources import SourceList
from .vision import has_images

#: Models that are kept; past this number all are made again.
_KEPT = 100
_WORDS = 1_000
_VARIABLE = re.compile(r"`([A-Z][A-Z0-9_]+)`")

_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_call": "tool_calls",
    "content_filter": "content_filter",
    "error": "error",
}
#: The first that fits counts; subclasses stand before their bases.
_KINDS: Sequence[tuple[type[errors.AgentRunError], FailureKind]] = (
    (errors.ModelRateLimitError, "rate_limited"),
    (errors.ModelQuotaExceededError, "quota"),
    (errors.ModelAuthenticationError, "key"),
    (errors.ModelContextWindowExceededError, "context"),
    (errors.ModelNotFoundError, "model"),
    (errors.ModelUnavailableError, "unavailable"),
    (errors.ModelServerError, "unavailable"),
    (errors.ModelConnectionError, "unavailable"),
    (errors.ModelRequestTimeout, "unavailable"),
    (errors.ContentFilterError, "filtered"),
    (errors.UnexpectedModelBehavior, "unreadable"),
)
#: Of these the provider's words may tell more.
_VAGUE: frozenset[FailureKind] = frozenset({"refused", "key", "rate_limited"})


class NoSuchProvider(Exception):
    """pydantic-ai knows no provider of this name."""


class NotSetUp(Exception):
    """The provider lacks something. `variable` is the environment variable to set, if known."""

    def __init__(self, said: str, variable: str | None) -> None:
        super().__init__(said)
        self.variable = variable


class PydanticClient:
    """Models of one provider of pydantic-ai; `close` ends its connections.

    The first one is slow: it imports the provider's library. Raises NoSuchProvider, and NotSetUp
    for a missing library or key.
    """

    def __init__(
        self, provider: str, *, key: str | None, base_url: str | None, idle_seconds: float
    ) -> None:
        self._name = provider
        self._key = key
        self._idle = idle_seconds
        self._provider = _make(provider, key, base_url)
        self._models: dict[str, Model] = {}

    async def open(self) -> None:
        """To be called once, in the event loop that the calls will be made in."""
        await self._provider.__aenter__()

    async def close(self) -> None:
        await self._provider.__aexit__(None, None, None)

    async def stream(self, call: ModelCall) -> AsyncGenerator[Delta, None]:
        """Stream the answer, as `ModelClient.stream` promises."""
        try:
            request = model_request_stream(
                self._model(call.model),
                messages_of(call.messages),
                model_settings=self._settings(call),
                model_request_parameters=parameters_of(call),
            )
            async with request as answer:
                async for event in answer:
                    delta = delta_of(event)
                    if delta is not None:
                        yield delta
            response = answer.get()
        except errors.AgentRunError as error:
            raise failure_of(error).without(self._key) from error
        except errors.UserError as error:
            raise ModelFailure("refused", error.message[:_WORDS]) from error
        except (NotImplementedError, RuntimeError) as error:
            if not has_images(call):
                raise
            # The library's word for a model that it shows no images.
            raise ModelFailure("refused", f"images: {error}"[:_WORDS]) from error
        for delta in ending_of(response):
            yield delta

    def _model(self, name: str) -> Model:
        known = self._models.get(name)
        if known is None:
            if len(self._models) >= _KEPT:
                self._models.clear()
            known = infer_model(f"{self._name}:{name}", lambda _: self._provider)
            self._models[name] = known
        return known

    def _settings(self, call: ModelCall) -> ModelSettings:
        settings = ModelSettings(max_retries=0, timeout=self._idle)
        sampling = call.sampling
        if sampling.temperature is not None:
            settings["temperature"] = sampling.temperature
        if sampling.max_output_tokens is not None:
            settings["max_tokens"] = sampling.max_output_tokens
        if sampling.reasoning_effort is not None:
            settings["thinking"] = sampling.reasoning_effort
        return settings


def _make(name: str, key: str | None, base_url: str | None) -> Provider[Any]:
    try:
        # Constructors differ; most take a key and an address, by these names.
        found: Callable[..., Provider[Any]] = infer_provider_class(name)
    except ValueError as error:
        raise NoSuchProvider(name) from error
    except ImportError as error:
        raise NotSetUp(str(error), None) from error
    given = {"api_key": key, "base_url": base_url}
    settings = {setting: value for setting, value in given.items() if value is not None}
    try:
        return found(**settings) if settings else infer_provider(name)
    except (errors.UserError, ImportError, TypeError) as error:
        variable = _VARIABLE.search(str(error))
        raise NotSetUp(str(error)[:_WORDS], variable and variable.group(1)) from error


def parameters_of(call: ModelCall) -> ModelRequestParameters:
    instructions = [InstructionPart(content=call.system)] if call.system else []
    return ModelRequestParameters(
        function_tools=[_tool(tool) for tool in call.tools], instruction_parts=instructions
    )


def _tool(tool: ToolSpec) -> ToolDefinition:
    return ToolDefinition(
        name=tool.name,
        description=tool.description,
        parameters_json_schema=dict(tool.parameters),
    )


def messages_of(messages: Sequence[Message]) -> list[ModelMessage]:
    made: list[ModelMessage] = []
    for message in messages:
        if isinstance(message, AssistantMessage):
            made.append(_response(message))
            continue
        part = _part(message)
        # Neighbours are one request: the results of parallel calls belong together.
        if made and isinstance(made[-1], ModelRequest):
            made[-1].parts = [*made[-1].parts, part]
        else:
            made.append(ModelRequest([part]))
    return made


def _part(message: UserMessage | ToolMessage) -> ModelRequestPart:
    if isinstance(message, UserMessage):
        images = [
            BinaryContent(b64decode(image.data), media_type=image.content_type)
            for image in message.images
        ]
        return UserPromptPart([message.text, *images] if images else message.text)
    return ToolReturnPart(
        message.tool,
        message.result,
        message.call_id,
        outcome="failed" if message.is_error else "success",
    )


def _response(message: AssistantMessage) -> ModelResponse:
    if message.native is not None:
        # With fields that only its provider understands, e.g. signed thoughts.
        [native] = ModelMessagesTypeAdapter.validate_json(message.native)
        if isinstance(native, ModelResponse):
            return _with_calls(native, message.calls)
    calls = [ToolCallPart(call.tool, call.arguments, call.call_id) for call in message.calls]
    has_text = bool(message.text.strip())
    return ModelResponse([*([TextPart(message.text)] if has_text else []), *calls])


def _with_calls(response: ModelResponse, calls: Sequence[CallRequest]) -> ModelResponse:
    """The response with its calls in well-formed JSON."""
    rest = iter(calls)
    parts = [
        _rewritten(part, next(rest, None)) if isinstance(part, ToolCallPart) else part
        for part in response.parts
    ]
    return replace(response, parts=parts)


def _rewritten(part: ToolCallPart, call: CallRequest | None) -> ToolCallPart:
    if call is None:
        return part
    changed: dict[str, Any] = {
        "tool_name": call.tool,
        "args": call.arguments,
        "tool_call_id": call.call_id,
    }
    return replace(part, **changed)


def delta_of(event: object) -> Delta | None:
    match event:
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return text or None
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text)):
            return Reasoning(text) if text else None
        case PartStartEvent(part=TextPart(content=text)):
            return text or None
        case PartStartEvent(part=ThinkingPart(content=text)):
            return Reasoning(text) if text else None
    return None


def ending_of(response: ModelResponse) -> list[Delta]:
    calls: list[Delta] = [
        CallRequest(part.tool_call_id, part.tool_name, _arguments(part))
        for part in response.tool_calls
    ]
    said = (response.provider_details or {}).get("finish_reason")
    if response.finish_reason is None and not said:
        raise ModelFailure("unavailable", "the stream ended before the answer did")
    reason: str = _FINISH.get(response.finish_reason or "", "stop")
    if response.finish_reason is None:  # none that pydantic-ai knows
        reason = why_it_stopped(str(said))
    if reason == "error":
        raise ModelFailure("unavailable", f"the answer ended with {said or 'an error'!r}")
    if calls and reason not in {"length", "content_filter"}:
        reason = "tool_calls"
    usage = response.usage
    read, written = (
        (usage.input_tokens, usage.output_tokens) if usage.has_values() else (None, None)
    )
    # It is asked for only when the conversation goes on from here.
    native = ModelMessagesTypeAdapter.dump_json([response]).decode() if calls else None
    words = str(said or "") if reason == "content_filter" else ""
    finish = Finish(reason, read, written, native, words[:_WORDS])
    return [*_sources(response), *calls, finish]


def _sources(response: ModelResponse) -> Iterator[Source]:
    """The web pages that the answer cites; all of them are known at its end."""
    sources = SourceList()
    for part in response.parts:
        for citation in getattr(part, "citations", None) or ():
            for cited in citation.sources:
                yield from sources.add(getattr(cited, "url", None), cited.title)


def _arguments(part: ToolCallPart) -> str:
    """The arguments as the model wrote them."""
    return part.args if isinstance(part.args, str) else part.args_as_json_str()


def failure_of(error: errors.AgentRunError) -> ModelFailure:
    kinds = [kind for known, kind in _KINDS if isinstance(error, known)]
    kind: FailureKind = kinds[0] if kinds else "refused"
    if isinstance(error, errors.ModelHTTPError) and kind in _VAGUE:
        kind = refusal_kind(error.status_code, str(error.body).lower()) or kind
    retry_after = error.retry_after if isinstance(error, errors.ModelAPIError) else None
    return ModelFailure(kind, error.message[:_WORDS], retry_after=retry_after)
