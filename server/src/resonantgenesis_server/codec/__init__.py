"""Values to bytes and back, without I/O. Bytes for many readers are made once."""
