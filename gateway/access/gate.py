"""Who may pass, and how much of what is limited they may take, in one process."""

from gateway.access.callers import Caller, Callers
from gateway.access.key_ring import KeyRing


class Gate:
    """The keys of one process. callers: who they are. keyed: whether the gateway has keys."""

    def __init__(self) -> None:
        self.callers = Callers()

    def __repr__(self) -> str:
        return f"<Gate {self.callers!r}>"

    @property
    def keyed(self) -> bool:
        """Whether each request to a model needs a key."""
        return self.callers.keyed

    def configure(self, ring: KeyRing | None) -> None:
        """Let in who has one of these keys from now on; `None`: everybody."""
        self.callers.configure(ring)

    def identify(self, credential: bytes) -> Caller:
        """Who has this credential. Raises KeyRefused."""
        return self.callers.identify(credential)
