"""A simulated world: the real gateway and engines made of faults, in virtual time, from one seed.

Must not use a socket, a clock or chance that is not its seed's.
"""
