"""Emulator: say here what this room owns."""
