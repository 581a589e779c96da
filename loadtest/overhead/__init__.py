"""Overhead: say here what this room owns."""
