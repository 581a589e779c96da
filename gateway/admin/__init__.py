"""Admin: say here what this room owns."""
