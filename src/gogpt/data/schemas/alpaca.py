"""Stanford Alpaca: ``instruction``, ``input`` (may be empty), ``output``; also ``system`` and ``history``."""

from __future__ import annotations

from typing import Any

from gogpt.data.schemas.schema import Row, Schema, finish, text_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

TURNS = ("messages", "conversations", "conversation")


def claims(row: Row) -> bool:
    if any(isinstance(row.get(key), list) for key in TURNS):
        return False  # the conversation says the same, in more detail
    return "instruction" in row and "output" in row and not isinstance(row["output"], list)


def _history(value: Any) -> list[Message]:
    """Earlier turns, pairs of question and answer, before the row's own (LLaMA-Factory's extension)."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise RowError("wrong_type", f"history is {type(value).__name__}, want a list of [question, answer]")
    out = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowError("wrong_type", "history: each entry must be [question, answer]")
        out += [Message(role="user", content=text_of(pair[0], "history")),
                Message(role="assistant", content=text_of(pair[1], "history"))]
    return out


def to_conversation(row: Row, origin: Origin) -> Conversation:
    instruction = text_of(row["instruction"], "instruction")
    extra = text_of(row.get("input"), "input")
    output = text_of(row["output"], "output")
    messages: list[Message] = []
    if system := text_of(row.get("system"), "system"):
        messages.append(Message(role="system", content=system))
    messages += _history(row.get("history"))
    if extra.strip() and instruction.strip():
        messages.append(Message(role="user", content=f"{instruction}\n{extra}", input=extra))
    else:
        messages.append(Message(role="user", content=instruction if instruction.strip() else extra))
    messages.append(Message(role="assistant", content=output))
    if not output.strip():
        raise RowError("empty_answer", "output is blank")
    return finish(messages, origin)


ALPACA = Schema(
    name="alpaca",
    wants="instruction, output (and input, system, history)",
    doc="Stanford Alpaca and its many children: one instruction, an optional input, one output.",
    claims=claims,
    to_conversation=to_conversation,
    examples=(
        {"instruction": "Name a colour.", "input": "", "output": "Blue."},
        {"instruction": "Translate to German.", "input": "Good morning.", "output": "Guten Morgen."},
        {"instruction": "And then?", "output": "Tea.", "history": [["First?", "Water."]], "system": "Be short."},
    ),
    not_mine=({"instruction": "Name a colour."}, {"instruction": "x", "output": ["a", "b"]},
              {"instruction": "x", "output": "y", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
)
