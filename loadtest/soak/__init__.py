"""A soak: mixed traffic and faults over real sockets, and three ledgers that must agree."""
