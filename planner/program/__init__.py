"""Program: say here what this room owns."""
