"""The body of a request while it comes, in pieces. No I/O."""

from typing import Final

# A body that comes in more pieces than this comes in tiny ones, and they are joined at once: a
# list of a million one-byte pieces would take 60 MB.
PIECES: Final = 256


class IncomingBody:
    """The pieces of one body, then of the next. Each is kept as it came, and all are joined once,
    at the end. left: bytes that are still to come of a body that is read without llhttp."""

    __slots__ = ("_pieces", "_start", "left")

    def __init__(self) -> None:
        self._pieces: list[bytes | bytearray] = []
        self._start = 0  # of the body in the first piece
        self.left = 0

    def __repr__(self) -> str:
        return f"<IncomingBody of {len(self._pieces)} pieces>"

    def begin(self, data: bytes, start: int, left: int) -> None:
        """Take what came with the head, which ends at `start`. left: what is to come."""
        self._pieces, self._start, self.left = [data], start, left

    def read(self, data: bytes) -> bytes:
        """Take what is of this body; return what follows it."""
        left = self.left
        if len(data) <= left:
            self.left = left - len(data)
            self.add(data)
            return b""
        self.left = 0
        self.add(data[:left])
        return data[left:]

    def add(self, piece: bytes) -> None:
        """Take another piece."""
        pieces = self._pieces
        if len(pieces) < PIECES:
            pieces.append(piece)
        elif len(pieces) == PIECES:
            pieces.append(bytearray(piece))
        else:
            pieces[-1] += piece

    def take(self) -> bytes:
        """The whole body, which is held no longer: an idle connection must not."""
        pieces, start = self._pieces, self._start
        self._pieces, self._start = [], 0
        if start:
            return b"".join((memoryview(pieces[0])[start:], *pieces[1:]))
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    def clear(self) -> None:
        """Drop what has come."""
        self.left = 0
        if self._pieces:
            self._pieces, self._start = [], 0
