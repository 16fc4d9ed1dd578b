"""ShareGPT: ``conversations`` (or ``conversation``), a list of ``{"from", "value"}``."""

from __future__ import annotations

from dataclasses import replace

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages, text_of
from gogpt.data.shapes.tools import tools_of
from gogpt.data.shapes.turns import (
    is_turn,
    list_under,
    read_turns,
    role_of,
    with_system,
)
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

KEYS = ("conversations", "conversation", "messages")


def fits(row: Row) -> bool:
    turns = list_under(row, KEYS)
    if not turns:
        return turns is not None and not isinstance(row.get("messages"), list)
    return all(map(is_turn, turns))


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    messages = _masked(read_turns(list_under(row, KEYS) or [], note), row, note)
    return finish(with_system(system_messages(row), messages), origin, tools_of(row.get("tools") or row.get("functions")))


def _masked(messages: list[Message], row: Row, note: Note) -> list[Message]:
    """NeMo's ``mask`` names the speaker who is NOT trained."""
    mask = text_of(row.get("mask"), "mask")
    if not mask.strip():
        return messages
    try:
        role = role_of(mask.strip(), "mask")
    except RowError as problem:
        raise RowError("unknown_role", f"mask names {mask!r}, who does not speak") from problem
    if role != "assistant":
        return messages
    note("rows whose mask names the assistant: its answers are not trained")
    return [replace(m, train=False) if m.role == "assistant" else m for m in messages]


SHAREGPT = Schema(
    name="sharegpt",
    wants="conversations: a list of {from, value} (and system, tools, mask)",
    doc="ShareGPT, Vicuna, WizardLM V2, OpenHermes, SlimOrca, BELLE 3.5M, Glaive in LLaMA-Factory's form: turns from human and gpt (and "
    "other spellings), with system messages, tool calls (function_call) and their results (observation).",
    keys=(*KEYS, "system", "system_prompt", "tools", "functions", "mask"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},
        {"id": "1", "conversations": [{"from": "system", "value": "Be kind."}, {"from": "user", "value": "Hi"},
                                      {"from": "assistant", "value": "Hello!", "weight": 0},
                                      {"from": "human", "value": "And?"}, {"from": "gpt", "value": "Fine."}]},
        {"conversations": [{"from": "human", "value": "Time?"}, {"from": "function_call", "value": "{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}}"},
                           {"from": "observation", "value": "{\"hour\": 12}"}, {"from": "gpt", "value": "Noon."}],
         "tools": "[{\"name\": \"clock\", \"description\": \"Tells the time\", \"parameters\": {\"type\": \"object\"}}]"},
        {"system": "Be brief.", "mask": "User", "conversations": [{"from": "User", "value": "Hi"}, {"from": "Assistant", "value": "Hello!", "label": None}]},
        {"conversations": [{"from": "gpt", "value": "So."}, {"from": "human", "value": "你好", "weight": None}, {"from": "yayi", "value": "你好！", "weight": None}],
         "system_prompt": None, "skip_prompt_formatting": None, "source": "x"},
    ),
    not_mine=({"conversations": [{"role": "user", "content": "Hi"}]}, {"conversations": "text"}, {"conversations": ["Hi", "Hello"]},
              {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}),
)
