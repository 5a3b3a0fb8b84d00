"""From results to a table, JSON, Markdown and pictures."""
