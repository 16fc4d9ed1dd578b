"""Camel-AI societies: ``message_1``, ``message_2``, ... objects of two roles; the user of the two speaks first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, text_of
from gogpt.records import Conversation, Message, Origin

NUMBERED = re.compile(r"message_(\d{1,6})$")


def _messages(row: Row) -> list[Mapping[str, Any]]:
    """In the order of their numbers. A table has a column for the longest chat's every message: null in the others."""
    found = [(int(match.group(1)), value) for key, value in row.items() if value is not None and (match := NUMBERED.match(str(key)))]
    return [value for _, value in sorted(found, key=lambda pair: pair[0])]


def fits(row: Row) -> bool:
    found = _messages(row)
    return len(found) >= 1 and "message_1" in row and all(isinstance(m, Mapping) and "content" in m for m in found)


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    found = _messages(row)
    told = (kinds for key in ("role_type", "role") if set(kinds := [_kind(m.get(key)) for m in found]) == {"user", "assistant"})
    roles = next(told, [("user", "assistant")[i % 2] for i in range(len(found))])
    return finish([Message(role=role, content=text_of(m["content"], f"message_{i}"))
                   for i, (role, m) in enumerate(zip(roles, found, strict=True), start=1)], origin)


def _kind(value: Any) -> str:
    """``RoleType.USER`` and ``USER`` are the user."""
    return value.rpartition(".")[2].lower() if isinstance(value, str) else ""


CAMEL_SOCIETY = Schema(
    name="camel_society",
    wants="message_1, message_2, ...: objects {role_type, content}",
    doc="Camel-AI's ai_society and code: two roles in turn, which role_type tells (else the user begins).",
    keys=("message_1", "message_2"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"role_1": "Poet_RoleType.ASSISTANT", "role_2": "Baker_RoleType.USER", "specified_task": "A poem.", "num_messages": 4,
         "message_2": {"role_name": "Poet", "role_type": "ASSISTANT", "role": "user", "content": "Solution: Bread. Next request."},
         "message_1": {"role_name": "Baker", "role_type": "USER", "role": "user", "content": "Instruction: Begin.\nInput: None"},
         "message_10": {"role_name": "Poet", "role_type": "ASSISTANT", "role": "user", "content": "Thanks."},
         "message_9": {"role_name": "Baker", "role_type": "USER", "role": "user", "content": "<CAMEL_TASK_DONE>"}},
        {"message_1": {"content": "Instruction: Begin."}, "message_2": {"content": "Solution: Done."}, "message_3": None},
    ),
    not_mine=({"message_1": "x", "message_2": "y"}, {"message_1": {"content": "x"}, "message_2": "y"}),
)
