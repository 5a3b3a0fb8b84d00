"""What turns used: measured, kept, reported, bounded."""
