"""Reads what engines publish of their prefix caches: batches of events in MessagePack. No I/O.

vLLM wrote batches and events as arrays first and writes them as maps since; SGLang has had both,
also maps in an array. Fields that came later are skipped, and so are events of other kinds.
https://docs.vllm.ai/en/latest/api/vllm/distributed/kv_events/
"""

from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct
from msgspec.msgpack import Decoder

SEQUENCE_BYTES = 8  # of a batch's number, big-endian
STORED, REMOVED, CLEARED = "BlockStored", "BlockRemoved", "AllBlocksCleared"
BlockHash: TypeAlias = int | bytes
NOTHING = Raw()
MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)  # first bytes of MessagePack's maps


class GarbledEvents(Exception):
    """What came is no batch of events: one line why."""


class BlocksStored(Struct, tag=STORED):
    """Blocks came into a cache.

    block_size: tokens of each, 0: untold. medium: `None`: the device's memory. group_idx: of the
    layers that it is for, where a model has several kinds. kv_cache_spec_sliding_window: tokens
    that this group keeps of a sequence, if not all.
    """

    block_hashes: list[BlockHash]
    parent_block_hash: Any = None
    token_ids: Raw = NOTHING
    block_size: int = 0
    lora_id: Raw = NOTHING
    medium: str | None = None
    # What differs between engines in arrays is not relied on.
    lora_name: Raw = NOTHING
    extra_keys: Raw = NOTHING
    group_idx: Any = None
    kv_cache_spec_kind: Raw = NOTHING
    kv_cache_spec_sliding_window: Any = None


class BlocksRemoved(Struct, tag=REMOVED):
    """Blocks left a cache. medium, group_idx: as above."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: Any = None


class BlocksCleared(Struct, tag=CLEARED):
    """All blocks left."""


class StoredArray(BlocksStored, array_like=True, tag=STORED):
    """The same as an array."""


class RemovedArray(BlocksRemoved, array_like=True, tag=REMOVED):
    """The same as an array."""


class ClearedArray(BlocksCleared, array_like=True, tag=CLEARED):
    """The same as an array."""


class EventBatch(Struct):
    """Some events. Their time and rank are not needed: each rank has a publisher of its own."""

    ts: Any
    events: list[Raw]


class BatchArray(EventBatch, array_like=True):
    """The same as an array."""


CacheEvent: TypeAlias = BlocksStored | BlocksRemoved | BlocksCleared
KNOWN = frozenset((STORED, REMOVED, CLEARED))
_batch_map, _batch_array = Decoder(EventBatch), Decoder(BatchArray)
_event_map: Decoder[CacheEvent] = Decoder(BlocksStored | BlocksRemoved | BlocksCleared)
_event_array: Decoder[CacheEvent] = Decoder(StoredArray | RemovedArray | ClearedArray)


def events_of(payload: bytes) -> list[CacheEvent]:
    """The events of a batch that are known. Raises GarbledEvents."""
    try:
        batch = (_batch_map if _is_map(payload) else _batch_array).decode(payload)
        found = [_event(bytes(raw)) for raw in batch.events]
        return [event for event in found if event is not None]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise GarbledEvents(f"{type(error).__name__}: {error}".splitlines()[0]) from None


def _event(raw: bytes) -> CacheEvent | None:
    """An event; `None` of a kind that is not known. Raises MsgspecError."""
    try:
        return (_event_map if _is_map(raw) else _event_array).decode(raw)
    except msgspec.ValidationError:
        kind = _kind(msgspec.msgpack.decode(raw))
        if isinstance(kind, str) and kind not in KNOWN:
            return None
        raise


def _is_map(encoded: bytes) -> bool:
    return bool(encoded) and encoded[0] in MAPS


def _kind(value: Any) -> Any:
    if isinstance(value, dict):
        return value.get("type")
    return value[0] if isinstance(value, list) and value else None


def numbered(frames: list[bytes]) -> tuple[int, bytes]:
    """The number and the payload of a message. frames: topic, number, payload; what follows is
    skipped. Raises GarbledEvents."""
    if len(frames) < 3 or len(frames[1]) != SEQUENCE_BYTES:
        sizes = ", ".join(str(len(frame)) for frame in frames)
        raise GarbledEvents(f"a message in parts of {sizes} bytes, not of topic, number and batch")
    return int.from_bytes(frames[1], "big"), frames[2]
