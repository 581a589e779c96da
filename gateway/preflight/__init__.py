"""Asks the configured backends whether they are what the configuration says."""
