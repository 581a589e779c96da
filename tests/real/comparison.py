"""The same requests to two servers, and what differs between their answers."""

from collections.abc import Iterator, Sequence
from itertools import product

from tests.real import shapes, wire
from tests.real.cases import Case
from tests.real.differences import Difference, Judged
from tests.real.servers import Running

TRIES = 5


def ask(server: Running, case: Case) -> wire.Answer:
    """The answer of a server to a case, asked with the server's key."""
    headers = {**server.headers, **case.headers}
    return wire.ask(server.url, case.path, case.body, method=case.method, headers=headers)


def told(server: Running, case: Case, *, exact: bool) -> list[str]:
    """The lines of an answer, or what was there instead of one."""
    try:
        answer = ask(server, case)
    except (OSError, ValueError, IndexError) as error:
        return [f"no answer: {type(error).__name__}"]
    return shapes.lines(answer, exact=exact and not case.varies, sets=case.varies)


def compare(
    left: Running, right: Running, cases: Sequence[Case], *, exact: bool = False
) -> Iterator[tuple[Case, list[str]]]:
    """The differences of each case. exact: texts and numbers count as well; the left is asked
    before, for what it has cached then is the same for both.

    A difference that another try does not have is none: a busy engine puts several tokens, and so
    the end of a stream, into one event.
    """
    for case in cases:
        if exact:
            told(left, case, exact=True)
        seen: tuple[list[list[str]], list[list[str]]] = ([], [])
        for _ in range(TRIES):
            for variants, server in zip(seen, (left, right), strict=True):
                variants.append(told(server, case, exact=exact))
            found = min((shapes.difference(a, b) for a, b in product(*seen)), key=len)
            if not found or not answer_streams(seen):
                break
        yield case, found


def answer_streams(seen: tuple[list[list[str]], list[list[str]]]) -> bool:
    """Whether answers were streams, which may differ from try to try."""
    return any(line.startswith("event ") for variants in seen for line in variants[0])


def judge(
    left: Running,
    right: Running,
    cases: Sequence[Case],
    table: Sequence[Difference],
    *,
    exact: bool = False,
) -> Judged:
    """Compare, and judge by a table."""
    judged = Judged()
    for case, found in compare(left, right, cases, exact=exact):
        judged.look(case.name, found, table)
    return judged
