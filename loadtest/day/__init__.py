"""A day of traffic in minutes, on a cloud of emulated engines: what a fleet costs that moves."""
