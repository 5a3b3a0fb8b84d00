"""Record a stream that is cut and resumed, as docs/resume.svg: a real server, a real cut.

`resonantgenesis demo` runs in a terminal. It reaches the server through a relay of this script,
which drops every connection in the middle of the answer and takes new ones two seconds later.
Where SVG is not animated the picture shows the whole output.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import html
import os
import pty
import re
import secrets
import socket
import struct
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

PICTURE = Path(__file__).resolve().parents[1] / "docs/resume.svg"
QUESTION = "count to 100"
_COMMAND = f'resonantgenesis demo "{QUESTION}"'
PROGRAM = [sys.executable, "-m", "resonantgenesis_server"]
COLUMNS, ROWS = 92, 40
#: The last words before the cut, and its seconds.
_CUT_AFTER, _CUT_FOR = " 40 ", 2.0
_PATIENCE = 60.0

_SGR = re.compile(r"\x1b\[([\d;]*)m")
_OTHER = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]|\x1b\][^\x07]*\x07")
_CLASSES = {"1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "34": "l", "36": "l"}
_LINE, _CHARACTER, _TOP, _LEFT = 18, 7.83, 56, 16
_STYLE = """
text {
  font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  fill: #d4d4d8; white-space: pre;
}
.b { font-weight: 700 } .d { fill: #8b8b94 } .r { fill: #f87171 }
.g { fill: #4ade80 } .y { fill: #facc15 } .l { fill: #7dd3fc }
.later { animation: hidden linear }
.meanwhile { opacity: 0; animation: shown linear }
@keyframes hidden { from, to { opacity: 0; fill-opacity: 0 } }
@keyframes shown { from, to { opacity: 1 } }
"""
#: Picture: width, height, body.
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1}" width="{0}" height="{1}"
 role="img" aria-label="A terminal: an answer streams, the network is cut, the answer goes on">
<style>{2}</style>
<rect width="{0}" height="{1}" rx="8" fill="#18181b"/>
<circle cx="18" cy="18" r="6" fill="#f87171"/>
<circle cx="38" cy="18" r="6" fill="#facc15"/>
<circle cx="58" cy="18" r="6" fill="#4ade80"/>
{3}
</svg>
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the output: the second in which it came, its text, and its style."""

    second: float
    text: str
    style: str


class Relay:
    """Passes connections to `target`. Between `cut` and `mend` there are none."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Relay]:
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._open |= {writer, back}
        with contextlib.suppress(OSError):
            await asyncio.gather(self._copy(reader, back), self._copy(there, writer))
        self._open -= {writer, back}

    @staticmethod
    async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()


async def record() -> tuple[list[tuple[float, str]], float]:
    """What the terminal showed, each part with its second, and the second of the cut."""
    with tempfile.TemporaryDirectory() as folder:
        key, port = secrets.token_hex(16), _free_port()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")},
            "RESONANTGENESIS_BOOTSTRAP_KEY": key,
            "RESONANTGENESIS_WORDS_PER_SECOND": "16",
            "TERM": "xterm-256color",
        }
        where = ["--port", str(port), "--data", f"{folder}/data"]
        quiet = asyncio.subprocess.DEVNULL
        server = await asyncio.create_subprocess_exec(
            *PROGRAM, "serve", *where, env=environment, stdout=quiet, stderr=quiet
        )
        try:
            await _ready(port)
            async with Relay(port).running() as relay:
                return await _watch(relay, environment)
        finally:
            server.terminate()
            await server.wait()


async def _watch(
    relay: Relay, environment: dict[str, str]
) -> tuple[list[tuple[float, str]], float]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    url = f"http://127.0.0.1:{relay.port}"
    client = await asyncio.create_subprocess_exec(
        *PROGRAM, "demo", QUESTION, "--no-keep", "--url", url,
        env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    loop = asyncio.get_running_loop()
    shown: list[tuple[float, str]] = []
    cut = 0.0
    began = 0.0
    while data := await loop.run_in_executor(None, _read, ours):
        now = time.monotonic()
        began = began or now
        shown.append((now - began, data.decode(errors="replace")))
        if not cut and _CUT_AFTER in "".join(text for _, text in shown):
            cut = now - began + 0.4
            loop.call_later(0.4, relay.cut)
            loop.call_later(0.4 + _CUT_FOR, relay.mend)
    os.close(ours)
    if await client.wait() or not cut:
        sys.exit("recording: the demo failed")
    return shown, cut


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # the other side is closed
        return b""


async def _ready(port: int) -> None:
    """Wait until the server takes requests, not only connections."""
    async with asyncio.timeout(_PATIENCE), httpx.AsyncClient(trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lines_of(shown: list[tuple[float, str]]) -> list[list[Piece]]:
    """The lines of the terminal, without the advice that follows the answer."""
    lines: list[list[Piece]] = [[]]
    style = ""
    for second, text in shown:
        for kind, value in _tokens(_OTHER.sub("", text).replace("\r", "")):
            if kind == "style":
                codes = [_CLASSES.get(code, "") for code in value.split(";")]
                style = " ".join(filter(None, codes))
                continue
            first, *others = value.split("\n")
            lines[-1].append(Piece(second, first, style))
            lines += [[Piece(second, other, style)] for other in others]
    texts = ["".join(piece.text for piece in line).strip() for line in lines]
    end = next(number for number, text in enumerate(texts) if text.startswith("Try next"))
    first = next(number for number, text in enumerate(texts) if text.startswith("You:"))
    return lines[first : end - 1]


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    for found in _SGR.finditer(text):
        yield "text", text[place : found.start()]
        yield "style", found[1]
        place = found.end()
    yield "text", text[place:]


def draw(lines: list[list[Piece]], cut: float) -> str:
    """The picture, in which each piece appears when it came."""
    start = 1.2  # until the command has been typed
    width = round(COLUMNS * _CHARACTER + 2 * _LEFT)
    began = lines[0][0].second  # the program has started
    command = [Piece(began + 0.3 - start, "$ ", "g"), Piece(began + 0.6 - start, _COMMAND, "b")]
    body = []
    for number, line in enumerate([command, *lines]):
        spans = [
            f'<tspan class="later {piece.style}"'
            f' style="animation-duration:{start + piece.second - began:.2f}s">'
            f"{html.escape(piece.text, quote=False)}</tspan>"
            for piece in line
            if piece.text
        ]
        if spans:
            body.append(f'<text x="{_LEFT}" y="{_TOP + number * _LINE}">{"".join(spans)}</text>')
    at = start + cut - began
    again = at + _CUT_FOR
    for style, times, words in (
        ("meanwhile g", f"animation-duration:{at:.2f}s", "● connected"),
        (
            "meanwhile r",
            f"animation-delay:{at:.2f}s;animation-duration:{_CUT_FOR}s",
            "✂ the network is cut",
        ),
        ("later g", f"animation-duration:{again:.2f}s", "● connected again"),
    ):
        place = f'x="{width - _LEFT}" y="22" text-anchor="end"'
        body.append(f'<text {place} class="{style}" style="{times}">{words}</text>')
    height = _TOP + _LINE * (len(lines) + 1)
    return _SVG.format(width, height, _STYLE, "\n".join(body))


def main() -> None:
    """Record and write the picture."""
    shown, cut = asyncio.run(record())
    PICTURE.write_text(draw(lines_of(shown), cut), encoding="utf-8")
    sys.stdout.write(f"{PICTURE}\n")


if __name__ == "__main__":
    main()
