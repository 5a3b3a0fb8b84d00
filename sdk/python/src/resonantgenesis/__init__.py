"""Python SDK of ResonantGenesis Streaming."""
