"""Clients of the Model Context Protocol, with our agents as their tools."""
