"""One HTTP reply as a load generator sees it: how much has come, and whether it is complete.

Reads HTTP/1.1 with a length or in chunks, and no more of it than counting needs. Does no I/O.
"""

TAIL = 32  # bytes kept of the body, to find an event or [DONE] that two reads share


class ReplyReader:
    """One HTTP reply as it arrives: feed it until it is `done`.

    events: `data:` lines so far. keep_body: whether `body` is to hold the whole body.
    """

    def __init__(self, *, keep_body: bool = False) -> None:
        self.body = b""
        self._keep_body = keep_body
        self.status = 0
        self.body_bytes = 0
        self.events = 0
        self.done = False
        self._tail = b""
        self._rest = b""
        self._length: int | None = None
        self._head_read = False

    @property
    def saw_done(self) -> bool:
        """Whether the stream ended in [DONE]."""
        return b"data: [DONE]" in self._tail

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises ValueError if it is not an HTTP/1.1 reply."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        if not self._head_read:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            self._read_head(head)
        if self._length is None:
            self._read_chunks(data)
        else:
            self._take(data)
            self.done = self.body_bytes >= self._length

    def _read_head(self, head: bytes) -> None:
        self.status, self._head_read = int(head[9:12]), True
        lower = head.lower() + b"\r\n"
        at = lower.find(b"\r\ncontent-length:")
        if at >= 0:
            self._length = int(lower[at + 17 : lower.index(b"\r\n", at + 2)])
        elif b"\r\ntransfer-encoding: chunked" not in lower:
            raise ValueError("a reply without a length")

    def _read_chunks(self, data: bytes) -> None:
        """Take whole HTTP chunks, and keep the beginning of the next one."""
        at = 0
        while (line := data.find(b"\r\n", at)) >= 0:
            size = int(data[at:line], 16)
            end = line + 2 + size
            if len(data) < end + 2:
                break
            if not size:
                self.done = True
                return
            self._take(data[line + 2 : end])
            at = end + 2
        self._rest = data[at:]

    def _take(self, payload: bytes) -> None:
        self.body_bytes += len(payload)
        if self._keep_body:
            self.body += payload
            return
        # Four bytes of what came before: enough to see a `data:` that was cut, too few to see
        # one twice.
        self.events += (self._tail[-4:] + payload).count(b"data:")
        self._tail = (self._tail + payload)[-TAIL:]
