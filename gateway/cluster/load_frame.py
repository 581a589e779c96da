"""What one gateway has in flight and gave to callers lately, as bytes that are cheap to read. Pure.

A frame is written and read ten times a second by every gateway, so it is arrays and no objects:
only backends that have something, with a digest of their pool and URL, and only the callers with
the most tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from struct import error as StructError

import numpy as np
from numpy.typing import NDArray

from gateway.cluster.codec import CodecError
from gateway.routing.admission import COARSE
from gateway.routing.backend import FIRST_LOAD, FIRST_PRESENT, MOST_CLASSES, WIDTH
from gateway.routing.gateway_load import Holding
from gateway.routing.shared_queue import CALLERS, POOLS
from planner.sizes import FloatArray

VERSION = 1
MOST_CALLERS = 256  # of one frame
# Version; classes of a model; backends; callers; pools that requests wait for; number; arrivals/s;
# print of the configuration; zone, as a digest of its name.
HEAD = Struct("<BBHHBId8s8s")
# Callers have no more part in a queue than this behind: what is known of other gateways is older
# than one interval, and room that is kept for a request that has it already is lost.
MARGIN = 1.05
MARGIN_TOKENS = 4_000.0
NOWHERE = bytes(8)  # the zone of a gateway that has none

Keys = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LoadFrame:
    """What one gateway told.

    number: another one for each frame. rate: of requests that arrive there, 1/s. print: of its
    configuration; classes and pools have the same numbers where it is the same. zone: digest of its
    name. keys: (R,) of backends. sums, tokens, claims: see `Holding`.
    """

    number: int
    print: bytes
    keys: Keys
    sums: FloatArray
    tokens: FloatArray
    claims: FloatArray
    rate: float = 0.0
    zone: bytes = NOWHERE


def backend_keys(backends: Sequence[tuple[str, str]]) -> Keys:
    """(R,) digests of backends by pool and URL."""
    digests = (blake2b(f"{p} {url}".encode(), digest_size=8).digest() for p, url in backends)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def zone_key(zone: str | None) -> bytes:
    """The digest of a zone."""
    return NOWHERE if zone is None else blake2b(zone.encode(), digest_size=8).digest()


def packed(frame: LoadFrame) -> bytes:
    """A frame as bytes, without backends that have nothing."""
    busy = np.flatnonzero(frame.sums[:, 0])
    sums = frame.sums[busy]
    used = np.flatnonzero(
        (sums[:, FIRST_LOAD:FIRST_PRESENT] != 0).any(axis=0)
        | (sums[:, FIRST_PRESENT:] != 0).any(axis=0)
    )
    classes = int(used[-1]) + 1 if len(used) else 0
    columns = _columns(classes)
    callers = np.flatnonzero(frame.tokens)
    if len(callers) > MOST_CALLERS:
        most = np.argsort(frame.tokens[callers])[-MOST_CALLERS:]
        callers = callers[most]
    pools = np.flatnonzero(frame.claims[:, 0])
    head = HEAD.pack(
        VERSION, classes, len(busy), len(callers), len(pools), frame.number & 0xFFFFFFFF,
        frame.rate, frame.print, frame.zone,
    )  # fmt: skip
    return b"".join(
        (
            head,
            frame.keys[busy].astype("<u8").tobytes(),
            sums[:, columns].astype("<f4").tobytes(),
            callers.astype("<u2").tobytes(),
            frame.tokens[callers].astype("<f4").tobytes(),
            pools.astype("<u1").tobytes(),
            frame.claims[pools].astype("<f4").tobytes(),
        )
    )


def unpacked(data: bytes) -> LoadFrame:
    """A frame from its bytes. Raises CodecError for what is none."""
    try:
        head = HEAD.unpack_from(data)
    except StructError as error:
        raise CodecError(f"not a load frame: {error}") from error
    version, classes, rows, known, waited, number, rate, print_, zone = head
    columns = _columns(classes) if classes <= MOST_CLASSES else []
    sizes = 8 * rows, 4 * rows * len(columns), 2 * known, 4 * known, waited, 12 * waited
    if version != VERSION or not columns or len(data) != HEAD.size + sum(sizes):
        raise CodecError(f"not a load frame of version {VERSION}")
    parts, at = [], HEAD.size
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    sums = np.zeros((rows, WIDTH))
    sums[:, columns] = np.frombuffer(parts[1], dtype="<f4").reshape(rows, len(columns))
    tokens, claims = np.zeros(CALLERS), np.zeros((POOLS, 3))
    callers, pools = np.frombuffer(parts[2], dtype="<u2"), np.frombuffer(parts[4], dtype="<u1")
    if (known and callers.max() >= CALLERS) or (waited and pools.max() >= POOLS):
        raise CodecError("not a load frame: a caller or a pool beyond the last one")
    tokens[callers] = np.frombuffer(parts[3], dtype="<f4")
    claims[pools] = np.frombuffer(parts[5], dtype="<f4").reshape(waited, 3)
    return LoadFrame(
        number=number,
        print=print_,
        keys=np.frombuffer(parts[0], dtype="<u8"),
        sums=np.nan_to_num(sums, posinf=0.0, neginf=0.0),
        tokens=np.nan_to_num(tokens, posinf=0.0, neginf=0.0),
        claims=np.nan_to_num(claims),
        rate=rate,
        zone=zone,
    )


def summed(frames: Sequence[LoadFrame], keys: Keys, print_: bytes) -> Holding:
    """What these gateways hold together on the backends with these keys.

    What gateways of another configuration count by class or pool is not known here: the greatest of
    their loads stands for each class, as with pools of one URL, and nobody waits there.
    """
    held = Holding.nothing(len(keys))
    order = np.argsort(keys)
    ordered = keys[order]
    for frame in frames:
        held.tokens[:] += frame.tokens
        if frame.print == print_:
            _claim(held.claims, frame.claims)
        if not len(frame.keys) or not len(keys):
            continue
        place = np.minimum(np.searchsorted(ordered, frame.keys), len(keys) - 1)
        known = ordered[place] == frame.keys
        mine, theirs = order[place[known]], frame.sums[known]
        if frame.print != print_:
            theirs = theirs.copy()
            most = theirs[:, FIRST_LOAD:FIRST_PRESENT].max(axis=1, keepdims=True)
            theirs[:, FIRST_LOAD:FIRST_PRESENT] = most
            theirs[:, FIRST_PRESENT:] = 0.0
        np.add.at(held.sums, mine, theirs)
    return held


def _claim(first: FloatArray, claims: FloatArray) -> None:
    """Let the claims come first that do, among those that are known."""
    for pool in np.flatnonzero(claims[:, 0]).tolist():
        rank, level, due_s = claims[pool].tolist()
        mine = rank, (level * COARSE * MARGIN + MARGIN_TOKENS) // COARSE, due_s
        if not first[pool, 0] or mine < tuple(first[pool].tolist()):
            first[pool] = mine


def _columns(classes: int) -> list[int]:
    """The columns that are sent where models have so many classes."""
    loads = range(FIRST_LOAD, FIRST_LOAD + classes)
    present = range(FIRST_PRESENT, FIRST_PRESENT + classes)
    return [*range(FIRST_LOAD), *loads, *present]
