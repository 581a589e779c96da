"""HTTP/1.1 on both sides of the data path: bytes to messages and back. Knows no model."""
