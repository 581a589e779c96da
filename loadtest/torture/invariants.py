"""What must be true of a gateway at every moment at which nothing is about to happen. Reads it and
changes nothing; every line says what is wrong."""

from collections import Counter
from collections.abc import Iterator

from gateway.proxy.retry import RESERVE
from gateway.routing.backend import FIRST_LOAD, WIDTH, Backend
from gateway.workers.worker import Worker
from loadtest.torture.plane import VirtualPlane

NOISE = 1e-6  # what sums of floats may drift


def balance(worker: Worker, plane: VirtualPlane | None, number: int) -> Iterator[str]:
    """Leases, queue and counters of one worker agree. plane: with the array of several workers."""
    held: Counter[str] = Counter()
    waiting = 0
    for active in worker.requests:
        if active.lease is not None and active.lease.held:
            held[active.lease.backend.name] += 1
        else:
            waiting += 1
    admission, name = worker.dispatcher.admission, f"worker {number}"
    if waiting != admission.waiting:
        yield f"{name}: {waiting} requests without a lease, {admission.waiting} in the queue"
    if admission.waiting < 0 or admission.tokens < 0 or (admission.tokens and not waiting):
        yield f"{name}: {admission.tokens} tokens of {admission.waiting} requests in the queue"
    if not 0.0 <= worker.dispatcher.budget.left <= RESERVE:
        yield f"{name}: {worker.dispatcher.budget!r}"
    fleet = worker.router.fleet
    for backend in fleet.backends:
        own = backend.in_flight
        if plane is not None:
            own = int(plane.shared_load.cell(number, fleet.row(backend))[0])
        if own != held[backend.name]:
            yield f"{name}: {held[backend.name]} leases on {backend!r}, {own} counted"
        yield from (f"{name}: {line}" for line in domains(backend))


def domains(backend: Backend) -> Iterator[str]:
    """Nothing of a backend is negative, and an idle one has nothing left."""
    sums = (backend.pending_s, *backend.loads)
    if backend.in_flight < 0 or min(backend.present) < 0 or min(sums) < -NOISE:
        yield f"negative: {backend!r}, present {backend.present}, loads {backend.loads}"
    if backend.in_flight == 0 and (any(backend.present) or max(sums) > NOISE):
        yield f"left on an idle backend: {backend!r}, {backend.present}, {backend.loads}"
    if backend.breaker.failures < 0:
        yield f"{backend!r}"


def cells(plane: VirtualPlane) -> Iterator[str]:
    """Only workers that live have something in the shared array, and only what they hold."""
    for number, slot in plane.workers.items():
        fleet = slot.worker.router.fleet
        held = sum(a.lease is not None and a.lease.held for a in slot.worker.requests)
        cells = [plane.shared_load.cell(number, row) for row in range(plane.shared_load.rows)]
        if (counted := int(sum(cell[0] for cell in cells))) != held:
            yield f"worker {number}: {held} leases, {counted} in the shared array ({fleet!r})"
        for row, cell in enumerate(cells):
            values = [cell[k] for k in range(WIDTH)]
            if min(values) < -NOISE or (values[0] == 0 and max(values[1:]) > NOISE):
                yield f"worker {number}, row {row}: {values[: FIRST_LOAD + 4]}"


def idle(worker: Worker, number: int) -> Iterator[str]:
    """All gauges of a worker without a client are zero."""
    (gauges,) = worker.gauges().values()
    found = {
        "requests": len(worker.requests),
        "queued": gauges.queued,
        "connections": gauges.connections,
        "backend connections": gauges.backend_connections,
    }
    for name, value in found.items():
        if value:
            yield f"worker {number} is idle and has {value} {name}"
