"""The line between the supervisor and one of its workers: messages, in order, over a socket.

A frame is four bytes of length and the codec's bytes. Knows no message.
"""

import asyncio
import socket
import struct
from typing import Any, Generic, TypeVar

from gateway.cluster.codec import decode, encode

HEAD = struct.Struct("!I")

In = TypeVar("In")
Out = TypeVar("Out")


class Channel(Generic[In, Out]):
    """One end of the line: sends `Out`, receives `In`."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: Any
    ) -> None:
        """incoming: the type of what is received, of which `In` is the static side."""
        self._reader = reader
        self._writer = writer
        self._incoming = incoming

    @classmethod
    async def over(cls, end: socket.socket, incoming: Any) -> "Channel[In, Out]":
        """The channel over one socket of a pair, which it then owns."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end), incoming)

    def send(self, message: Out) -> None:
        """Sends without waiting; nothing happens if the other end is gone."""
        frame = encode(message)
        self._writer.write(HEAD.pack(len(frame)) + frame)

    async def receive(self) -> In:
        """The next message. Raises EOFError when the other end is gone, CodecError for bytes that
        are no message."""
        try:
            (length,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
            frame = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            raise EOFError from None
        message: In = decode(frame, self._incoming)
        return message

    async def close(self) -> None:
        """Closes when all that was sent has left."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:  # the other end was first
            return
