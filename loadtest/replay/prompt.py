"""Prompt text of a wanted length in words. Knows nothing of requests, models or servers."""

from dataclasses import dataclass
from itertools import accumulate
from random import Random

TEXT = """\
a able about above across act add after again age air all almost alone along already also
always among and animal answer any apple area arm art as ask at autumn away back bag ball
bank base be beautiful because become bed before begin behind between bird black blue board
boat body book both bottle bread bridge bright bring brother build business but buy by call
camera can capital car careful carry catch celebrate centre certain chair change chapter
cheap child choose circle city clean clear climb close cloud coffee cold colour common
company compare consider continue cook corner country course cover cross cup customer dance
dark day decide deep describe different difficult dinner direction discover distance doctor
door draw dream drive early earth east easy education effort eight electricity empty engine
enough environment evening every example experience explain eye face family far farmer fast
father field fifteen fill find finger fire fish flower follow food forest forget forward
four freedom fresh friend from front fruit full garden general gentle glass go gold
government grass great green ground grow half hand happen harbour heavy history holiday
horse hospital hour house hundred idea important information interesting island journey
kitchen knowledge language laugh learn letter library light listen machine market measure
mountain neighbour opportunity particular photograph question remember
"""
WORDS = tuple(TEXT.split())
SHIFTS = 4093  # starting words to choose from: prime, so that steps of any size visit all of them
STEP = 1009
SEED = 20231116


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One long ASCII text without characters that JSON escapes, cut into prompts by slicing.

    ends: (words + 1,) where each word begins in `words`, and the end.
    """

    words: bytes
    ends: tuple[int, ...]

    def cut(self, count: int, index: int) -> bytes:
        """`count` words, at least one, the same for the same index and differing between indices.

        Prompts start at different words, so that a prefix cache finds nothing in common.
        """
        start = index * STEP % SHIFTS
        return self.words[self.ends[start] : self.ends[start + max(1, count)] - 1]


def build(longest: int) -> Text:
    """The text from which prompts of up to `longest` words can be cut."""
    words = Random(SEED).choices(WORDS, k=SHIFTS + max(1, longest))
    return Text(
        words=(" ".join(words) + " ").encode(),
        ends=tuple(accumulate((len(word) + 1 for word in words), initial=0)),
    )
