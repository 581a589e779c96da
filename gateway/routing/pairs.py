"""Reads what a request compares: each document with its query, which an engine works on as a pair.

So a list of documents is as many prompts as it has documents, and the query is read once for each.
"""

from typing import Final

from gateway.routing.body_schema import BodyFields
from gateway.routing.prompt_text import PromptText

# Under which names engines take them; the first that a body has counts.
DOCUMENTS: Final = ("documents", "text_2", "data_2", "items")
QUERIES: Final = ("query", "text_1", "queries", "data_1")


def documents_of(fields: BodyFields) -> bytes:
    """The documents of a request as JSON; empty if it has none."""
    return _first(fields, DOCUMENTS)


def add_queries(text: PromptText, fields: BodyFields, pairs: int) -> None:
    """Add the query of each pair of a request, whose documents are in its text. pairs: their
    number."""
    query = PromptText()
    listed = query.add_content(_first(fields, QUERIES))
    # A list has a query for each document; a single one is compared with all of them.
    text.add_all(query, 1 if listed > 1 else pairs)


def _first(fields: BodyFields, names: tuple[str, ...]) -> bytes:
    """The value of the first of these fields that there is; empty if there is none."""
    for name in names:
        value = bytes(getattr(fields, name))
        if value:
            return value
    return b""
