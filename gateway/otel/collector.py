"""The collector: takes what is encoded, by OTLP over HTTP. Knows no span."""

import asyncio
import gzip
from pathlib import Path

from gateway.config.otel_schema import OtelSection
from gateway.plain_http import PlainHttp, PlainHttpFault

MOST_BYTES = 1 << 16  # of an answer
AGAIN = (429, 502, 503, 504)  # by the specification of OTLP
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
TRACES, METRICS = "/v1/traces", "/v1/metrics"


class NotTaken(Exception):
    """The collector did not take it: one line. again: whether it may take it later. pause_s: how
    long it wants to be left alone, `None` if it does not say."""

    def __init__(self, text: str, *, again: bool, pause_s: float | None = None) -> None:
        super().__init__(text)
        self.again = again
        self.pause_s = pause_s


class Collector:
    """Sends to one collector."""

    def __init__(self, section: OtelSection, root: Path) -> None:
        """root: the folder that paths are relative to."""
        self._section = section
        self._root = root
        ca_file = root / section.ca_file if section.ca_file is not None else None
        self._http = PlainHttp(section.endpoint.rstrip("/"), ca_file)

    def __repr__(self) -> str:
        return f"<Collector {self._section.endpoint}>"

    async def send(self, path: str, body: bytes) -> None:
        """Send one message. Raises NotTaken."""
        headers = [("content-type", "application/x-protobuf")]
        if self._section.compression == "gzip":
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers.append(("content-encoding", "gzip"))
        try:
            headers += await asyncio.to_thread(self._further)
            answer = await self._http.whole(
                "POST", path, headers, body,
                longest_s=self._section.timeout_s, most_bytes=MOST_BYTES,
            )  # fmt: skip
        except (PlainHttpFault, OSError, ValueError) as error:
            raise NotTaken(str(error), again=True) from None
        if not 200 <= answer.status < 300:
            text = f"{self._section.endpoint}{path} answered {answer.status}"
            pause_s = _seconds(answer.headers.get("retry-after"))
            raise NotTaken(text, again=answer.status in AGAIN, pause_s=pause_s)

    def _further(self) -> list[tuple[str, str]]:
        """Header lines of the file. Raises OSError, and ValueError for a line that is none, of
        which only the number is told: it may be a key."""
        if self._section.headers_file is None:
            return []
        lines = (self._root / self._section.headers_file).read_text().splitlines()
        found = []
        for count, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name, colon, value = line.partition(":")
            if not colon or not name.strip() or not line.isprintable() or not line.isascii():
                raise ValueError(f"{self._section.headers_file}: line {count} is no header")
            found.append((name.strip(), value.strip()))
        return found


def _seconds(text: str | None) -> float | None:
    try:
        return min(LONGEST_PAUSE_S, max(0.0, float(text or "")))
    except ValueError:  # a date, or nothing
        return None
