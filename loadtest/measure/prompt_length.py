"""How many words make a prompt of so many tokens: learned from what the backend counts. Pure."""

from random import Random

from loadtest.replay.prompt import WORDS

PER_WORD = 1.3  # tokens, before any answer is there
SHORT_PROBE, LONG_PROBE = 40, 400  # words of the first two prompts, where the context has room
LEAST_PROBE = 4
MOST_PER_WORD = 16  # tokens, of the densest tokenizer: one of bytes
SHORT_ROOM, LONG_ROOM = 0.25, 0.5  # of the context, which each of them may take


class PromptLength:
    """The line `tokens = start + per_word · words` through what was counted."""

    def __init__(self) -> None:
        self._counted: dict[int, tuple[float, int]] = {}  # words: sum of tokens, prompts

    def learn(self, words: int, tokens: int) -> None:
        """Take what the backend counted for one prompt."""
        total, prompts = self._counted.get(words, (0.0, 0))
        self._counted[words] = total + tokens, prompts + 1

    def probe(self, context: int | None) -> int:
        """Words of the next prompt from which the line is learned: a short one, then one as long as
        there is room for. context: the engine's, in tokens; `None`: not known."""
        if not self._counted:
            most = SHORT_PROBE if context is None else int(SHORT_ROOM * context / MOST_PER_WORD)
            return max(LEAST_PROBE, min(SHORT_PROBE, most))
        if context is None:
            return LONG_PROBE
        words, (tokens, prompts) = max(self._counted.items())
        most = int(LONG_ROOM * context / (tokens / prompts / words))
        return max(words + 1, min(LONG_PROBE, most))

    def words(self, tokens: int) -> int:
        """How many words to send for a prompt of about this many tokens."""
        start, per_word = self._line()
        return max(1, round((tokens - start) / per_word))

    def _line(self) -> tuple[float, float]:
        means = {words: total / count for words, (total, count) in self._counted.items()}
        if len(means) < 2:
            return 0.0, PER_WORD
        low, high = min(means), max(means)
        per_word = (means[high] - means[low]) / (high - low)
        if per_word <= 0:
            return 0.0, PER_WORD
        return means[low] - per_word * low, per_word


def random_text(words: int, random: Random) -> str:
    """Words that begin differently each time, so that a prefix cache finds nothing.

    64 bits are in the first eight words: two prompts do not begin alike by chance.
    """
    return " ".join(random.choices(WORDS, k=words))
