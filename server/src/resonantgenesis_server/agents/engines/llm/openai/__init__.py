"""Models of servers that speak OpenAI's chat completions, each in its own way.

`client.py` asks over HTTP. `request.py` writes the request, exactly. The rest reads generously:
`lines.py` turns bytes into events, `decoder.py` events into deltas, `pieces.py` joins tool calls,
`texts.py` reads texts, `state.py` keeps what the server wants back, `errors.py` names failures.
"""

#: Bytes of one line, of one event, and of an answer that is one JSON text.
MAX_EVENT = 4 * 1024 * 1024
