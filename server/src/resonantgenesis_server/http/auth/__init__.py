"""Authentication: API keys, client tokens, cookies."""
