"""The process's own log: structured lines, their output, the masking of secrets."""
