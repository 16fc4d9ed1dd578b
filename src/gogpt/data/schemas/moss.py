"""MOSS: ``chat``, an object of numbered turns whose texts carry marks; thoughts, commands and their results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages, text_of
from gogpt.data.shapes.marks import MOSS_002 as MARKS_002
from gogpt.data.shapes.marks import without_open_end
from gogpt.data.shapes.tools import Json, call, tool
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

TURN = re.compile(r"turn_(\d{1,6})$")
MARKED = re.compile(r"\s*<\|[A-Za-z ]+\|>:\s*(.*?)\s*(?:<eo[a-z]>\s*)?", re.S)
NAME = re.compile(r"\s*([A-Za-z_]\w{0,60})\(")
CLOSE = re.compile(r"\)[ \t]{0,20}(?:$|[,;，；\n]\s{0,20}(?=[A-Za-z_]\w{0,60}\())")
"""The bracket that ends a command: nothing or another command comes after it. Arguments hold brackets of their own."""
API = re.compile(r"API:\s*([A-Za-z_]\w*)\((\w+)\)")
PARAMETERS = {"Search": "query", "Calculate": "expression", "Solve": "equation", "Text2Image": "description"}
"""What each plugin takes, where the meta instruction does not say so (``API: Search(query)``)."""


def _turns(row: Row) -> list[tuple[str, Mapping[str, Any]]]:
    """The turns in the order of their numbers: as text, turn_10 would come before turn_2."""
    chat = row.get("chat")
    if not isinstance(chat, Mapping):
        return []
    found = [(int(match.group(1)), str(key), turn) for key, turn in chat.items()
             if (match := TURN.match(str(key))) and isinstance(turn, Mapping) and ("Human" in turn or "MOSS" in turn)]
    return [(key, turn) for _, key, turn in sorted(found, key=lambda t: t[0])]


def fits(row: Row) -> bool:
    return bool(_turns(row))


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    rules = system_messages(row, ("meta_instruction",))
    parameters = {**PARAMETERS, **dict(API.findall(rules[0].content if rules else ""))}
    messages = list(rules)
    for where, turn in _turns(row):
        said = {key: _text(turn.get(key), f"{where}: {key}") for key in ("Human", "Inner Thoughts", "Commands", "Tool Responses", "MOSS")}
        thoughts, commands, results = (said[key] if said[key] != "None" else "" for key in ("Inner Thoughts", "Commands", "Tool Responses"))
        messages.append(Message(role="user", content=said["Human"]))
        if commands:
            note("MOSS turns with a command: read as a tool call, its result, and the answer")
            messages += [Message(role="assistant", content="", reasoning=thoughts or None, tool_calls=_calls(commands, parameters, where)),
                         Message(role="tool", content=results)]
            thoughts = ""
        messages.append(Message(role="assistant", content=said["MOSS"], reasoning=thoughts or None))
    return finish(messages, origin, _tools(rules))


def _text(value: Any, key: str) -> str:
    """A text without its marks: ``<|Human|>: ...<eoh>``."""
    text = text_of(value, key)
    match = MARKED.fullmatch(text)
    return match.group(1) if match else text.strip()


def _calls(commands: str, parameters: Mapping[str, str], where: str) -> tuple[Json, ...]:
    """``Search("a"), Calculate(1+1)``, one after the other."""
    out = []
    commands = commands.rstrip(" \t\n,;，；")
    at = 0
    while at < len(commands):
        name = NAME.match(commands, at)
        close = commands.find(")", name.end()) if name else -1
        while close >= 0 and not (end := CLOSE.match(commands, close)):
            close = commands.find(")", close + 1)
        if name is None or close < 0 or end is None:
            raise RowError("bad_tool_call", f"{where}: no command is in {commands[at: at + 80]!r}")
        argument = commands[name.end(): close].strip().strip("\"'“”")
        out.append(call(name.group(1), json.dumps({parameters.get(name.group(1), "input"): argument}, ensure_ascii=False)))
        at = end.end()
    return tuple(out)


def _tools(rules: list[Message]) -> tuple[Json, ...]:
    """The plugins that the meta instruction enables."""
    return tuple(tool(name, {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]})
                 for name, parameter in dict(API.findall(rules[0].content if rules else "")).items())


def fits_002(row: Row) -> bool:
    return isinstance(row.get("plain_text"), str) and "[Human]" in row["plain_text"]


def to_conversation_002(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    turns = MARKS_002.turns(row["plain_text"])
    if turns is None:
        raise RowError("no_user", "plain_text has no turn of [Human]")
    rules = system_messages(row, ("prefix",))
    return finish(without_open_end(rules + [m for m in turns if not rules or m.role != "system"]), origin)


MOSS = Schema(
    name="moss",
    wants="chat: {turn_1: {Human, Inner Thoughts, Commands, Tool Responses, MOSS}} (and meta_instruction)",
    doc="MOSS 003, with and without plugins. Marks are taken off; None is nothing; thoughts become reasoning, a command a tool call, and its result "
    "a message of role tool, which is never trained.",
    keys=("chat", "meta_instruction"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"conversation_id": "1", "meta_instruction": "You are MOSS.\n", "num_turns": 1,
         "chat": {"turn_1": {"Human": "<|Human|>: Hi<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n", "Commands": "<|Commands|>: None<eoc>\n",
                             "Tool Responses": "<|Results|>: None<eor>\n", "MOSS": "<|MOSS|>: Hello!<eom>\n"}}},
        {"conversation_id": 2, "meta_instruction": "You are MOSS.\n- Web search: enabled. API: Search(query)\n", "num_turns": 2,
         "chat": {"turn_2": {"Human": "<|Human|>: Thanks<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n", "Commands": "<|Commands|>: None<eoc>\n",
                             "Tool Responses": "<|Results|>: None<eor>\n", "MOSS": "<|MOSS|>: Any time.<eom>\n"},
                  "turn_1": {"Human": "<|Human|>: Weather?<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: I must look it up.<eot>\n",
                             "Commands": "<|Commands|>: Search(\"weather (Rome)\"), Calculate(1+1)<eoc>\n",
                             "Tool Responses": "<|Results|>: Search(\"weather (Rome)\") =>\n<|1|>: 18 C<eor>\n", "MOSS": "<|MOSS|>: 18 degrees<sup><|1|></sup>.<eom>\n"}}},
    ),
    not_mine=({"chat": "USER: Hi"}, {"chat": {"first": {}}}, {"chat": {"turn_1": "Hi"}}),
)

MOSS_002 = Schema(
    name="moss_002",
    wants="plain_text: [Human]: ... [MOSS]: ... (and prefix)",
    doc="MOSS 002: one text a conversation, with marks in square brackets.",
    keys=("plain_text", "prefix"),
    fits=fits_002,
    to_conversation=to_conversation_002,
    examples=({"id": "1", "prefix": "MOSS is kind.", "plain_text": "[Human]: Hi<eoh> [MOSS]: Hello!<eoa>", "num_turns": 1},
              {"id": "2", "plain_text": "[Human]: Hi<eoh>\n[MOSS]: Hello!<eoa>\n[Human]: And?<eoh>\n[MOSS]: Fine.<eoa>"}),
    not_mine=({"plain_text": "Once upon a time."}, {"plain_text": None}),
)
