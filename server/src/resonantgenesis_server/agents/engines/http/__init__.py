"""The engine for agents that are HTTP endpoints."""
