"""ShareGPT: ``conversations`` (or ``conversation``), a list of ``{"from", "value"}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Row, Schema, finish, text_of, train_flag
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

ROLES = {
    "human": "user", "user": "user",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bard": "assistant", "bing": "assistant",
    "model": "assistant", "bot": "assistant",
    "system": "system",
    "tool": "tool", "observation": "tool",
}
KEYS = ("conversations", "conversation")


def _turns(row: Row) -> list[Any] | None:
    """The list under the first of the keys that holds one; ``messages`` has another schema."""
    if isinstance(row.get("messages"), list):
        return None
    return next((value for k in KEYS if isinstance(value := row.get(k), list)), None)


def claims(row: Row) -> bool:
    turns = _turns(row)
    if not turns:
        return turns is not None
    is_openai = all(isinstance(t, Mapping) and "role" in t for t in turns)
    return not is_openai and all(isinstance(t, Mapping) and "from" in t and "value" in t for t in turns)


def to_conversation(row: Row, origin: Origin) -> Conversation:
    turns = _turns(row)
    assert turns is not None
    messages: list[Message] = []
    system = text_of(row.get("system"), "system")
    if system:
        messages.append(Message(role="system", content=system))
    for i, turn in enumerate(turns):
        said = turn["from"]
        role = ROLES.get(said.lower()) if isinstance(said, str) else None
        if role is None:
            raise RowError("unknown_role", f"turn {i + 1} is from {said!r}; known: {', '.join(sorted(ROLES))}")
        if role == "system" and messages:
            raise RowError("turn_order", f"turn {i + 1}: a system message after the first message")
        messages.append(Message(role=role, content=text_of(turn["value"], f"turn {i + 1}"),
                                train=train_flag(turn, f"turn {i + 1}") if role == "assistant" else None))
    return finish(messages, origin)


SHAREGPT = Schema(
    name="sharegpt",
    wants="conversations: a list of {from, value}",
    doc="ShareGPT and Vicuna: turns from human and gpt (also user, assistant, system, tool, observation).",
    claims=claims,
    to_conversation=to_conversation,
    examples=(
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
        {"id": "1", "conversations": [{"from": "system", "value": "Be kind."}, {"from": "user", "value": "Hi"},
                                      {"from": "assistant", "value": "Hello!", "weight": 0},
                                      {"from": "human", "value": "And?"}, {"from": "gpt", "value": "Fine."}]},
    ),
    not_mine=({"conversations": [{"role": "user", "content": "Hi"}]}, {"conversations": "text"}),
)
