"""The LangGraph SDKs, in Python and in JavaScript."""
