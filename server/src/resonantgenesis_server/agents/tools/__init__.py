"""Tools that agents call. The stream shows each call as a tool_call and its tool_result."""
