"""The pure core: estimates sizes and chooses backends, without I/O, clock or chance."""
