"""Demo: say here what this room owns."""
