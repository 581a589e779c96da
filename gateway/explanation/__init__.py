"""Why the router sends a request where it does: what it believes, and why each other lost."""
