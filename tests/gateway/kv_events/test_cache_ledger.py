"""What an engine's events tell of its cache."""

from gateway.kv_events.cache_ledger import MOST, PROMPT_TOKENS, SURE, CacheLedger
from gateway.kv_events.event_sequence import EventSequence, Place
from gateway.kv_events.frames import BlocksCleared, BlocksRemoved, BlocksStored

BLOCKS = PROMPT_TOKENS // 16  # of a prompt
PROMPTS = [range(100 * n, 100 * n + BLOCKS) for n in range(SURE)]  # as many as a time is sure by
LATER = [range(50 + 100 * n, 50 + 100 * n + BLOCKS) for n in range(SURE)]


def stored(hashes, **fields):
    return BlocksStored(block_hashes=list(hashes), block_size=16, **fields)


def store(prompts, **fields):
    return [stored(prompt, **fields) for prompt in prompts]


def remove(prompts, **fields):
    return [removed(prompt, **fields) for prompt in prompts]


def removed(hashes, **fields):
    return BlocksRemoved(block_hashes=list(hashes), **fields)


def ledger_of(*events, clock=100):
    ledger = CacheLedger(whole=True)
    ledger.take(events, clock)
    return ledger


def test_what_is_held_is_what_was_stored_less_what_was_removed():
    """In tokens, of the device's memory only."""
    ledger = ledger_of(
        stored(range(10), medium="GPU"), stored(range(3)), stored(range(50), medium="CPU"),
        removed(range(4)), removed(range(50), medium="CPU"), stored([]),
    )  # fmt: skip

    assert ledger.held_tokens == 9 * 16


def test_groups_of_layers_hold_the_same_tokens():
    """Of a model with several kinds of layers, the group with most counts."""
    ledger = ledger_of(
        stored(range(10), group_idx=0),
        stored(range(4), group_idx=1, kv_cache_spec_sliding_window=64),
    )

    assert ledger.held_tokens == 160


def test_what_was_missed_makes_it_unknown_until_it_is_cleared():
    """A gap, more removed than stored, or blocks of no size."""
    ledger = ledger_of(stored(range(10)))
    ledger.lost()
    assert ledger.held_tokens is None
    assert ledger.take([stored([1]), BlocksCleared()], 1)
    assert ledger.held_tokens == 0

    assert ledger_of(stored([1]), removed([1, 2])).held_tokens is None
    assert ledger_of(BlocksStored(block_hashes=[1])).held_tokens is None


def test_removed_prompts_tell_what_is_gone():
    """All that was noted before the time when they were stored; a few are taken for chance."""
    ledger = ledger_of(*store(PROMPTS), clock=100)
    ledger.take(store(LATER), 200)

    ledger.take(remove(PROMPTS[:-1]), 300)
    assert ledger.edge is None
    ledger.take(remove(PROMPTS[-1:]), 300)
    assert ledger.edge == 100

    ledger.take(remove(LATER[:-1]), 300)
    assert ledger.edge == 100
    ledger.take(remove(LATER[-1:]), 300)
    assert ledger.edge == 200


def test_a_block_that_was_used_again_claims_nothing_newer():
    """It was stored long ago and is removed late: what is known stays."""
    ledger = ledger_of(*store(PROMPTS), clock=100)
    ledger.take(store(LATER), 200)
    ledger.take(remove(LATER), 300)

    ledger.take(remove(PROMPTS), 400)

    assert ledger.edge == 200


def test_a_block_that_is_there_twice_claims_the_earlier_time():
    """One of the two may be there still."""
    ledger = ledger_of(*store(PROMPTS), clock=100)
    ledger.take(store(PROMPTS), 900)

    ledger.take(remove(PROMPTS), 1000)

    assert ledger.edge == 100


def test_a_prompt_may_be_told_block_by_block():
    """As SGLang does: they are one behind the other. Its end is what is followed."""
    ledger = CacheLedger(whole=True)
    for prompt in PROMPTS:
        parents = [None, *prompt[:-1]]
        events = [stored([b], parent_block_hash=p) for b, p in zip(prompt, parents, strict=True)]
        ledger.take(events, 100)

    for prompt in PROMPTS:
        ledger.take([removed(prompt[:-1])], 200)
    assert ledger.edge is None
    for prompt in PROMPTS:
        ledger.take([removed(prompt[-1:])], 200)

    assert ledger.edge == 100


def test_blocks_of_answers_tell_nothing():
    """They come one by one, of several answers in a batch, long after their prompts were noted."""
    ledger = CacheLedger(whole=True)
    for step in range(BLOCKS):
        parents = [prompt[step - 1] if step else 9_000 for prompt in PROMPTS]
        events = [
            stored([prompt[step]], parent_block_hash=parent)
            for prompt, parent in zip(PROMPTS, parents, strict=True)
        ]
        ledger.take(events, 100 + step)

    ledger.take(remove(PROMPTS), 1000)

    assert ledger.edge is None
    assert ledger.held_tokens == 0


def test_other_memory_keeps_what_the_device_forgets():
    """An engine that also keeps blocks in the host's memory has them for longer."""
    ledger = ledger_of(*store(PROMPTS), *store(PROMPTS, medium="CPU"), *remove(PROMPTS))

    assert ledger.edge is None


def test_layers_with_a_window_tell_nothing():
    """They forget the beginning of a sequence that still runs."""
    window = {"group_idx": 1, "kv_cache_spec_sliding_window": 64}
    ledger = ledger_of(*store(PROMPTS, **window), *remove(PROMPTS, group_idx=1))

    assert ledger.edge is None


def test_what_happened_at_some_time_before_tells_no_time():
    """Events that were replayed."""
    ledger = ledger_of(*store(PROMPTS), clock=None)
    ledger.take(remove(PROMPTS), 100)

    assert ledger.edge is None
    assert ledger.held_tokens == 0


def test_memory_is_bounded():
    """Whatever is stored and never removed."""
    ledger = CacheLedger(whole=True)
    for n in range(MOST + 10):
        ledger.take([BlocksStored(block_hashes=[n], block_size=PROMPT_TOKENS)], n)

    assert len(ledger._followed) == MOST


def test_batches_have_their_places():
    """In turn, behind a gap, again after an answer, and anew."""
    sequence = EventSequence()

    def came(number, *more):
        place = sequence.look(number)
        for one in (*more, number):
            if one >= sequence.expected:
                sequence.taken(one)
        return place

    assert came(0) is Place.NEXT
    assert came(1) is Place.NEXT
    assert came(4, 2, 3, 5, 6) is Place.GAP
    assert came(5) is Place.OLD
    assert came(6) is Place.OLD
    assert came(7) is Place.NEXT
    assert came(2) is Place.ANEW
    assert came(3) is Place.NEXT
