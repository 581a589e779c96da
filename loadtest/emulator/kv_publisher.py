"""Publishes what happens in an emulated prefix cache as vLLM does: batches of events in MessagePack
over ZeroMQ's PUB, numbered from 0, and a ROUTER that sends the last ones again.

Written from vLLM's `distributed/kv_events.py`; shares no code with what hears it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import msgspec

KEPT = 10_000  # batches for the ROUTER, vLLM's default
END = (-1).to_bytes(8, "big", signed=True)  # ends an answer of the ROUTER
VOCABULARY = 128_256

Fields = dict[str, Any]


class KvPublisher:
    """One engine's publisher. arrays: as vLLM wrote events until 2025; default: as maps, in a
    batch that is an array, as vLLM 0.32 was seen to write them.

    port, replay_port: where it is bound, once it is.
    """

    def __init__(
        self,
        port: int = 0,
        replay_port: int | None = None,
        *,
        topic: str = "kv-events",
        arrays: bool = False,
        rank: int = 0,
    ) -> None:
        """port: 0 takes a free one. replay_port: `None`: nothing is sent again."""
        self.port, self.replay_port = port, replay_port
        self._topic, self._arrays, self._rank = topic.encode(), arrays, rank
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=KEPT)
        self._pack = msgspec.msgpack.Encoder().encode
        self._publishing: Any = None
        self._answering: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<KvPublisher on {self.port}, {self._number} batches>"

    def start(self, host: str) -> None:
        """Bind both sockets. Raises OSError if an address cannot be bound."""
        zmq: Any = import_module("zmq")
        self._context: Any = import_module("zmq.asyncio").Context()
        self._publishing = self._context.socket(zmq.PUB, socket_class=zmq.Socket)
        self.port = self._bind(self._publishing, host, self.port)
        if self.replay_port is not None:
            router = self._context.socket(zmq.ROUTER)
            self.replay_port = self._bind(router, host, self.replay_port)
            self._answering = asyncio.get_running_loop().create_task(self._answer(router))

    def stop(self) -> None:
        """Close both."""
        if self._publishing is None:
            return
        if self._answering is not None:
            self._answering.cancel()
        self._publishing.close(linger=0)
        self._publishing = None
        self._context.destroy(linger=0)

    def stored(
        self, blocks: Sequence[int], parent: int | None, tokens: Sequence[str], block_tokens: int
    ) -> None:
        """Blocks were computed, one behind the other. parent: the block before the first."""
        self.publish(
            {
                "type": "BlockStored",
                "block_hashes": [block % 2**64 for block in blocks],
                "parent_block_hash": None if parent is None else parent % 2**64,
                "token_ids": [hash(token) % VOCABULARY for token in tokens],
                "block_size": block_tokens,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
            }
        )

    def removed(self, blocks: Sequence[int]) -> None:
        """Blocks were forgotten."""
        hashes = [block % 2**64 for block in blocks]
        self.publish({"type": "BlockRemoved", "block_hashes": hashes, "medium": "GPU"})

    def cleared(self) -> None:
        """All blocks were forgotten."""
        self.publish({"type": "AllBlocksCleared"})

    def publish(self, *events: Fields) -> None:
        """Send a batch."""
        listed = [list(event.values()) if self._arrays else event for event in events]
        self.send(self._pack([time.time(), listed, self._rank]))

    def send(self, payload: bytes, *, lost: bool = False) -> None:
        """Send what may be no batch. lost: whether it is only sent again, as if nobody got it."""
        number, self._number = self._number, self._number + 1
        self._kept.append((number, payload))
        if not lost and self._publishing is not None:
            message = (self._topic, number.to_bytes(8, "big"), payload)
            self._publishing.send_multipart(message)

    async def _answer(self, router: Any) -> None:
        while True:
            asked = await router.recv_multipart()
            if len(asked) != 3:
                continue
            client, _, first = asked
            for number, payload in tuple(self._kept):
                if number >= int.from_bytes(first, "big"):
                    answer = (client, b"", number.to_bytes(8, "big"), payload)
                    await router.send_multipart(answer)
            await router.send_multipart((client, b"", END, b""))

    def _bind(self, socket: Any, host: str, port: int) -> int:
        zmq: Any = import_module("zmq")
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            raise OSError(error.errno, f"tcp://{host}:{port}: {error}") from None
        return int(socket.getsockopt(zmq.LAST_ENDPOINT).decode().rpartition(":")[2])
