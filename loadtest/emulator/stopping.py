"""Stop strings: where an answer ends because of one, and what its tokens show then.

As in vLLM text is held back that may be the beginning of a stop string, and a stop string counts
with all tokens that it took, though it is not shown. Knows no streams.
"""

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.emulator.refusals import JsonObject
from loadtest.emulator.sampling import int_field


class StopRule(NamedTuple):
    """What a request says of its end. shows: whether the stop string is part of the answer. least:
    tokens before which none counts (`min_tokens`)."""

    strings: tuple[str, ...]
    shows: bool
    least: int


class StoppedText(NamedTuple):
    """A text up to its end. shown: what each of its tokens shows. by: the stop string that ended
    it, `None` if none did."""

    shown: tuple[str, ...]
    by: str | None


def stop_rule(body: JsonObject) -> StopRule | None:
    """The rule of a request whose sampling parameters are checked; `None` without stop strings."""
    stop = body.get("stop")
    strings = [stop] if isinstance(stop, str) else stop or []
    strings = tuple(each for each in strings if each)
    if not strings:
        return None
    shows = bool(body.get("include_stop_str_in_output"))
    return StopRule(strings, shows, int_field(body, "min_tokens") or 0)


def stopped(texts: Sequence[str], rule: StopRule) -> StoppedText:
    """The text that some tokens make under a rule."""
    whole, told = "", 0
    held = 0 if rule.shows else max(map(len, rule.strings)) - 1
    shown: list[str] = []
    for number, text in enumerate(texts, 1):
        before = len(whole)
        whole += text
        by = _first(whole, before, rule.strings) if number > rule.least else None
        if by is not None or number == len(texts):
            end = len(whole)
            if by is not None:
                at = whole.find(by, max(0, before - len(by) + 1))
                end = at + len(by) if rule.shows else at
            shown.append(whole[told:end])
            return StoppedText(tuple(shown), by)
        end = max(told, len(whole) - held)
        shown.append(whole[told:end])
        told = end
    return StoppedText(tuple(shown), None)


def _first(whole: str, before: int, strings: Sequence[str]) -> str | None:
    """The first of the strings that new text completes: `whole` had `before` characters until
    now."""
    for each in strings:
        if whole.find(each, max(0, before - len(each) + 1)) >= 0:
            return each
    return None
