"""Replay: say here what this room owns."""
