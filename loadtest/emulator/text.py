"""The emulated text: what a model says, and what of it is shown. No JSON, no pace."""

from loadtest.emulator.requests import GenerationRequest
from loadtest.emulator.words import spoken


def token_text(generation: GenerationRequest, sequence: int, index: int) -> str:
    """The text of one output token of a sequence: of its script, or words."""
    if generation.scripts is not None:
        return generation.scripts[sequence][index]
    total, begins = generation.output_tokens[sequence], generation.echo is None
    itself = generation.ends_itself(sequence)
    return spoken(generation.seed, sequence, index, total, begins=begins, itself=itself)


def output_text(generation: GenerationRequest, sequence: int, start: int, stop: int) -> str:
    """What output tokens start to stop − 1 of a sequence show."""
    if generation.shown is not None:
        return "".join(generation.shown[sequence][start:stop])
    return "".join(token_text(generation, sequence, index) for index in range(start, stop))


def unary_text(generation: GenerationRequest, sequence: int) -> str:
    """All that a sequence shows where it is not streamed: of a call that was cut, what the model
    wrote, for no parser knows it as one."""
    text = whole_text(generation, sequence)
    if generation.tool is None or generation.called:
        return text
    return f'<tool_call>{{"name": "{generation.tool}", "arguments": {text}'


def whole_text(generation: GenerationRequest, sequence: int) -> str:
    """All that a sequence shows."""
    return output_text(generation, sequence, 0, generation.output_tokens[sequence])
