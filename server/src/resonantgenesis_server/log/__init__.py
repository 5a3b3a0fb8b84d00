"""Append-only logs: the one thing every transport is a cursor over."""
