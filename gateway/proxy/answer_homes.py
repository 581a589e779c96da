"""Which backend has an answer that later requests go on from: `previous_response_id` of Responses.

Engines keep such answers in their own memory. The newest are remembered, by each process for
itself. No I/O.
"""

from typing import Final

from gateway.routing.backend import Backend

MOST: Final = 16_384  # answers remembered; some 200 bytes each


class AnswerHomes:
    """Names of backends by the id of an answer."""

    def __init__(self, most: int = MOST) -> None:
        """most: answers that are remembered."""
        self._most = most
        self._backends: dict[str, str] = {}  # the answer that was used last is at the end

    def __repr__(self) -> str:
        return f"<AnswerHomes of {len(self._backends)} answers>"

    def note(self, answer_id: str, backend: Backend) -> None:
        """A backend has made an answer."""
        self._backends.pop(answer_id, None)
        self._backends[answer_id] = backend.name
        if len(self._backends) > self._most:
            del self._backends[next(iter(self._backends))]

    def home(self, answer_id: str) -> str | None:
        """The name of the backend that made an answer; `None` if it is not known here."""
        name = self._backends.pop(answer_id, None)
        if name is not None:
            self._backends[answer_id] = name
        return name
