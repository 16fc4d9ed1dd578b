"""Plain text for continued pretraining: ``text``."""

from __future__ import annotations

from gogpt.data.schemas.schema import Row, Schema, text_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

OTHERS = ("instruction", "output", "messages", "conversations", "conversation", "prompt", "completion", "response",
          "question", "answer", "query")


def claims(row: Row) -> bool:
    return "text" in row and not any(k in row for k in OTHERS)


def to_conversation(row: Row, origin: Origin) -> Conversation:
    text = text_of(row["text"], "text")
    if not text.strip():
        raise RowError("empty_text", "text is blank")
    return Conversation(messages=(Message(role="text", content=text, train=True),), origin=origin)


TEXT = Schema(
    name="text",
    wants="text (and none of the keys of instruction data)",
    doc="Documents for continued pretraining. Every token is trained, and EOS ends each document.",
    claims=claims,
    to_conversation=to_conversation,
    examples=({"text": "Once upon a time."}, {"text": "第一章", "source": "book"}),
    not_mine=({"text": "x", "prompt": "y", "completion": "z"}, {"title": "x"}),
)
