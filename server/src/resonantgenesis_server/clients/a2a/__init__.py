"""Clients of the Agent2Agent protocol (A2A), to which each agent is a server."""
