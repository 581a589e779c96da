"""Costs: say here what this room owns."""
