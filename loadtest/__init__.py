"""Emulated engines, trace replay and benchmarks: everything that drives the product from outside.

Only the command line imports this package.
"""
