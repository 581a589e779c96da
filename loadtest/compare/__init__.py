"""Compare: say here what this room owns."""
