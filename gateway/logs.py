"""The log of one process: a thread writes the lines, so that whoever reads them slowly, or not at
all, never stops the gateway.

What does not fit into the queue is dropped and counted. Owns formats and the queue; knows no event.
"""

import json
import logging
import os
import select
import time
from collections.abc import Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any

STDERR = 2
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
LINES = 4096  # that may wait for the thread
LONGEST_LINE = 16384  # characters
# Bytes written at once. Worker processes share a pipe, which keeps what is no longer than this in
# one piece (POSIX, write: PIPE_BUF).
BATCH_BYTES = select.PIPE_BUF
FLUSH_S = 1.0  # for the lines that wait when the process ends
TELL_S = 10.0  # between two lines about dropped ones, while the queue never gets empty
# Everything that could end a line or steer a terminal: names and messages of others are logged.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


class TextLines(logging.Formatter):
    """Lines for people. Only a traceback has more than one line."""

    def __init__(self, process: str = "") -> None:
        """process: which process of the gateway this is; empty if there is only one."""
        super().__init__(TEXT_FORMAT)
        self._process = f"[{process}] " if process else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        pairs = (f" {k}={_word(v)}" for k, v in fields(record).items() if v not in (None, ""))
        record.message = self._process + record.message.translate(CONTROLS) + "".join(pairs)
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """One JSON object for each line: time (UTC), level, logger, message and the record's fields."""

    def __init__(self, process: str = "") -> None:
        """process: see `TextLines`."""
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            **self._process,
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def fields(record: logging.LogRecord) -> Mapping[str, object]:
    """The named values of a record, given to the logger as `extra={"fields": {…}}`."""
    found: Mapping[str, object] = getattr(record, "fields", {})
    return found


class LogWriter(logging.Handler):
    """Takes lines without waiting; a thread of its own writes them to a file descriptor."""

    def __init__(self, fd: int = STDERR) -> None:
        super().__init__()
        self._refused = self._unwritten = 0  # each counted by one thread only
        self._told, self._tell_due_s = 0, 0.0
        self._fd = fd
        # A SimpleQueue, because a garbage collection may log in the middle of a `put`.
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._drain, name="log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that did not fit, or that could not be written."""
        return self._refused + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of a record, or drop it."""
        if self._lines.qsize() >= LINES:
            self._refused += 1
            return
        try:
            self._lines.put(self._line(record))
        except Exception:  # a record that cannot be formatted must not stop who logs it
            self._refused += 1

    def close(self) -> None:
        """Write what waits, for `FLUSH_S` at most."""
        if self._thread.is_alive():
            self._lines.put(None)
            self._thread.join(FLUSH_S)
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record)[:LONGEST_LINE].encode(errors="backslashreplace") + b"\n"

    def _drain(self) -> None:
        """Write lines, several in one call: after each call the thread may have to wait for the
        interpreter's lock."""
        batch: list[bytes] = []
        while (line := self._lines.get()) is not None:
            if sum(map(len, batch)) + len(line) > BATCH_BYTES:
                batch = self._write(batch)
            batch.append(line)
            if self._lines.empty():
                batch = self._write(batch)
        self._write(batch)

    def _write(self, batch: list[bytes]) -> list[bytes]:
        """Write lines, or count them if the disk is full or the reader is gone; return an empty
        batch."""
        if not self._written(b"".join(batch)):
            self._unwritten += len(batch)
        dropped, now_s = self.dropped, time.monotonic()
        if dropped > self._told and (self._lines.empty() or now_s >= self._tell_due_s):
            self._tell_due_s = now_s + TELL_S
            text = f"{dropped - self._told} lines of the log were dropped: nobody took them in time"
            record = logging.LogRecord("cuvee", logging.WARNING, __file__, 0, text, None, None)
            if self._written(self._line(record)):
                self._told = dropped
        return []

    def _written(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # another program made the pipe, and made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                return False
        return True


def begin(form: str, level: int | str, *, process: str = "") -> None:
    """Send this process's log to standard error, unless a log was begun before.

    form: `text` or `json`. level: of the lines to log; a request's line has none, because a key of
    the configuration decides whether there are any. process: see `TextLines`.
    """
    root = logging.getLogger()
    logging.getLogger("cuvee.requests").setLevel(logging.INFO)
    if root.handlers:
        return
    writer = LogWriter()
    writer.setFormatter(JsonLines(process) if form == "json" else TextLines(process))
    root.addHandler(writer)
    root.setLevel(level)
    logging.captureWarnings(True)  # Python would write them to standard error itself, and wait


def dropped() -> int:
    """Lines of this process's log that were dropped."""
    return sum(h.dropped for h in logging.getLogger().handlers if isinstance(h, LogWriter))


def _word(value: object) -> str:
    """A value in a line for people: as it is if it is one plain word, else quoted as in JSON."""
    text = str(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain and text else json.dumps(text)
