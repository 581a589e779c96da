"""One HTTP reply as a load generator sees it: how much of it has come, and whether it is whole."""

TAIL = 32  # bytes kept to find what two reads share


class ReplyReader:
    """One HTTP reply as it arrives: feed it until it is `done`. events: `data:` lines so far.

    keep: whether `body` is to hold the whole body.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.body = b""
        self._keep = keep
        self.status = 0
        self.body_bytes = 0
        self.events = 0
        self.done = False
        self._tail = b""
        self._rest = b""
        self._length: int | None = None
        self._headed = False

    @property
    def ended(self) -> bool:
        """Whether a stream said [DONE]."""
        return b"data: [DONE]" in self._tail

    def feed(self, data: bytes) -> None:
        """Takes what was read. Raises ValueError if it is no HTTP/1.1 reply."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        if not self._headed:
            head, mark, data = data.partition(b"\r\n\r\n")
            if not mark:
                self._rest = head
                return
            self._start(head)
        if self._length is None:
            self._unframe(data)
        else:
            self._take(data)
            self.done = self.body_bytes >= self._length

    def _start(self, head: bytes) -> None:
        self.status, self._headed = int(head[9:12]), True
        lower = head.lower() + b"\r\n"
        at = lower.find(b"\r\ncontent-length:")
        if at >= 0:
            self._length = int(lower[at + 17 : lower.index(b"\r\n", at + 2)])
        elif b"\r\ntransfer-encoding: chunked" not in lower:
            raise ValueError("a reply without a length")

    def _unframe(self, data: bytes) -> None:
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
        if self._keep:
            self.body += payload
            return
        # Four bytes of what came before: enough to see a `data:` that was cut, too few to see
        # one twice.
        self.events += (self._tail[-4:] + payload).count(b"data:")
        self._tail = (self._tail + payload)[-TAIL:]
