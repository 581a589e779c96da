"""What processes and gateways say to each other, as bytes. Knows no socket and no live object."""
