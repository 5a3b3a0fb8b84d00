"""The WebSocket: handshake to messages, commands and subscriptions."""
