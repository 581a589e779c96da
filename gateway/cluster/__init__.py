"""Values as bytes, for messages between processes and gateways. Knows no socket."""
