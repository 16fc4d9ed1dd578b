"""Plain text for continued pretraining: ``text``, or another key that holds all there is."""

from __future__ import annotations

import re

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import only_metadata_but, text_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

OTHERS = ("instruction", "output", "messages", "conversations", "conversation", "prompt", "completion", "response",
          "question", "answer", "query")
"""Beside any of these ``text`` is a copy of them, ready to read."""
ALONE = ("content", "raw_content", "document", "completion", "response")
"""Keys of a text where nothing but metadata stands beside it."""
OWN = re.compile(r"(?:\w*[_-])?text", re.IGNORECASE)
"""A user's own name for the text."""


def _key(row: Row) -> str | None:
    if "text" in row:
        return "text" if not any(row.get(k) is not None for k in OTHERS) else None
    key = next((k for k in ALONE if isinstance(row.get(k), str)), None) or next((str(k) for k in row if isinstance(row[k], str) and OWN.fullmatch(str(k))), None)
    return key if key is not None and "role" not in row and only_metadata_but(row, (key,)) else None


def fits(row: Row) -> bool:
    return _key(row) is not None


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    key = _key(row)
    assert key is not None
    text = text_of(row[key], key)
    if not text.strip():
        raise RowError("empty_text", f"{key} is blank")
    if key != "text":
        note(f"documents for continued pretraining read from the key {key!r}")
    return Conversation(messages=(Message(role="text", content=text, train=True),), origin=origin)


TEXT = Schema(
    name="text",
    wants="text (and none of the keys of instruction data); or content, raw_content, completion or response alone",
    doc="Documents for continued pretraining. Every token is trained, and EOS ends each document.",
    keys=("text", *ALONE),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"text": "Once upon a time."}, {"text": "第一章", "source": "book"}, {"title": "A", "content": "Once upon a time.", "url": "x"},
              {"response": "Once upon a time."}, {"completion": "Once upon a time.", "source": "wikipedia"}, {"my_text": "Once upon a time."}),
    not_mine=({"text": "x", "prompt": "y", "completion": "z"}, {"title": "x"}, {"promt": "x", "response": "y"}, {"role": "user", "content": "x"}),
)
