"""Traces and metrics for OpenTelemetry: the server calls `spans`, and `otel` hides the library."""
