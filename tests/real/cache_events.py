"""Prints what a vLLM tells of its cache until it is told to end: one line of JSON a message.

    python cache_events.py ADDRESS

Runs in the environment of vLLM, which has PyZMQ and msgspec.
"""

import json
import sys

import msgspec
import zmq


def main(address: str) -> None:
    socket = zmq.Context().socket(zmq.SUB)
    socket.connect(address)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    print(json.dumps("connected"), flush=True)
    while True:
        topic, number, payload = socket.recv_multipart()
        told = {
            "topic": topic.decode(),
            "number": int.from_bytes(number, "big"),
            "payload": msgspec.msgpack.decode(payload),
        }
        print(json.dumps(told, default=bytes.hex), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
