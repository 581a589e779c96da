"""Config: say here what this room owns."""
