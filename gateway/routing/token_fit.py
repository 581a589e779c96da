"""Tokens of a prompt as a straight line: so many for each byte, and so many for each message.

A line is fitted by least squares to what engines report. It starts at another one, that of more
requests, and moves away from it as it sees more of its own (shrinkage); old samples fade.
"""

from typing import Final

# Bounds of what is believed. Nothing that an engine reports of a text lies outside.
LEAST_PER_BYTE: Final = 1 / 12
MOST_PER_BYTE: Final = 2.0
MOST_PER_UNIT: Final = 64.0
# One message weighs as much as so many bytes, where samples of all sizes are made comparable.
UNIT_BYTES: Final = 16.0
# How sure the first value of tokens per message is, beside a sample, in which the text is uncertain
# by a tenth: within three tokens.
SURE: Final = 7e-5
NOTHING: Final = 1e-9


class TokenFit:
    """One fitted line. per_byte, per_unit: tokens. samples: seen, where old ones count less."""

    __slots__ = ("bb", "bu", "by", "keep", "per_byte", "per_unit", "pull", "samples", "uu", "uy")

    def __init__(self, *, per_byte: float, per_unit: float, pull: float, keep: float) -> None:
        """per_byte, per_unit: where it starts. pull: samples at which it lies in the middle between
        there and where they are. keep: what an old sample weighs after each new one."""
        self.per_byte = per_byte
        self.per_unit = per_unit
        self.pull = pull
        self.keep = keep
        self.samples = 0.0
        # Sums over the samples: of the squares and products of bytes, units and tokens.
        self.bb = self.bu = self.uu = self.by = self.uy = 0.0

    def __repr__(self) -> str:
        return f"<TokenFit {self.per_byte:.3f} a byte, {self.per_unit:.1f} a message>"

    def tokens(self, text_bytes: int, units: int) -> float:
        """The tokens of a prompt."""
        return text_bytes * self.per_byte + units * self.per_unit

    def add(
        self,
        text_bytes: int,
        units: int,
        tokens: float,
        *,
        per_byte: float,
        per_unit: float,
        weight: float = 1.0,
    ) -> None:
        """Add a sample, and fit the line again. per_byte, per_unit: where it starts now. weight: of
        the sample, in samples."""
        size = text_bytes + UNIT_BYTES * units
        bytes_part, units_part, tokens_part = text_bytes / size, units / size, tokens / size
        keep: float = self.keep
        if weight != 1.0:
            keep = float(keep**weight)
        self.samples = keep * self.samples + weight
        self.bb = keep * self.bb + weight * bytes_part * bytes_part
        self.bu = keep * self.bu + weight * bytes_part * units_part
        self.uu = keep * self.uu + weight * units_part * units_part
        self.by = keep * self.by + weight * bytes_part * tokens_part
        self.uy = keep * self.uy + weight * units_part * tokens_part
        self._solve(per_byte, per_unit)

    def _solve(self, per_byte: float, per_unit: float) -> None:
        bb, by = self.bb + self.pull, self.by + self.pull * per_byte
        uu, uy = self.uu + SURE, self.uy + SURE * per_unit
        determinant = bb * uu - self.bu * self.bu
        if determinant > NOTHING * bb * uu:
            per_unit = (bb * uy - self.bu * by) / determinant
        per_unit = min(max(per_unit, 0.0), MOST_PER_UNIT)
        per_byte = (by - self.bu * per_unit) / bb
        self.per_byte = min(max(per_byte, LEAST_PER_BYTE), MOST_PER_BYTE)
        self.per_unit = per_unit

    def sums(self) -> tuple[float, ...]:
        """All that it is made of, for `restored`."""
        return (
            self.per_byte, self.per_unit, self.samples, self.bb, self.bu, self.uu, self.by, self.uy
        )  # fmt: skip

    def restore(self, sums: tuple[float, ...]) -> None:
        """Take over the sums of another one."""
        (
            self.per_byte, self.per_unit, self.samples, self.bb, self.bu, self.uu, self.by, self.uy
        ) = sums  # fmt: skip
