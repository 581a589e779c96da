"""Who may pass, and how much of what is limited they may take, in one process."""

from collections.abc import Callable

from gateway.access.callers import Caller, Callers
from gateway.access.charge import Charge
from gateway.access.key import AccessKey
from gateway.access.key_board import KeyBoard
from gateway.access.key_meter import KeyMeter
from gateway.access.key_ring import KeyRing


class Gate:
    """The keys of one process. callers: who they are."""

    def __init__(
        self,
        ring: KeyRing | None,
        board: KeyBoard,
        worker: int,
        wall_clock: Callable[[], float],
    ) -> None:
        """ring: the keys; `None`: everybody may pass. worker: number of this one on the board."""
        self.callers = Callers()
        self._meter = KeyMeter(board, worker, wall_clock)
        self.configure(ring)

    def __repr__(self) -> str:
        return f"<Gate {self.callers!r}>"

    def configure(self, ring: KeyRing | None) -> None:
        """Let in who has one of these keys from now on; `None`: everybody."""
        self.callers.configure(ring)

    def identify(self, credential: bytes) -> Caller:
        """Who has this credential. Raises KeyRefused."""
        return self.callers.identify(credential)

    def enter(self, key: AccessKey | None, tokens: int) -> Charge | None:
        """Count a request of this estimated size; `None` where its key has no limits. Raises
        LimitReached."""
        return None if key is None or not key.limited else self._meter.enter(key, tokens)

    def leave(self, charge: Charge) -> None:
        """A request that was counted has ended."""
        self._meter.leave(charge)

    def lines(self, credential: bytes) -> bytes:
        """Header lines that tell the limits of whoever has this credential; raises nothing."""
        key = self.callers.known_key(credential)
        return b"" if key is None or not key.limited else self._meter.lines(key)
