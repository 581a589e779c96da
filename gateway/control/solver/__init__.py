"""Solver: say here what this room owns."""
