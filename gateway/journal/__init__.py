"""What the gateway has decided, why, and what came of it: for operators, on the disk."""
