"""AG-UI's HttpAgent, and CopilotKit with this server as its runtime."""
