"""Processes that are measured, and the generator that loads them."""
