"""Workers: say here what this room owns."""
