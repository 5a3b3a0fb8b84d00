"""Agents: they turn a goal into a stream of chunks."""
