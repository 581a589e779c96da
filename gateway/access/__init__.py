"""Callers and their limits. Knows no backend and no plan."""
