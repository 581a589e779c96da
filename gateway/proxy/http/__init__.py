"""Http: say here what this room owns."""
