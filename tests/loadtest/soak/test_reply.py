"""What scripted engines write."""

from random import Random

import pytest

from loadtest.soak.faults import EngineFault
from loadtest.soak.reply import script
from loadtest.soak.traffic import CHAT, Question, body

STREAMED = Question(number=7, pieces=5, stream=True)


def parts(fault: EngineFault | None, ask: Question = STREAMED, seed: int = 0):
    return script(CHAT, ask.number, body(ask), fault, Random(seed))


def test_an_answer_is_whole_and_keeps_the_connection():
    """A head, an event for each piece, and the end."""
    done = parts(None)

    assert (len(done.parts), done.end, done.whole) == (7, "keep", True)
    assert done.parts[-1].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "fault", [f for f in EngineFault if f not in (EngineFault.SLOW, EngineFault.DOWN)]
)
@pytest.mark.parametrize("stream", [True, False])
def test_no_fault_gives_a_whole_answer(fault: EngineFault, stream: bool):
    """Wherever it hits, and whether the answer streams or not."""
    ask = Question(number=7, pieces=5, stream=stream)
    whole = b"".join(parts(None, ask).parts)

    for seed in range(20):
        done = parts(fault, ask, seed)
        assert not done.whole
        assert b"".join(done.parts) != whole


@pytest.mark.parametrize("fault", [EngineFault.FULL, EngineFault.LIMITED])
def test_a_full_engine_says_when_to_come_again(fault: EngineFault):
    """As Retry-After, in seconds."""
    assert b"retry-after: 1\r\n" in parts(fault).parts[0]


def test_usage_is_told_to_who_asks_for_it():
    """A stream has it in an event of its own."""
    asked = body(STREAMED)[:-1] + b',"stream_options":{"include_usage":true}}'

    told = script(CHAT, 7, asked, None, Random(0)).parts[-1]

    assert b'"completion_tokens":5' in told
    assert b"usage" not in parts(None).parts[-1]
