"""Organizations, keys, agents, the mirror of sessions: what is looked up and listed."""
