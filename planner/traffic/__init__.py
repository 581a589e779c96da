"""Traffic: say here what this room owns."""
