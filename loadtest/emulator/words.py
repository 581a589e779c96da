"""The words that an emulated model says. Knows no requests."""

# vLLM sends "" for a token that ends inside a UTF-8 character, so chunks with text are fewer than
# tokens. Here every 50th token is such a one; the number is chosen, not measured.
EMPTY_EVERY = 50
TEXT = (
    "the sun rose over a small town and people went out to buy bread from old shops near river "
    "stone bridge while children played under green trees with kites made of paper because wind "
    "came early that year so every roof was warm by noon then rain fell on red tiles until night "
    "brought quiet streets"
)
WORDS = tuple(f" {word}" for word in TEXT.split())
CHOICE_STEP = 7  # words between the starts of two choices: n answers to one prompt differ


def is_held_back(index: int, total: int, *, itself: bool) -> bool:
    """Whether output token `index` of `total` shows no text. The last token shows none where the
    answer ends by itself, for it says so; else it always shows some."""
    if index + 1 >= total:
        return itself
    return index % EMPTY_EVERY == EMPTY_EVERY - 1


def spoken(
    seed: int, sequence: int, index: int, total: int, *, begins: bool, itself: bool = False
) -> str:
    """The text of one output token of a sequence: words in a cycle from a start that the seed
    chooses. begins: whether the text begins with the answer, and not with its prompt. itself:
    whether the answer ends by itself."""
    if is_held_back(index, total, itself=itself):
        return ""
    word = WORDS[(seed + CHOICE_STEP * sequence + index) % len(WORDS)]
    # A text does not begin with a space, unless it goes on where the prompt ended.
    return word[1:] if index == 0 and begins else word
