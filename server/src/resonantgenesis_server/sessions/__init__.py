"""Sessions and their turns: start, run, cancel, recover, read, list, keep."""
