"""Prompts of a given number of words. Knows nothing of requests, models or servers."""

from dataclasses import dataclass
from itertools import accumulate
from random import Random

VOCABULARY = """\
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
WORDS = tuple(VOCABULARY.split())
# Prompt i starts at word i·STEP mod SHIFTS of the corpus. SHIFTS is prime, so any step visits every
# starting word before one repeats.
SHIFTS = 4093
STEP = 1009
SEED = 20231116  # any fixed number: the same replay sends the same prompts again


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptCorpus:
    """One long ASCII text without characters that JSON escapes; prompts are slices of it.

    Slicing costs little per request, and a prompt can be spliced into a JSON body as it is.
    offsets: (words + 1,) where each word begins in `text`, and the end.
    """

    text: bytes
    offsets: tuple[int, ...]

    def prompt(self, words: int, index: int, shared: int = 0) -> bytes:
        """The prompt of request `index`: `words` words, at least one; the same each time.

        shared: of the words, the first so many are those of all prompts. The rest starts at another
        word in each, so that an engine's prefix cache finds no more in common.
        """
        words = max(1, words)
        shared = max(0, min(shared, words))
        begin = self.text[self.offsets[SHIFTS] : self.offsets[SHIFTS + shared]]
        start = index * STEP % SHIFTS
        rest = self.text[self.offsets[start] : self.offsets[start + words - shared]]
        return (begin + rest)[:-1] if begin else rest[:-1]


def build_corpus(max_words: int) -> PromptCorpus:
    """The corpus for prompts of up to `max_words` words."""
    words = Random(SEED).choices(WORDS, k=SHIFTS + max(1, max_words))
    return PromptCorpus(
        text=(" ".join(words) + " ").encode(),
        offsets=tuple(accumulate((len(word) + 1 for word in words), initial=0)),
    )
