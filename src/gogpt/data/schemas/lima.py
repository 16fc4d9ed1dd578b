"""LIMA: ``conversations``, a list of texts that user and assistant say in turn."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages
from gogpt.data.shapes.turns import list_under, read_alternating, with_system
from gogpt.records import Conversation, Origin

KEYS = ("conversations", "conversation")


def fits(row: Row) -> bool:
    texts = list_under(row, KEYS)
    return bool(texts) and all(isinstance(text, str) for text in texts or ())


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    return finish(with_system(system_messages(row), read_alternating(list_under(row, KEYS) or [])), origin)


LIMA = Schema(
    name="lima",
    wants="conversations: a list of texts, the user's first",
    doc="LIMA: texts without roles; user and assistant alternate. The test rows hold one text, a prompt without an answer.",
    keys=(*KEYS, "system", "system_prompt"),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"conversations": ["Hi", "Hello!"], "source": "x"}, {"conversations": ["Hi", "Hello!", "And?", "Fine."], "source": "multi_turn"}),
    not_mine=({"conversations": "Hi"}, {"conversations": []}, {"conversations": ["Hi", {"from": "gpt", "value": "Hello"}]}),
)
