"""Baize: ``input``, a dialogue written as text with ``[|Human|]`` and ``[|AI|]`` marks."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish
from gogpt.data.shapes.marks import BAIZE as MARKS
from gogpt.data.shapes.marks import without_open_end
from gogpt.records import Conversation, Origin


def fits(row: Row) -> bool:
    return isinstance(row.get("input"), str) and "[|Human|]" in row["input"] and row.get("output") is None and row.get("target") is None


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    return finish(without_open_end(MARKS.turns(row["input"]) or []), origin)


BAIZE = Schema(
    name="baize",
    wants="input: [|Human|] ... [|AI|] ... (and topic)",
    doc="Baize's self-chats. The sentence before the first mark is the system message; an empty mark at the end goes.",
    keys=("input", "topic"),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"topic": "colours", "input": "The conversation between human and AI assistant.\n[|Human|] Hi\n[|AI|] Hello!\n[|Human|] And?\n[|AI|] Fine.\n[|Human|] "},
              {"topic": "tea", "input": "[|Human|] Tea?\n[|AI|] Yes."}),
    not_mine=({"topic": "x", "input": "Hi"}, {"input": "[|Human|] Hi [|AI|]", "output": "Hello"}),
)
