"""Metrics: what workers count, and the page made of it. Pure: no I/O, no clock."""
