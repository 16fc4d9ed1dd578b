"""Glaive function calling v2 as published: ``system`` and ``chat``, two texts with marks."""

from __future__ import annotations

import json
import re
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, text_of
from gogpt.data.shapes.tools import Json, call, tools_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

SPEAKER = re.compile(r"(?:^\s*|\n)[ \t]*(USER|ASSISTANT|FUNCTION RESPONSE):")
ROLE = {"USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
CALL = "<functioncall>"
QUOTED = re.compile(r"""\s*\{\s*"name"\s*:\s*"([^"]+)"\s*,\s*"arguments"\s*:\s*'(.*)'\s*\}\s*""", re.S)
"""A call as this set writes it: the arguments are JSON in single quotes, so that the whole is no JSON."""
WITH_TOOLS = re.compile(r"\s*with access to the following functions.*", re.S)


def fits(row: Row) -> bool:
    return isinstance(row.get("chat"), str) and "system" in row and SPEAKER.search(row["chat"]) is not None


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    system, tools = _system(text_of(row["system"], "system"))
    messages = [Message(role="system", content=system)] if system else []
    chat = row["chat"]
    marks = list(SPEAKER.finditer(chat))
    for i, mark in enumerate(marks):
        said = chat[mark.end(): marks[i + 1].start() if i + 1 < len(marks) else len(chat)].strip()
        role = ROLE[mark.group(1)]
        said = said.removesuffix("<|endoftext|>").strip()
        before, called, rest = said.partition(CALL) if role == "assistant" else (said, "", "")
        messages.append(Message(role=role, content=before.strip(), tool_calls=(_call(rest, f"turn {i + 1}"),) if called else ()))
    return finish(messages, origin, tools)


def _system(text: str) -> tuple[str, tuple[Json, ...]]:
    """The system message and the tools that stand in it as JSON, one after the other."""
    text = text.strip().removeprefix("SYSTEM:").strip()
    head, brace, rest = text.partition("{")
    if not brace:
        return text, ()
    tools: list[Any] = []
    decoder, rest, at = json.JSONDecoder(), brace + rest, 0
    try:
        while at < len(rest):
            found, at = decoder.raw_decode(rest, at)
            tools.append(found)
            at += len(rest[at:]) - len(rest[at:].lstrip())
    except (ValueError, RecursionError):
        return text, ()  # braces in a text
    return WITH_TOOLS.sub("", head).strip(" .,-"), tools_of(tools)


def _call(text: str, where: str) -> Json:
    if match := QUOTED.fullmatch(text):
        arguments = match.group(2).replace("\\'", "'")
        return call(match.group(1), arguments)
    try:
        found = json.loads(text)
        return call(str(found["name"]), found.get("arguments"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise RowError("bad_tool_call", f"{where}: no call is in {text[:80]!r}") from problem


GLAIVE = Schema(
    name="glaive",
    wants="system, chat: USER: ... ASSISTANT: ... FUNCTION RESPONSE: ...",
    doc="glaive-function-calling-v2: the tools are taken out of the system text, calls out of the answers; <|endoftext|> goes.",
    keys=("system", "chat"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
         '{"name": "clock", "parameters": {"type": "object"}}\n{"name": "add", "parameters": {}}',
         "chat": 'USER: Time?\n\n\nASSISTANT: <functioncall> {"name": "clock", "arguments": \'{"zone": "UTC"}\'} <|endoftext|>\n\n\n'
         'FUNCTION RESPONSE: {"hour": 12}\n\n\nASSISTANT: Noon. <|endoftext|>\n\n\n'},
        {"system": "SYSTEM: You are a helpful assistant, with no access to external functions.", "chat": "USER: Hi\n\n\nASSISTANT: Hello! <|endoftext|>\n\n\n"},
    ),
    not_mine=({"system": "x", "chat": "no marks"}, {"chat": "USER: Hi"}, {"system": "x", "chat": {"turn_1": {}}}),
)
