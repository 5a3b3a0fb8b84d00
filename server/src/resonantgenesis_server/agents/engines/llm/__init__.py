"""Agents on language models: one tool loop, and a client for each kind of provider.

`loop.py` is what a turn does; `openai/` asks servers that speak chat completions,
`pydantic_*.py` every other provider; `models.py` finds the client for a model's name, in this
process, or `workers.py` in others (`worker_*.py`).
"""
