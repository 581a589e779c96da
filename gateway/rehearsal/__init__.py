"""Rehearsal: say here what this room owns."""
