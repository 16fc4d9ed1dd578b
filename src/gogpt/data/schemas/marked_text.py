"""A dialogue written as one text with marks, under ``text``: Guanaco, Llama2-Chinese."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish
from gogpt.data.shapes.marks import TEXT_MARKS, turns_of_text
from gogpt.records import Conversation, Origin


def fits(row: Row) -> bool:
    text = row.get("text")
    return isinstance(text, str) and any(marks.turns(text[:200]) for marks in TEXT_MARKS)


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    return finish(turns_of_text(row["text"]) or [], origin)


MARKED_TEXT = Schema(
    name="marked_text",
    wants="text: " + " or ".join(marks.name + " ..." for marks in TEXT_MARKS),
    doc="openassistant-guanaco (### Human: ... ### Assistant: ...) and Llama2-Chinese (<s>Human: ...</s><s>Assistant: ...</s>): texts that are dialogues. "
    "The marks are taken off, and only the answers are trained.",
    keys=("text",),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"text": "### Human: Hi### Assistant: Hello!### Human: And?### Assistant: Fine."}, {"text": "<s>Human: 你好\n</s><s>Assistant: 你好！\n</s>"}),
    not_mine=({"text": "Once upon a time."}, {"text": "A story. ### Human: no"}, {"text": None}),
)
