"""What a schema is: one shape in which instruction data is found, and how it becomes a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """``claims(row)``: this row has the shape (the keys, and the kind of value they hold). No two schemas
    claim one row. ``to_conversation`` raises RowError for a row that has the shape but cannot be used."""

    name: str
    wants: str
    """the keys wanted, as a person reads them"""
    doc: str
    claims: Callable[[Row], bool]
    to_conversation: Callable[[Row, Origin], Conversation]
    examples: tuple[Row, ...]
    not_mine: tuple[Row, ...] = ()


def text_of(value: Any, key: str) -> str:
    """A text field: None is empty; anything but text is refused by name."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise RowError("wrong_type", f"{key} is {type(value).__name__}, want text")


def train_flag(row: Row, key: str) -> bool | None:
    """A message's own ``train`` (true/false) or ``weight`` (OpenAI's 0/1) flag."""
    value = row.get("train", row.get("weight"))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    raise RowError("wrong_type", f"{key}: train / weight is {value!r}, want true or false (or 1, 0)")


def finish(messages: list[Message], origin: Origin, tools: tuple[Mapping[str, Any], ...] = ()) -> Conversation:
    """A conversation that can be trained: a user message, and an answer that says something.

    An assistant turn without text (and without a tool call) is kept in its place and never trained.
    """
    if not any(m.role == "user" for m in messages):
        raise RowError("no_user", "no message of the user's")
    if not any(m.role == "user" and m.content.strip() for m in messages):
        raise RowError("empty_prompt", "the user's text is blank")
    answers = [m for m in messages if m.role == "assistant"]
    if not answers:
        raise RowError("no_answer", "no message of the assistant's")
    if not any(m.content.strip() or m.tool_calls for m in answers):
        raise RowError("empty_answer", "the assistant's text is blank")
    kept = [
        Message(role=m.role, content=m.content, train=False)
        if m.role == "assistant" and not m.content.strip() and not m.tool_calls else m
        for m in messages
    ]
    return Conversation(messages=tuple(kept), tools=tools, origin=origin)
