"""How chunks look on a terminal and in a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

#: Lines about a call are cut here; the whole of it is in the log.
_WIDTH = 160
#: An agent's text must not move the cursor or change the terminal: no control characters but
#: newline and tab.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)])
del _CONTROLS[ord("\n")], _CONTROLS[ord("\t")]


def safe(text: str) -> str:
    """Text of others without control characters."""
    return text.translate(_CONTROLS)


def one_line(text: str, width: int = _WIDTH) -> str:
    """Text of others as one line of at most `width` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= width else line[: width - 1] + "…"


class ChunkView:
    """Writes chunks as they come: text as it is, the rest as lines beside it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._at_line_start = True
        self._in_text = False
        #: The newest `done` and the newest `error`, for whoever sums up.
        self.done: Mapping[str, Any] | None = None
        self.error: Mapping[str, Any] | None = None

    def show(self, chunk: Mapping[str, Any]) -> None:
        """Kinds that are not known are left out: there will be more of them."""
        match chunk.get("type"):
            case "text":
                self._text(str(chunk.get("content", "")))
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
            case "error":
                self.error = chunk
                self._line("!", f"{chunk.get('code')}: {chunk.get('message')}", "red")
            case "done":
                self.done = chunk
                self.end_line()
            case _:
                pass

    def end_line(self) -> None:
        """So that what follows begins on a line of its own."""
        if not self._at_line_start:
            self._console.file.write("\n")
            self._at_line_start = True

    def _text(self, content: str) -> None:
        text = safe(content)
        if not text:
            return
        if not self._in_text:
            self.end_line()
            self._in_text = True
        self._console.file.write(text)  # as it is, tabs included
        self._console.file.flush()
        self._at_line_start = text.endswith("\n")

    def _line(self, mark: str, text: str, style: str) -> None:
        self.end_line()
        self._in_text = False
        self._console.out(f"{mark} {one_line(text)}", style=style, highlight=False)


def summary(done: Mapping[str, Any]) -> str:
    """`success, 3 steps in 1.2 s`."""
    usage = done.get("usage") or {}
    steps, seconds = usage.get("steps", 0), usage.get("duration_ms", 0) / 1000
    return f"{done.get('status')}, {steps} {'step' if steps == 1 else 'steps'} in {seconds:.1f} s"


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
