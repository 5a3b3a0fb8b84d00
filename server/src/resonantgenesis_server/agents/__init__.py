"""Agents: what turns a goal into a stream of chunks."""
