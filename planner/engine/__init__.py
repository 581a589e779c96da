"""Engine: say here what this room owns."""
