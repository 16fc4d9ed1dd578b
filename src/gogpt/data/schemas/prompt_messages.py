"""TRL's prompt and completion as lists of messages."""

from __future__ import annotations

from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish
from gogpt.data.shapes.tools import tools_of
from gogpt.data.shapes.turns import is_message, read_turns
from gogpt.records import Conversation, Origin

ANSWERS = ("completion", "response", "chosen")


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def fits(row: Row) -> bool:
    return _is_list(row.get("prompt")) and any(_is_list(row.get(k)) for k in ANSWERS)


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    answer = next(row[k] for k in ANSWERS if _is_list(row.get(k)))
    return finish(read_turns([*row["prompt"], *answer], note), origin, tools_of(row.get("tools")))


PROMPT_MESSAGES = Schema(
    name="prompt_messages",
    wants="prompt, completion: two lists of {role, content} (and tools)",
    doc="TRL's conversational prompt and completion.",
    keys=("prompt", *ANSWERS, "tools"),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello!"}]},
              {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello!"}]}),
    not_mine=({"prompt": [{"role": "user", "content": "Hi"}]}, {"prompt": "Hi", "completion": "Hello"}),
)
