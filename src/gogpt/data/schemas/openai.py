"""OpenAI messages: ``messages``, a list of ``{"role", "content"}``; ``tools``, tool calls, content parts."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages
from gogpt.data.shapes.tools import tools_of
from gogpt.data.shapes.turns import is_message, list_under, read_turns, with_system
from gogpt.records import Conversation, Origin

KEYS = ("messages", "conversations", "conversation", "dialogue", "dialog")


def fits(row: Row) -> bool:
    found = list_under(row, KEYS)
    if not found:
        return isinstance(row.get("messages"), list)
    return all(map(is_message, found))


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    messages = with_system(system_messages(row), read_turns(list_under(row, KEYS) or [], note))
    return finish(messages, origin, tools_of(row.get("tools") or row.get("functions")))


OPENAI = Schema(
    name="openai",
    wants="messages: a list of {role, content} (and tools)",
    doc="OpenAI chat messages, with system messages, tools and tool calls. Content parts of text are joined; parts of reasoning and of "
    "tool calls become that. train, weight or loss_weight of an answer say whether it is trained.",
    keys=(*KEYS, "system", "system_prompt", "tools", "functions"),
    fits=fits,
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
        {"messages": [{"role": "user", "content": [{"type": "text", "value": "Time?"}], "loss_weight": 0.0},
                      {"role": "assistant", "loss_weight": 1.0,
                       "content": [{"type": "reasoning", "value": "I need a clock."}, {"type": "tool_call", "value": "{\"name\": \"clock\", \"arguments\": {}}"}]},
                      {"role": "tool", "content": [{"type": "text", "value": "noon"}], "loss_weight": 0.0},
                      {"role": "assistant", "content": [{"type": "text", "value": "Noon."}], "loss_weight": 1.0}],
         "tools": "[{\"name\": \"clock\", \"parameters\": {}}]"},
        {"conversation": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!", "weight": 0},
                          {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Fine.", "reasoning_content": "Be short."}]},
        {"prompt": "Hi", "prompt_id": "1", "messages": [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}]},
    ),
    not_mine=({"messages": [{"from": "human", "value": "Hi"}]}, {"messages": "Hi"}, {"messages": ["Hi"]},
              {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Go away."}], "label": False}),
)
