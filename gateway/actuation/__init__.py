"""Brings the wished number of backends, and the plan's weights, to what acts on them."""
