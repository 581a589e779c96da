"""What a client is sending. Data."""

from enum import Enum


class Phase(Enum):
    """What a client is sending; exactly one at a time."""

    IDLE = "nothing: the next request has not begun"
    HEAD = "a head"
    EXPECTING = "nothing: it waits for 100 Continue before it sends the body"
    BODY = "a body"
    STOPPED = "bytes that are not read any more"
