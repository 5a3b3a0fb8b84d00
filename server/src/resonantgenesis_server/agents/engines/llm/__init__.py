"""Agents on language models: one tool loop, and a client for each kind of provider.

`loop.py` is what a turn does; `openai_wire.py` and `openai_client.py` ask servers that speak chat
completions, `pydantic_client.py` every other; `models.py` finds the one for a model's name.
"""
