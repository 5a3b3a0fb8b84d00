"""OpenAI's chat completions without I/O: bytes into deltas.

OpenAI, Ollama, vLLM, llama.cpp, LM Studio, LiteLLM and others speak it, each in its own way.
Reading is generous: `lines` reads events, `pieces` joins tool calls, `texts` reads texts, `state`
keeps what the server wants back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .....model.chunks import Reasoning
from ..calls import Delta, Finish, ModelFailure, why_it_stopped
from ..sources import SourceList
from .errors import failure_in_other_words, is_error, silent_failure, stream_failure
from .lines import EventReader, shown
from .pieces import CallAssembler
from .state import StateKeeper, is_state
from .texts import Mender, ThinkSplitter, content_pieces, thought_of

#: Fields with reasoning as text; the first that a delta has is shown.
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_blocks")
_DETAILS = "reasoning_details"
#: Fields of an event with all sources of the answer: addresses (Perplexity, xAI), or objects
#: (Perplexity). They come with every event, or with the last.
_CITED = ("search_results", "citations")
#: Characters of a server's word for the end that are kept.
_MAX_WORD = 64
#: Tokens of one answer that are believed.
_MAX_TOKENS = 1 << 40

#: What some servers write as the finish_reason of every chunk but the last.
_GOES_ON = frozenset({"null", "none", "finish_reason_unspecified"})


class ChatDecoder:
    """Takes the bytes of an answer, cut anywhere; `close` says how the answer ended.

    Texts that arrive together come out as one. `think`: the model writes reasoning into its text.
    Raises ModelFailure after the deltas before the failure.
    """

    def __init__(self, *, think: bool = False) -> None:
        #: How many pieces of the answer there were.
        self.pieces = 0
        self._events = EventReader(self._event)
        self._calls = CallAssembler()
        self._state = StateKeeper()
        self._sources = SourceList()
        self._cited: object = None
        self._splitter = ThinkSplitter() if think else None
        self._said: list[str] = []  # all of the text, tags included, where it is split
        self._menders = Mender(), Mender()
        self._texts: list[str] = []
        self._out: list[Delta] = []
        self._word: str | None = None
        self._is_talking = False
        self._tokens: tuple[int | None, int | None] = (None, None)

    @property
    def is_over(self) -> bool:
        """Nothing follows that is worth waiting for."""
        return self._events.is_over

    @property
    def has_ended(self) -> bool:
        """The server has said how the answer ends. Usage may follow, and more text from servers
        that say so with every piece (`is_talking`)."""
        return self._word is not None or self.is_over

    @property
    def is_talking(self) -> bool:
        return self._is_talking

    @property
    def has_usage(self) -> bool:
        return self._tokens != (None, None)

    def feed(self, data: bytes) -> Iterator[Delta]:
        """The deltas that are whole now."""
        try:
            self._events.feed(data)
        except ModelFailure:
            yield from self._taken()
            raise
        yield from self._taken()

    def close(self) -> Iterator[Delta]:
        """The rest of the text, the tool calls, then how it ended."""
        try:
            self._close_events()
            self._end_texts()
        except ModelFailure:
            yield from self._taken()
            raise
        yield from self._taken()
        if not self.has_ended:
            raise silent_failure(self._events.words)
        reason = "stop" if self._word is None else why_it_stopped(self._word)
        if reason == "error":
            words = f"the answer ended with {self._word!r} {self._events.words}"
            raise ModelFailure("unavailable", words.strip())
        requests = self._calls.requests()
        # Some servers say "stop" though they want tools called.
        if requests and reason not in {"length", "content_filter"}:
            reason = "tool_calls"
        yield from requests
        native = self._native() if requests else None
        is_told = reason == "content_filter" != self._word
        said = str(self._word)[:_MAX_WORD] if is_told else ""
        yield Finish(reason, *self._tokens, native, said)

    # -- inside ----------------------------------------------------------------------------

    def _close_events(self) -> None:
        try:
            self._events.close()
        except ModelFailure as failure:
            # Half an event behind a whole answer, e.g. of `[DONE]`: nobody waited for its rest.
            if failure.kind != "unreadable" or not self.has_ended:
                raise

    def _taken(self) -> list[Delta]:
        self._flush()
        out, self._out = self._out, []
        return out

    def _flush(self) -> None:
        if self._texts:
            self._out.append("".join(self._texts))
            self._texts = []

    def _native(self) -> str | None:
        content = "".join(self._said) if self._splitter is not None else ""
        return self._state.native(self._calls.extras(), content if "<" in content else None)

    def _event(self, event: dict[str, Any]) -> None:
        try:
            error = event.get("error")
            if error and is_error(error):
                raise stream_failure(error, event)
            usage = event.get("usage")
            if usage:
                self._count(usage)
            choices = event.get("choices")
            if choices:
                self._choice(choices[0], event)
                if not event.keys().isdisjoint(_CITED):
                    self._cites([event.get(name) for name in _CITED])
            elif not usage:
                failure = failure_in_other_words(event)
                if failure is not None:
                    raise failure
        except (AttributeError, TypeError, KeyError, IndexError, RecursionError) as error:
            raise ModelFailure("unreadable", f"{error}: {shown(event)}") from error

    def _choice(self, choice: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        self.pieces += 1
        had_ended = self._word is not None
        delta = choice.get("delta")
        if delta is None:
            delta = self._whole(choice)
        elif delta.__class__ is str:
            delta = {"content": delta}
        if had_ended:
            self._is_talking = any(value for name, value in delta.items() if name != "role")
        text = delta.get("content")
        if (
            text.__class__ is str
            and len(delta) == 1 + ("role" in delta)
            and not self._events.is_odd
            and self._splitter is None
        ):
            if text:  # nearly all deltas
                self._texts.append(text)
        elif delta:
            self._delta(delta)
        reason = choice.get("finish_reason")
        error = choice.get("error") or delta.get("error")
        if error and is_error(error):
            raise stream_failure(error, event)
        if reason and not (isinstance(reason, str) and reason.lower() in _GOES_ON):
            self._stopped(reason, choice, event)

    def _whole(self, choice: Mapping[str, Any]) -> Any:
        """The message of a whole completion, or the text of one of the older kind."""
        message = choice.get("message")
        if message is None:
            return {"content": choice.get("text")}
        self._word = self._word or "stop"  # its only word is that it is whole
        return message

    def _delta(self, delta: Mapping[str, Any]) -> None:
        """Read a delta with any fields; the reasoning first."""
        self._think_of(delta)
        text = delta.get("content") or delta.get("refusal")
        if text:
            for is_thought, piece in content_pieces(text):
                if is_thought:
                    self._thought(piece)
                else:
                    self._text(piece)
        calls = delta.get("tool_calls")
        if calls:
            self._calls.add([calls] if isinstance(calls, dict) else calls)
        elif delta.get("function_call"):
            self._calls.add([{"function": delta["function_call"]}])
        if delta.get("annotations"):
            self._annotated(delta["annotations"])
        for name, value in delta.items():
            if value and is_state(name):
                self._state.add(name, value)

    def _think_of(self, delta: Mapping[str, Any]) -> None:
        for name in _THOUGHTS:
            if delta.get(name):
                self._thought(thought_of(delta[name]))
                return
        if delta.get(_DETAILS):
            self._thought(thought_of(delta[_DETAILS]))

    def _thought(self, text: str) -> None:
        if self._events.is_odd:
            text = self._menders[1].feed(text)
        if text:
            self._flush()
            self._out.append(Reasoning(text))

    def _cites(self, cited: list[Any]) -> None:
        """Note all sources of the answer so far."""
        if cited == self._cited:
            return
        self._cited = cited
        for source in (source for sources in cited for source in sources or ()):
            if isinstance(source, dict):
                self._source(source.get("url"), source.get("title"))
            else:
                self._source(source)

    def _annotated(self, annotations: list[Any]) -> None:
        """Note sources as OpenAI and OpenRouter name them."""
        for annotation in annotations:
            if annotation.get("type") == "url_citation":
                cited = annotation.get("url_citation") or annotation
                self._source(cited.get("url"), cited.get("title"))

    def _source(self, url: object, title: object = None) -> None:
        for source in self._sources.add(url, title):
            self._flush()
            self._out.append(source)

    def _text(self, text: str) -> None:
        if self._events.is_odd:
            text = self._menders[0].feed(text)
        if self._splitter is None:
            if text:
                self._texts.append(text)
        else:
            self._said.append(text)
            self._split(self._splitter.feed(text))

    def _split(self, pieces: list[str | Reasoning]) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                self._texts.append(piece)
            else:
                self._flush()
                self._out.append(piece)

    def _end_texts(self) -> None:
        thought, text = self._menders[1].close(), self._menders[0].close()
        self._thought(thought)
        if text:
            self._text(text)
        if self._splitter is not None:
            self._split(self._splitter.close())

    def _stopped(self, reason: object, choice: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        if isinstance(reason, dict):
            reason = reason.get("type") or "stop"
        if self._word is None or why_it_stopped(self._word) != "error":
            self._word = str(reason)
        if not self.has_usage:  # as Kimi and Groq tell it
            other = event.get("x_groq")
            usage = choice.get("usage") or (isinstance(other, dict) and other.get("usage"))
            if usage:
                self._count(usage)

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._tokens = (
                _tokens(usage.get("prompt_tokens", usage.get("input_tokens"))),
                _tokens(usage.get("completion_tokens", usage.get("output_tokens"))),
            )


def _tokens(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 <= value < _MAX_TOKENS else None
