"""The built-in guide agent: answers questions about this server from its own documentation."""
