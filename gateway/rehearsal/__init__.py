"""Plays traffic through the real router in virtual time, which certifies plans. No sockets."""
