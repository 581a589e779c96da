"""Looks at a gateway from outside: before it starts, and by its admin port while it runs."""
