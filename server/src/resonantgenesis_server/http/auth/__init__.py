"""Who asks: API keys, client tokens, cookies."""
