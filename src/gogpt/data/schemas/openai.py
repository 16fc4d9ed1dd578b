"""OpenAI messages: ``messages``, a list of ``{"role", "content"}``; ``tools``, tool calls, system messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Row, Schema, finish, train_flag
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

ROLES = {"system": "system", "developer": "system", "user": "user", "human": "user", "assistant": "assistant",
         "tool": "tool", "function": "tool"}
KEYS = ("messages", "conversations", "conversation")


def _messages(row: Row) -> list[Any] | None:
    """The list under the first of the keys that holds one (others may be there and empty)."""
    return next((value for k in KEYS if isinstance(value := row.get(k), list)), None)


def claims(row: Row) -> bool:
    found = _messages(row)
    if not found:
        return isinstance(row.get("messages"), list)
    return all(isinstance(m, Mapping) and "role" in m for m in found)


def _content(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):  # content parts, as the API takes them
        parts = []
        for part in value:
            if isinstance(part, str):
                parts.append(part)
            elif (isinstance(part, Mapping) and part.get("type", "text") == "text"
                  and isinstance(text := part.get("text", part.get("value")), str)):
                parts.append(text)
            else:
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise RowError("not_text", f"{where}: content of type {kind!r} is not text")
        return "".join(parts)
    raise RowError("wrong_type", f"{where}: content is {type(value).__name__}, want text")


def _calls(message: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):  # the API's form before November 2023
        calls = [{"type": "function", "function": message["function_call"]}]
    if not calls:
        return ()
    if not isinstance(calls, list) or not all(isinstance(c, Mapping) and isinstance(c.get("function", c), Mapping) for c in calls):
        raise RowError("wrong_type", f"{where}: tool_calls is no list of objects")
    for call in calls:
        try:
            json.loads(call.get("function", call).get("arguments") or "{}")
        except RecursionError as problem:
            raise RowError("wrong_type", f"{where}: the arguments of a tool call are nested without end") from problem
        except (TypeError, ValueError):
            pass  # an object already, or text that is no JSON: a chat template may take either
    return tuple(_as_json(c, f"{where}: tool_calls") for c in calls)


def _as_json(value: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    try:
        json.dumps(value)
    except (TypeError, ValueError) as problem:  # bytes or dates of a Parquet file
        raise RowError("wrong_type", f"{where}: {problem}") from problem
    return value


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not value:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as problem:
            raise RowError("wrong_type", f"tools is text, but not JSON: {problem}") from problem
    if not isinstance(value, list) or not all(isinstance(t, Mapping) for t in value):
        raise RowError("wrong_type", "tools is no list of objects")
    return tuple(_as_json(t, "tools") for t in value)


def to_conversation(row: Row, origin: Origin) -> Conversation:
    found = _messages(row)
    assert found is not None
    messages: list[Message] = []
    for i, message in enumerate(found):
        where = f"message {i + 1}"
        said = message["role"]
        role = ROLES.get(said.lower()) if isinstance(said, str) else None
        if role is None:
            raise RowError("unknown_role", f"{where} has the role {said!r}; known: {', '.join(ROLES)}")
        reasoning = message.get("reasoning_content")
        messages.append(Message(
            role=role,
            content=_content(message.get("content"), where),
            train=train_flag(message, where) if role == "assistant" else None,
            reasoning=reasoning if isinstance(reasoning, str) else None,
            tool_calls=_calls(message, where) if role == "assistant" else (),
            tool_call_id=message.get("tool_call_id") if isinstance(message.get("tool_call_id"), str) else None,
            name=message.get("name") if isinstance(message.get("name"), str) else None,
        ))
    return finish(messages, origin, _tools(row.get("tools", row.get("functions"))))


OPENAI = Schema(
    name="openai",
    wants="messages: a list of {role, content} (and tools)",
    doc="OpenAI chat messages, with system messages, tools and tool calls; content parts of type text are joined.",
    claims=claims,
    to_conversation=to_conversation,
    examples=(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Weather in Rome?"},
                      {"role": "assistant", "content": None, "tool_calls": [
                          {"id": "1", "type": "function",
                           "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]},
                      {"role": "tool", "tool_call_id": "1", "content": "18 C"},
                      {"role": "assistant", "content": "It is 18 degrees."}],
         "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]},
    ),
    not_mine=({"messages": [{"from": "human", "value": "Hi"}]}, {"messages": "Hi"}),
)
