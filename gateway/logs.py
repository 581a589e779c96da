"""The log of one process: a thread writes the lines, so that whoever reads them slowly, or not at
all, never stops the gateway.

What does not fit into the queue is dropped and counted. Owns formats and the queue; knows no event.
"""

import json
import logging
import os
import re
import select
import stat
import time
from collections import deque
from collections.abc import Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any

STDERR = 2
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
LINES = 4096  # that may wait for the thread, of either kind
LONGEST_LINE = 16384  # characters
# Bytes written at once to a file. Processes share a pipe, which keeps only what is no longer than
# PIPE_BUF in one piece (POSIX, write).
BATCH_BYTES = 1 << 16
GATHER_S = 0.05  # lines of many are collected for so long: to wake the thread costs 20 µs and more
GATHERED = b""  # tells the thread that there are some
FLUSH_S = 1.0  # for the lines that wait when the process ends
TELL_S = 10.0  # between two lines about dropped ones, while the queue never gets empty
# Everything that could end a line or steer a terminal: names and messages of others are logged.
CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}
PLAIN = re.compile(r"[!#-<>-\[\]-~]+")  # printable, without blanks and the signs of quoting
NEWLINE = ord("\n")
PLAIN_SIGNS = bytes(sign for sign in range(128) if PLAIN.match(chr(sign)))
CONTROLS |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


class TextLines(logging.Formatter):
    """Lines for people. Only a traceback has more than one line."""

    def __init__(self, process: str = "") -> None:
        """process: which process of the gateway this is; empty if there is only one."""
        super().__init__(TEXT_FORMAT)
        self._process = f"[{process}] " if process else ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        pairs = (f" {k}={word(v)}" for k, v in fields(record).items() if v not in (None, ""))
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
        text = json.dumps(line, default=str, separators=(",", ":"))
        if len(text) <= LONGEST_LINE:
            return text
        # What is cut must still be JSON. A character takes six at most.
        short = {name: line[name] for name in ("time", "level", "logger", *self._process)}
        short |= {"message": line["message"][: LONGEST_LINE // 8], "cut": True}
        return json.dumps(short, separators=(",", ":"))


def fields(record: logging.LogRecord) -> Mapping[str, object]:
    """The named values of a record, given to the logger as `extra={"fields": {…}}`."""
    found: Mapping[str, object] = getattr(record, "fields", {})
    return found


class LogWriter(logging.Handler):
    """Takes lines without waiting; a thread of its own writes them to a file descriptor.

    form: of its lines, `text` or `json`. process: see `TextLines`.
    """

    def __init__(self, fd: int = STDERR, *, form: str = "text", process: str = "") -> None:
        super().__init__()
        self.form, self.process = form, process
        self.setFormatter(JsonLines(process) if form == "json" else TextLines(process))
        self._refused = self._unwritten = 0  # each counted by one thread only
        self._told, self._tell_due_s = 0, 0.0
        self._fd = fd
        self._batch_bytes = BATCH_BYTES if _is_file(fd) else select.PIPE_BUF
        self._gathered: deque[bytes] = deque()
        self._gathered_lines = self._taken_lines = 0  # ever, each counted by one thread only
        self._gathering = False
        self._cut = False  # whether the last line has no end
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

    def gather(self, lines: bytes, count: int) -> None:
        """Queue some whole lines of those that come by the thousands, or drop them. They are
        written within `GATHER_S` or a little more, and may stand behind later ones of the other
        kind. count: how many they are."""
        if self._gathered_lines - self._taken_lines >= LINES:
            self._refused += count
            return
        self._gathered_lines += count
        self._gathered.append(lines)
        if not self._gathering:
            self._gathering = True
            self._lines.put(GATHERED)

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
            if line is GATHERED:
                batch = self._write(batch)
                time.sleep(GATHER_S)
                self._gathering = False  # first: what comes from now on is told again
                self._write_gathered()
                continue
            if sum(map(len, batch)) + len(line) > select.PIPE_BUF:
                batch = self._write(batch)
            batch.append(line)
            if self._lines.empty():
                batch = self._write(batch)
        self._write(batch)
        self._write_gathered()

    def _write_gathered(self) -> None:
        """Write what was gathered until now, in pieces of whole lines."""
        gathered = self._gathered
        before = self._gathered_lines
        data = b"".join([gathered.popleft() for _ in range(len(gathered))])
        self._taken_lines = before
        begin, end = 0, len(data)
        while begin < end:
            until = data.rfind(b"\n", begin, begin + self._batch_bytes) + 1
            until = until or data.find(b"\n", begin) + 1  # a line that is longer by itself
            self._write([data[begin:until]])
            begin = until

    def _write(self, batch: list[bytes]) -> list[bytes]:
        """Write lines, or count them if the disk is full or the reader is gone; return an empty
        batch."""
        data = b"".join(batch)
        self._unwritten += self._unwritten_lines(data)
        dropped, now_s = self.dropped, time.monotonic()
        if dropped > self._told and (self._lines.empty() or now_s >= self._tell_due_s):
            self._tell_due_s = now_s + TELL_S
            text = f"{dropped - self._told} lines of the log were dropped: nobody took them in time"
            record = logging.LogRecord("cuvee", logging.WARNING, __file__, 0, text, None, None)
            if not self._unwritten_lines(self._line(record)):
                self._told = dropped
        return []

    def _unwritten_lines(self, lines: bytes) -> int:
        """Write lines; return how many could not be, with one that was cut. The next line begins on
        a line of its own then."""
        if not lines:
            return 0
        data = b"\n" + lines if self._cut else lines
        while data:
            try:
                data = data[os.write(self._fd, data) :]
                self._cut = False
            except BlockingIOError:  # another program made the pipe, and made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                left = data[-len(lines) :]
                self._cut |= len(left) < len(lines) and lines[-len(left) - 1] != NEWLINE
                return left.count(b"\n")
        return 0


def begin(form: str, level: int | str, *, process: str = "") -> None:
    """Send this process's log to standard error, unless a log was begun before.

    form: `text` or `json`. level: of the lines to log; a request's line has none, because a key of
    the configuration decides whether there are any. process: see `TextLines`.
    """
    root = logging.getLogger()
    logging.getLogger("cuvee.requests").setLevel(logging.INFO)
    if root.handlers:
        return
    root.addHandler(LogWriter(form=form, process=process))
    root.setLevel(level)
    logging.captureWarnings(True)  # Python would write them to standard error itself, and wait


def writer() -> LogWriter | None:
    """What `begin` made; `None` where something else takes this process's log."""
    handlers = logging.getLogger().handlers
    only = handlers[0] if len(handlers) == 1 else None
    return only if isinstance(only, LogWriter) else None


def dropped() -> int:
    """Lines of this process's log that were dropped."""
    return sum(h.dropped for h in logging.getLogger().handlers if isinstance(h, LogWriter))


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:  # it is closed
        return False


def word(value: object) -> str:
    """A value in a line for people: as it is if it is one plain word, else quoted as in JSON."""
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)
