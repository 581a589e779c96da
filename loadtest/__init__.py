"""Emulated engines, trace replay and benchmarks. Nothing imports this package."""
