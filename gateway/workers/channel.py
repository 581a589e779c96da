"""The line between the supervisor and one of its workers: frozen values, in order, over a socket.

A frame is four bytes of length and a pickle; both ends are the same program on the same machine.
"""

import asyncio
import pickle
import socket
import struct

HEAD = struct.Struct("!I")


class Channel:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """The channel over one socket of a pair, which it then owns."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, value: object) -> None:
        """Sends without waiting; nothing happens if the other end is gone."""
        frame = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._writer.write(HEAD.pack(len(frame)) + frame)

    async def receive(self) -> object:
        """The next value. Raises EOFError when the other end is gone."""
        try:
            (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            return pickle.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, OSError):
            raise EOFError from None

    async def close(self) -> None:
        """Closes when all that was sent has left."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other end was first
            return
