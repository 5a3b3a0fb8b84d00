"""Agents on language models: one tool loop, and a client for each kind of provider.

`loop.py` runs a turn. `openai/` asks servers that speak chat completions, `pydantic_client.py` asks
every other provider. `models.py` finds the client for the name of a model. `workers/` asks models
from other processes.
"""
