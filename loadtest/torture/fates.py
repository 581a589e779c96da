"""What can become of one request at a tortured engine. Data only."""

from enum import StrEnum


class Fate(StrEnum):
    """FINE: the whole answer. ERROR: 500. BUSY: 503, no room. CUT: the connection is closed without
    a byte. EMPTY: a 200 without a body. HANG: no byte ever. CUT_LATER, HANG_LATER: the same after
    the first tokens. ABORT: the answer ends at once, its finish reason says `abort`. EVENT: the
    stream ends in an error event. GARBAGE: bytes that are no HTTP. POISON: what the request itself
    causes: 500, and with it all others of the engine, if the engine is frail.
    """

    FINE = "fine"
    ERROR = "error"
    BUSY = "busy"
    CUT = "cut"
    EMPTY = "empty"
    HANG = "hang"
    CUT_LATER = "cut later"
    HANG_LATER = "hang later"
    ABORT = "abort"
    EVENT = "error event"
    GARBAGE = "garbage"
    POISON = "poison"


# Those that a fault of an engine may bring.
BAD = (
    Fate.ERROR, Fate.BUSY, Fate.CUT, Fate.EMPTY, Fate.HANG, Fate.CUT_LATER, Fate.HANG_LATER,
    Fate.ABORT, Fate.EVENT, Fate.GARBAGE,
)  # fmt: skip
# Those in which a stream ends after its first tokens.
LATER = (Fate.CUT_LATER, Fate.HANG_LATER, Fate.EVENT)
