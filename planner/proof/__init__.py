"""Proof: say here what this room owns."""
