"""Brings the number of backends that should be to what starts and stops them."""
