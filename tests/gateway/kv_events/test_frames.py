"""What engines publish, in the bytes that they send."""

from typing import Any

import msgspec
import pytest

from gateway.kv_events.frames import (
    BlocksCleared,
    BlocksRemoved,
    BlocksStored,
    GarbledEvents,
    events_of,
    numbered,
)

encode = msgspec.msgpack.encode
# Made by hand from the format of vLLM 0.9 to 0.11: arrays, each event with its tag first.
# [1.5, [["BlockStored", [1, 2], nil, [7, 8], 1, nil, "GPU"], ["BlockRemoved", [1], "GPU"]], 3]
ARRAYS = (
    b"\x93\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x92"
    b"\x97\xabBlockStored\x92\x01\x02\xc0\x92\x07\x08\x01\xc0\xa3GPU"
    b"\x93\xacBlockRemoved\x91\x01\xa3GPU"
    b"\x03"
)
# The same of later vLLM: maps, hashes of 32 bytes.
HASH = bytes(range(32))
MAPS = (
    b"\x82\xa2ts\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa6events\x92"
    b"\x88\xa4type\xabBlockStored\xacblock_hashes\x91\xc4\x20" + HASH + b"\xb1parent_block_hash\xc0"
    b"\xa9token_ids\x91\x07\xaablock_size\x10\xa7lora_id\xc0\xa6medium\xa3GPU\xa9lora_name\xc0"
    b"\x81\xa4type\xb0AllBlocksCleared"
)


def test_arrays_are_read():
    """As vLLM and SGLang wrote them first."""
    stored, removed = events_of(ARRAYS)

    assert isinstance(stored, BlocksStored)
    assert (stored.block_hashes, stored.block_size, stored.medium) == ([1, 2], 1, "GPU")
    assert isinstance(removed, BlocksRemoved)
    assert (removed.block_hashes, removed.medium) == ([1], "GPU")


def test_maps_are_read():
    """As vLLM writes them since."""
    stored, cleared = events_of(MAPS)

    assert isinstance(stored, BlocksStored)
    assert (stored.block_hashes, stored.block_size) == ([HASH], 16)
    assert isinstance(cleared, BlocksCleared)


def test_maps_in_an_array_are_read():
    """As SGLang has had them."""
    (removed,) = events_of(encode([1.0, [{"type": "BlockRemoved", "block_hashes": [9]}], 0]))

    assert isinstance(removed, BlocksRemoved)
    assert removed.block_hashes == [9]
    assert removed.medium is None


@pytest.mark.parametrize("arrays", [True, False])
def test_what_is_newer_is_skipped(arrays):
    """Fields behind those that are known, and events of other kinds, between ones that are."""
    stored: Any
    events: list[Any]
    if arrays:
        stored = ["BlockStored", [1], None, [1], 16, None, "GPU", "l", [["x"]], 2, "full", 64, {}]
        payload = encode([1.0, [["BlockMoved", [1], 5], stored, ["AllBlocksCleared", 1]], 0, "new"])
    else:
        stored = {"type": "BlockStored", "block_hashes": [1], "block_size": 16, "group_idx": 2,
                  "kv_cache_spec_sliding_window": 64, "locality": {"a": [1]}}  # fmt: skip
        events = [{"type": "BlockMoved", "x": 1}, stored, {"type": "AllBlocksCleared", "why": "x"}]
        payload = encode({"ts": 1, "events": events, "data_parallel_rank": 0, "new": [1]})

    one, two = events_of(payload)

    assert isinstance(one, BlocksStored)
    assert (one.group_idx, one.kv_cache_spec_sliding_window) == (2, 64)
    assert isinstance(two, BlocksCleared)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93",
        b"GET / HTTP/1.1\r\n\r\n",
        ARRAYS[:-20],
        encode("text"),
        encode({"ts": 1.0}),
        encode([1.0, [5]]),
        encode([1.0, [[]]]),
        encode([1.0, [["BlockStored", "hashes"]]]),
        encode([1.0, [["BlockRemoved", [[1]]]]]),
        encode({"ts": 1, "events": [{"type": "BlockRemoved", "block_hashes": None}]}),
        encode({"ts": 1, "events": [{"block_hashes": [1]}]}),
    ],
)
def test_garbage_is_told(payload):
    """In one line, whatever it is."""
    with pytest.raises(GarbledEvents, match=r"^.+$"):
        events_of(payload)


def test_a_message_has_a_number():
    """Eight bytes, the most significant first, between topic and batch; what follows is skipped."""
    assert numbered([b"t", (258).to_bytes(8, "big"), b"batch", b"new"]) == (258, b"batch")
    for frames in ([], [b"batch"], [b"t", b"1", b"batch"], [b"", bytes(8)]):
        with pytest.raises(GarbledEvents):
            numbered(frames)
