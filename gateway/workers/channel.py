"""Messages in order over a socket, between the supervisor and one of its workers.

A frame is four bytes of length and the encoded message. Knows no message by name.
"""

import asyncio
import socket
import struct
from typing import Any, Generic, TypeVar

from gateway.cluster.codec import decode, encode

HEAD = struct.Struct("!I")  # length of the frame after it

In = TypeVar("In")
Out = TypeVar("Out")


class Channel(Generic[In, Out]):
    """One end of the channel: sends `Out`, receives `In`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any
    ) -> None:
        """incoming: the type to decode, the same as `In`."""
        self._reader = reader
        self._writer = writer
        self._incoming = incoming

    @classmethod
    async def over(cls, end: socket.socket, incoming: Any) -> "Channel[In, Out]":
        """Make a channel over one socket of a pair, and own the socket."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end), incoming)

    def send(self, message: Out) -> None:
        """Send without waiting; does nothing if the other end is closed."""
        if self._writer.is_closing():  # uvloop raises where asyncio's own loop does nothing
            return
        frame = encode(message)
        self._writer.write(HEAD.pack(len(frame)) + frame)

    async def receive(self) -> In:
        """Wait for the next message. Raises EOFError when the other end is closed, CodecError for
        bytes that are not a message."""
        try:
            (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            frame = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            raise EOFError from None
        message: In = decode(frame, self._incoming)
        return message

    async def close(self) -> None:
        """Close after everything was sent."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other end closed first
            return
