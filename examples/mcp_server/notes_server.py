"""A server of the Model Context Protocol with two tools, over stdio."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")
notes: list[str] = []


@server.tool()
def add_note(text: str) -> int:
    """Keeps a note and gives its number."""
    notes.append(text)
    return len(notes)


@server.tool()
def find_notes(word: str) -> list[str]:
    """The notes that have this word."""
    return [note for note in notes if word.lower() in note.lower()]


if __name__ == "__main__":
    server.run("stdio")
