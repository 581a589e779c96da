"""The metrics of the gateway's own processes and workers."""

from collections.abc import Iterator, Mapping

from gateway.telemetry import definitions as metric
from gateway.telemetry.exposition import Family, labelled
from gateway.telemetry.stats_schema import ProcessUsage, WorkerGauges


def processes(processes: Mapping[str, ProcessUsage]) -> Iterator[Family]:
    """What each process uses, under the names that Prometheus' client libraries give it."""
    families = cpu, memory, files, start = (
        Family(metric.PROCESS_CPU),
        Family(metric.PROCESS_MEMORY),
        Family(metric.PROCESS_FILES),
        Family(metric.PROCESS_START),
    )
    for name, usage in processes.items():
        labels = labelled(process=name)
        cpu.add(labels, usage.cpu_s)
        memory.add(labels, usage.resident_bytes)
        files.add(labels, usage.open_files)
        start.add(labels, usage.started_at_s)
    yield from families


def workers(gauges: Mapping[int, WorkerGauges]) -> Iterator[Family]:
    """What each worker has, by its number."""
    queued, connections = Family(metric.QUEUED), Family(metric.CONNECTIONS)
    tokens = Family(metric.QUEUED_TOKENS)
    budget, breakers = Family(metric.RETRY_BUDGET), Family(metric.BREAKERS_OPEN)
    evicted, upstream = Family(metric.EVICTED), Family(metric.BACKEND_CONNECTIONS)
    for number, worker in gauges.items():
        labels = labelled(worker=str(number))
        tokens.add(labels, worker.queued_tokens)
        queued.add(labels, worker.queued)
        connections.add(labels, worker.connections)
        budget.add(labels, worker.retry_budget)
        breakers.add(labels, worker.breakers_open)
        evicted.add(labels, worker.evicted)
        upstream.add(labels, worker.backend_connections)
    yield from (queued, tokens, connections, budget, breakers, evicted, upstream)
