"""The garbage collector of a serving process: what lives for good is never looked through again.

Requests free what they hold by themselves; the collector is there for the few cycles that errors
leave, and need not look after every few requests.
"""

import gc

YOUNG, MIDDLE, OLD = 20_000, 20, 50  # allocations, then rounds, between two looks


def settle() -> None:
    """Called once everything is loaded and built."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
