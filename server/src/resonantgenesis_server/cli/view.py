"""Chunks on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from .asks import question
from .render import WordWrap, one_line, safe, show_json, show_text


class ChunkView:
    """Writes chunks as they come: text unchanged, the other types as lines of their own.

    On a terminal, lines are broken between words. As JSON, each chunk is a line.
    """

    def __init__(self, console: Console, *, as_json: bool = False) -> None:
        self._console = console
        self._as_json = as_json
        self._at_line_start = True
        self._in_text = False
        #: The sub-agent whose text was shown last; empty for the turn's own agent.
        self._speaker = ""
        self._wrap = (
            WordWrap(lambda: console.width)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )
        #: The newest `done` and the newest `error`, for a summary.
        self.done: Mapping[str, Any] | None = None
        #: Of the last chunk.
        self.position = 0
        #: What the turn waits for, by call_id.
        self.asks: dict[str, Mapping[str, Any]] = {}
        self.error: Mapping[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        """False if the newest turn that was shown ended without success."""
        return self.done is None or self.done.get("status") == "success"

    def show(self, chunk: Mapping[str, Any]) -> None:
        """Show a chunk. Types that this version does not know are left out, except as JSON."""
        self.position = chunk.get("position") or self.position
        match chunk.get("type"):
            case "error":
                self.error = chunk
            case "done":
                self.done = chunk
            case "input_required":
                self.asks[str(chunk.get("call_id"))] = chunk
            case "input":
                self.asks.pop(str(chunk.get("call_id")), None)
            case _:
                pass
        if self._as_json:
            show_json(self._console, chunk)
            self._console.file.flush()
        else:
            self._show(chunk)

    def _show(self, chunk: Mapping[str, Any]) -> None:
        match chunk.get("type"):
            case "text":
                self._text(str(chunk.get("content", "")), str(chunk.get("agent_id") or ""))
            case "reasoning":
                self._line("…", str(chunk.get("content", "")), "dim")
            case "source":
                title = f"{chunk['title']} " if chunk.get("title") else ""
                self._line("◦", f"{title}{chunk.get('url')}", "dim cyan")
            case "file":
                self._line("▪", f"{chunk.get('name')} ({chunk.get('file_id')})", "cyan")
            case "data":
                self._line("◆", f"{chunk.get('name')}: {_json(chunk.get('data'))}", "dim")
            case "step" if chunk.get("status") == "started":
                detail = f" ({chunk['detail']})" if chunk.get("detail") else ""
                self._line("●", f"step {chunk.get('step')}: {chunk.get('name')}{detail}", "blue")
            case "step" if chunk.get("status") == "progress":
                self._line("…", str(chunk.get("detail", "")), "dim")
            case "tool_call":
                self._line("→", f"{chunk.get('tool')}({_arguments(chunk.get('args'))})", "cyan")
            case "tool_result":
                failed = bool(chunk.get("is_error"))
                result = _result(chunk.get("result"))
                mark, style = ("✗", "red") if failed else ("←", "dim cyan")
                self._line(mark, f"{chunk.get('tool')}: {result}", style)
            case "input_required" | "input" | "user_message":
                self._line(*_asked(chunk), "yellow")
            case "error":
                self._line("!", _error(chunk), "red")
            case "done" | "waiting":
                self.end_line()

    def end_line(self) -> None:
        """End the line, so that the next text begins on a new one."""
        if not self._at_line_start:
            self._console.file.write("\n")
            self._at_line_start = True
        if self._wrap is not None:
            self._wrap.new_line()

    def make_room(self) -> None:
        """Begin a new line for a note on a terminal; a pipe gets nothing."""
        if self._console.is_terminal:
            self.end_line()

    def _text(self, content: str, speaker: str) -> None:
        text = safe(content)
        if not text:
            return
        if speaker != self._speaker:
            self._speaker = speaker
            self._line("▸", speaker or "answer", "magenta")
        if not self._in_text:
            self.end_line()
            self._in_text = True
        # Unchanged, tabs included: the console would turn them into spaces.
        self._console.file.write(text if self._wrap is None else self._wrap.feed(text))
        self._console.file.flush()
        self._at_line_start = text.endswith("\n")

    def _line(self, mark: str, text: str, style: str) -> None:
        self.end_line()
        self._in_text = False
        show_text(self._console, f"{mark} {one_line(text)}", style)


def _asked(chunk: Mapping[str, Any]) -> tuple[str, str]:
    """The mark and the words of a question, of what became of it, or of a user's message."""
    if chunk.get("type") == "user_message":
        left = "" if chunk.get("taken") else " (left for the next turn)"
        return "«", f"{chunk.get('content')}{left}"
    if chunk.get("type") == "input_required":
        return "?", question(chunk)
    agrees = chunk.get("status") == "answered" and chunk.get("approved") is not False
    return "✓" if agrees else "✗", _given(chunk)


def _given(chunk: Mapping[str, Any]) -> str:
    """An answer, or why there is none."""
    if chunk.get("status") != "answered":
        return f"{chunk.get('call_id')}: {chunk.get('status')}"
    if "payload" in chunk:
        said = _result(chunk.get("payload"))
    else:
        said = "approved" if chunk.get("approved") else "denied"
    return said + (f" ({chunk['reason']})" if chunk.get("reason") else "")


def summary(done: Mapping[str, Any]) -> str:
    """`success, 3 steps in 1.2 s`."""
    usage = done.get("usage") or {}
    steps, seconds = usage.get("steps", 0), usage.get("duration_ms", 0) / 1000
    return f"{done.get('status')}, {steps} {'step' if steps == 1 else 'steps'} in {seconds:.1f} s"


def _error(chunk: Mapping[str, Any]) -> str:
    """The error with its request's id, which finds the reason in the server's log."""
    request = chunk.get("request_id")
    return f"{chunk.get('code')}: {chunk.get('message')}" + (
        f" (request {request})" if request else ""
    )


def _arguments(args: object) -> str:
    if not isinstance(args, dict):
        return ""
    return ", ".join(f"{name}={_json(value)}" for name, value in args.items())


def _result(value: object) -> str:
    if isinstance(value, list):
        return f"{len(value)} results: {_json(value)}"
    if isinstance(value, dict) and len(value) == 1:
        return _result(next(iter(value.values())))
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
