"""State that belongs to one process: connections, locks and memory after a fork."""
