"""Asks an admin port, and reads what it answers."""

import asyncio
from urllib.parse import urlsplit


async def ask(admin, text, *lines, body=b""):
    """Status, head in lower case and body of one answer, on a connection of its own. admin: a
    server, or its URL. lines: of the head."""
    parts = urlsplit(admin if isinstance(admin, str) else admin.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    size = [f"content-length: {len(body)}"] if body else []
    head = "\r\n".join((f"{text} HTTP/1.1", "host: a", "connection: close", *size, *lines))
    writer.write(head.encode() + b"\r\n\r\n" + body)
    answered, _, said = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(answered.split(b" ", 2)[1]), answered.lower(), said
