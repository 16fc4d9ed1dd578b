"""A list of rounds, each one object that holds question and answer: ``conversation: [{"human", "assistant"}]``."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages
from gogpt.data.shapes.turns import (
    PAIR_KEYS,
    list_under,
    pair_keys,
    read_pairs,
    with_system,
)
from gogpt.records import Conversation, Origin

KEYS = ("conversation", "conversations", "messages", "paragraph", "dialogue", "dialog")


def fits(row: Row) -> bool:
    rounds = list_under(row, KEYS)
    return bool(rounds) and all(pair_keys(item) and not {"role", "from"} & set(item) for item in rounds or ())


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    return finish(with_system(system_messages(row), read_pairs(list_under(row, KEYS) or [])), origin)


TURN_PAIRS = Schema(
    name="turn_pairs",
    wants="conversation: a list of {" + "} or {".join(", ".join(pair) for pair in PAIR_KEYS[:3]) + "}",
    doc="Firefly's conversations (human, assistant), XTuner's (input, output, system in the first), lists of q and a (q may be a list of lines).",
    keys=(*KEYS, "system", "system_prompt"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"conversation_id": 1, "category": "Chat", "conversation": [{"human": "Hi", "assistant": "Hello!"}, {"human": "And?", "assistant": "Fine."}]},
        {"conversation": [{"system": "Be kind.", "input": "Hi", "output": "Hello!"}, {"input": "And?", "output": "Fine."}]},
        {"id": 1, "paragraph": [{"q": ["Hi", "How are you?"], "a": "Fine."}]},
    ),
    not_mine=({"conversation": [{"human": "Hi"}]}, {"conversation": []}, {"messages": [{"toy_input": "Hi", "toy_output": "Hello"}]}),
)
