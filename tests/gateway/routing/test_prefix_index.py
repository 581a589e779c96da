"""Where beginnings are known: what is noted is found, what an engine forgot is not."""

import random

import pytest

from gateway.routing.prefix_index import CELLS, WAYS, PrefixIndex

ROWS = 8
ROOM = 1 << 20


def make_index(rows=ROWS, memory=None):
    index = PrefixIndex(memory or bytearray(8 * PrefixIndex.words(rows=rows)), rows=rows)
    for row in range(rows):
        index.span(row, ROOM)
    return index


def prompt(seed, length=10):
    rng = random.Random(seed)
    return [rng.getrandbits(60) for _ in range(length)]


def test_what_was_noted_is_found_as_far_as_it_goes():
    """By row, the number of beginnings that a prompt has in common with what was there."""
    index, one, other = make_index(), prompt(1), prompt(2)
    index.note(one, 3, 1_000)
    index.note(one[:4] + other[4:], 5, 1_000)

    assert index.find(one) == {3: 10, 5: 4}
    assert index.find(one[:4] + other[4:]) == {3: 4, 5: 10}
    assert index.find(other) == {}
    assert index.find([]) == {}


def test_as_many_tokens_as_the_engine_holds_push_out_what_was_there():
    """Other prompts take its room; one that is used again stays."""
    index, old, used = make_index(), prompt(1), prompt(2)
    index.note(old, 0, 1_000)
    index.note(used, 0, 1_000)
    for n in range(9):
        index.note(prompt(100 + n), 0, ROOM // 8)
        index.note(used, 0, 0)

    assert index.find(old) == {}
    assert index.find(used) == {0: 10}


def test_a_smaller_engine_forgets_earlier():
    """The span of a row may change: less of it is free where more requests run."""
    index, one = make_index(), prompt(1)
    index.note(one, 0, 1_000)
    index.note([], 0, ROOM // 4)
    assert index.find(one) == {0: 10}

    index.span(0, ROOM // 8)

    assert index.find(one) == {}


@pytest.mark.parametrize("times", [1, 2, 300])
def test_a_row_that_begins_anew_knows_nothing(times):
    """However often: a clock that comes round brings nothing back at once."""
    index, one = make_index(), prompt(1)
    index.note(one, 2, 1_000)
    index.note(one, 4, 1_000)

    for _ in range(times):
        index.forget(2)

    assert index.find(one) == {4: 10}
    index.note(one, 2, 0)
    assert index.find(one) == {2: 10, 4: 10}


def test_a_beginning_has_as_many_homes_as_there_are_ways():
    """A prompt that all send is known at several backends, so that they share it."""
    index, one = make_index(), prompt(1)
    for row in range(ROWS):
        index.note(one, row, 1_000)

    assert len(index.find(one)) >= WAYS


def test_one_lost_cell_hides_no_longer_beginning():
    """Cells are given to others now and then."""
    index, one = make_index(), prompt(1)
    index.note(one[:3] + one[4:], 1, 1_000)

    assert index.find(one) == {1: 10}


def test_the_table_keeps_its_size_and_the_newest():
    """Far more beginnings than cells: the last ones are nearly all there."""
    index = make_index()
    for n in range(CELLS // 30):
        index.note(prompt(n, 40), n % ROWS, 0)

    newest = range(CELLS // 30 - 500, CELLS // 30)
    found = [index.find(prompt(n, 40)).get(n % ROWS, 0) for n in newest]
    assert sum(found) > 0.8 * 40 * len(found)


def test_processes_share_one_table():
    """What one notes another finds; both salt alike."""
    memory = bytearray(8 * PrefixIndex.words(rows=ROWS))
    mine, theirs = make_index(memory=memory), make_index(memory=memory)
    mine.salt = 1 << 59
    mine.note(prompt(1), 1, 1_000)

    assert theirs.find(prompt(1)) == {1: 10}
    assert theirs.salt == 1 << 59


def test_rows_beyond_the_table_are_left_out():
    """More backends than it was made for: nothing is known of them, and nothing breaks."""
    index, one = make_index(), prompt(1)
    index.note(one, ROWS, 1_000)
    index.forget(ROWS)
    index.span(ROWS, ROOM)

    assert index.find(one) == {}


def test_what_an_engine_was_seen_to_forget_is_not_found():
    """All that was noted before a time of the clock; what is newer stays for as long as before."""
    index, old, new = make_index(), prompt(1), prompt(2)
    index.note(old, 0, 10_000)
    index.note(old, 1, 10_000)
    index.note(new, 0, 10_000)
    edge = index.clock(0)

    index.disbelieve(0, edge)

    assert index.find(old) == {1: 10}
    assert index.find(new) == {0: 10}
    index.note([], 0, 2_000)
    assert index.find(new) == {}


def test_to_disbelieve_again_changes_nothing():
    """Nor does an earlier time, or a row that the table does not have."""
    index, new = make_index(), prompt(2)
    index.note(prompt(1), 0, 10_000)
    index.note(new, 0, 10_000)
    edge = index.clock(0)
    index.disbelieve(0, edge)
    clock = index.clock(0)

    for time in (edge, edge - 5_000, 0):
        index.disbelieve(0, time)
    index.disbelieve(ROWS, 1)

    assert index.clock(0) == clock
    assert index.clock(ROWS) == 0
    assert index.find(new) == {0: 10}
