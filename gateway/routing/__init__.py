"""The pure core: decides without I/O, without a clock and without chance."""
