"""UltraChat: ``data``, a list of texts that user and assistant say in turn."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish
from gogpt.data.shapes.turns import read_alternating
from gogpt.records import Conversation, Origin


def fits(row: Row) -> bool:
    texts = row.get("data")
    return isinstance(texts, list) and bool(texts) and all(isinstance(text, str) for text in texts)


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    return finish(read_alternating(row["data"]), origin)


ULTRACHAT = Schema(
    name="ultrachat",
    wants="data: a list of texts, the user's first",
    doc="UltraChat: texts without roles; user and assistant alternate. An odd number ends with the user.",
    keys=("data",),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"id": "1", "data": ["Hi", "Hello!"]}, {"id": "2", "data": ["Hi", "Hello!", "And?", "Fine.", "Bye"]}),
    not_mine=({"data": "Hi"}, {"data": []}, {"data": [1, 2]}),
)
