"""The code blocks of the documentation, and ways to run them as a reader pastes them."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(
    r"^```(?P<language>\w*)(?: browser)?(?: until=\"(?P<until>[^\"\n]*)\")?\n(?P<code>.*?)^```",
    re.M | re.S,
)
_FILE_NAME = re.compile(r"# (\w+\.py)\n")
#: What installs or builds, and lines that go on from one of these. The packages are not published
#: yet, and what the verbs of make do is what runs this.
_NOT_RUN = re.compile(r"^(?:pip|npm|make) .*\n?", re.M)
_SERVE = re.compile(r"^(resonantgenesis serve[^#\n]*).*$", re.M)
#: Seconds that a block may take.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a page. `until`: it runs for ever; it has worked once this was printed."""

    page: str
    line: int
    language: str
    code: str
    until: str | None = None

    @property
    def file_name(self) -> str | None:
        """Where a reader saves it, as its first line says."""
        found = _FILE_NAME.match(self.code)
        return found[1] if found else None

    def filled(self, values: Mapping[str, str]) -> Block:
        """With what stands for a reader's own (`sess_…`) replaced."""
        code = self.code
        for name, value in values.items():
            code = code.replace(name, value)
        return Block(self.page, self.line, self.language, code, self.until)


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a page, in their order. What stands behind the language may
    say its `until`."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path.name,
            text.count("\n", 0, found.start("code")) + 1,
            found["language"],
            found["code"],
            found["until"],
        )
        for found in _BLOCK.finditer(text)
    ]


# -- shell ---------------------------------------------------------------------------------


def run_shell(block: Block, folder: Path, environment: Mapping[str, str], nudge: Nudge) -> str:
    """What a block of commands prints; raises AssertionError where one fails.

    A server that it starts runs while the commands behind it do. `nudge` makes something happen
    for a block that waits for it.
    """
    script = _NOT_RUN.sub("", block.code)
    if _SERVE.search(script):
        ready = "until curl --output /dev/null $RESONANTGENESIS_BASE_URL/readyz 2>/dev/null"
        script = _SERVE.sub(rf"\1 > serve.log 2>&1 &\n{ready}; do sleep 0.05; done", script)
        script += "\nkill -TERM %1\nwait %1\n"
    with (folder / "output").open("w+b") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if block.until is None:
                process.wait(PATIENCE)
            else:
                _wait_for(block, folder / "output", process, nudge)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
    printed = (folder / "output").read_text(errors="replace")
    if block.until is None:
        assert process.returncode == 0, (
            f"{_where(block)} ended with {process.returncode}:\n{printed}"
        )
    return printed


#: Makes something happen that a block waits for.
Nudge = Callable[[], None]


def _wait_for(block: Block, output: Path, process: subprocess.Popen[bytes], nudge: Nudge) -> None:
    for _ in range(int(PATIENCE)):
        nudge()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
        printed = output.read_text(errors="replace")
        if (block.until or "") in printed:
            return
        assert process.poll() is None, f"{_where(block)} ended:\n{printed}"
    raise AssertionError(f"{_where(block)} never printed {block.until!r}")


# -- Python --------------------------------------------------------------------------------


class PythonPage:
    """The blocks of a page in one interpreter, one after the other, as in `python -m asyncio`."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = {"__name__": "__main__", **names}
        self._runner = asyncio.Runner()

    def run(self, block: Block, nudge: Nudge) -> str:
        """What a block prints; raises what it raises."""
        code = compile(
            block.code, _where(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            made = eval(code, self._names)
            if asyncio.iscoroutine(made):
                self._runner.run(self._until(block, made, printed, nudge))
        return printed.getvalue()

    async def _until(
        self, block: Block, made: Awaitable[None], printed: io.StringIO, nudge: Nudge
    ) -> None:
        task = asyncio.ensure_future(made)
        try:
            async with asyncio.timeout(PATIENCE):
                while not task.done() and (block.until or "\0") not in printed.getvalue():
                    if block.until is not None:
                        await asyncio.to_thread(nudge)
                    await asyncio.wait({task}, timeout=0.2)
            if task.done():
                await task
        finally:
            task.cancel()
            await asyncio.wait({task})

    def close(self) -> None:
        self._runner.close()


@contextlib.contextmanager
def python_page(names: dict[str, Any]) -> Iterator[PythonPage]:
    page = PythonPage(names)
    try:
        yield page
    finally:
        page.close()


def _where(block: Block) -> str:
    return f"{block.page}:{block.line}"
