"""xLAM: ``query``, ``answers`` and ``tools``, the last two JSON texts: a question that is answered by tool calls alone."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages, text_of
from gogpt.data.shapes.tools import calls_of, tools_of
from gogpt.records import Conversation, Message, Origin


def fits(row: Row) -> bool:
    return "query" in row and row.get("answers") is not None and "tools" in row


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    messages = [*system_messages(row), Message(role="user", content=text_of(row["query"], "query")),
                Message(role="assistant", content="", tool_calls=calls_of(row["answers"], "answers"))]
    return finish(messages, origin, tools_of(row["tools"]))


XLAM = Schema(
    name="xlam",
    wants="query, answers: JSON of [{name, arguments}], tools: JSON",
    doc="xLAM function calling: one question, one or more calls, no result. Parameters of its tools are no JSON schema and stay as they are.",
    keys=("query", "answers", "tools", "system"),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"id": 1, "query": "Add 1 and 2.", "answers": "[{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": 2}}]",
               "tools": "[{\"name\": \"add\", \"description\": \"Adds\", \"parameters\": {\"a\": {\"type\": \"int\"}, \"b\": {\"type\": \"int\"}}}]"},
              {"query": "Time?", "answers": [{"name": "clock", "arguments": {}}], "tools": [], "func_name": None}),
    not_mine=({"query": "x", "response": "y"}, {"query": "x", "answers": "[]"}),
)
