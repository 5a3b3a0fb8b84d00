"""Models of servers that speak OpenAI's chat completions, each in its own way.

`client.py` asks over HTTP, `request.py` is what is sent, exact; the rest reads, generously:
`lines.py` bytes into events, `decoder.py` events into deltas, `pieces.py` tool calls, `texts.py`
and `think.py` texts, `state.py` what goes back, `errors.py` and `phrases.py` what went wrong.
"""
