"""One corpus of HTTP/1.1 messages, read by the gateway and by other servers: where they differ.

`python -m loadtest.framing` prints the tables of docs/http.md.
"""
