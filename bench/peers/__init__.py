"""The servers that are measured, ours among them."""
