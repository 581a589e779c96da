"""The processes that serve the data port, and what they and the supervisor send each other."""
