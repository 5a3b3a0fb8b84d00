"""Tools that agents call; each shows in the stream as a tool_call and its tool_result."""
