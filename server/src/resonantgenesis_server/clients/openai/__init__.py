"""OpenAI's API: Responses and Chat Completions, for its SDKs and for UIs that speak it."""
