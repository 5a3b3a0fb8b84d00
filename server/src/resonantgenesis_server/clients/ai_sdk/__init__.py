"""Vercel's AI SDK (`useChat` of versions 5 to 7), and clients that read its stream."""
