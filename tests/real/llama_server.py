"""Serves a model by llama.cpp's own server, as xllamacpp has it, until it is told to end.

    python llama_server.py FILE NAME PORT

Runs in the environment of llama.cpp; `llama-server` with the same options does the same.
"""

import signal
import sys

import xllamacpp

SLOTS, CONTEXT, THREADS = 4, 512, 1


def main(file: str, name: str, port: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.model_alias = {name}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(port)
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * CONTEXT
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
    parameters.n_threads_http = THREADS
    parameters.endpoint_metrics = True
    parameters.warmup = False
    parameters.use_jinja = True
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    main(*sys.argv[1:])
