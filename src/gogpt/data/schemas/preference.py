"""Preference pairs: the chosen side is read, the rejected side is left out, and the ledger says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import (
    finish,
    first_text,
    input_of,
    system_messages,
)
from gogpt.data.shapes.marks import HH, Marks, asked
from gogpt.data.shapes.tools import tools_of
from gogpt.data.shapes.turns import list_under, read_turns, with_system
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

SIDES = (("chosen", "rejected"), ("chosen_response", "rejected_response"), ("chosen_messages", "rejected_messages"),
         ("response_chosen", "response_rejected"), ("response_j", "response_k"), ("completion_a", "completion_b"))
"""The better answer, and the worse one."""

BEFORE = ("conversations", "conversation", "messages", "prompt", "context_messages")
"""Keys of the turns before the answer, as a list."""
PROMPTS = ("prompt", "question", "instruction", "user_input", "query")


def _sides(row: Row) -> tuple[str, str] | None:
    return next(((good, bad) for good, bad in SIDES if good in row and row.get(bad) is not None), None)


def fits(row: Row) -> bool:
    return _sides(row) is not None


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    sides = _sides(row)
    assert sides is not None
    note("preference rows: the chosen answer is read, the rejected one is left out")
    answer = _answer(row[sides[0]], sides[0], note)
    if any(m.role == "user" for m in answer):  # the whole conversation, its prompt included
        messages = answer
    else:
        before, marks = _before(row, note)
        if marks is not None:
            answer = [replace(m, content=marks.without_end(m.content)) for m in answer]
        if before is None:
            whole = HH.turns(row[sides[0]]) if isinstance(row[sides[0]], str) else None
            if whole is None:
                raise RowError("no_user", f"no prompt beside {sides[0]}, and none in it")
            before, answer = whole, []
        messages = before + answer
    return finish(with_system(system_messages(row), messages), origin, tools_of(row.get("tools")))


def _answer(value: Any, key: str, note: Note) -> list[Message]:
    if value is None or isinstance(value, str):
        return [Message(role="assistant", content=value or "")]
    if isinstance(value, Mapping):
        return read_turns([value], note)
    if isinstance(value, list):
        return read_turns(value, note)
    raise RowError("wrong_type", f"{key} is {type(value).__name__}, want text or messages")


def _before(row: Row, note: Note) -> tuple[list[Message] | None, Marks | None]:
    """The turns before the answer, and the marks that were taken off them; None where the row has no prompt."""
    turns = list_under(row, BEFORE)
    if turns is not None:
        return read_turns(turns, note), None
    if not any(row.get(k) is not None for k in PROMPTS):
        return None, None
    prompt = first_text(row, PROMPTS)
    extra = input_of(row.get("input"), "input", note) if "instruction" in row else ""
    return asked(prompt, extra, note)


PREFERENCE = Schema(
    name="preference",
    wants="chosen, rejected (and conversations, messages, prompt or question)",
    doc="Preference pairs of LLaMA-Factory, MedicalGPT, UltraFeedback, TRL, HH-RLHF, NeMo, Stack Exchange, GPT-4-LLM's comparisons. As training "
    "data for one answer, the chosen one is read; the rejected one never is.",
    keys=(*dict.fromkeys(side for pair in SIDES for side in pair), *BEFORE, *PROMPTS[1:], "input", "system", "system_prompt", "tools"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Hello!"}, "rejected": {"from": "gpt", "value": "What?"}},
        {"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}], "chosen": "Hello!", "rejected": "What?"},
        {"prompt": "Hi", "prompt_id": "1", "chosen": [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}],
         "rejected": [{"content": "Hi", "role": "user"}, {"content": "What?", "role": "assistant"}],
         "messages": [{"content": "Hi", "role": "user"}, {"content": "Hello!", "role": "assistant"}], "score_chosen": 9, "score_rejected": 2.5},
        {"chosen_messages": [{"role": "user", "content": [{"type": "text", "value": "Hi"}], "loss_weight": 0.0},
                             {"role": "assistant", "content": [{"type": "text", "value": "Hello!"}], "loss_weight": 1.0}], "rejected_messages": []},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: And?\n\nAssistant: Fine.", "rejected": "\n\nHuman: Hi\n\nAssistant: What?"},
        {"prompt": "<extra_id_0>System\n\n<extra_id_1>User\nHi?\n<extra_id_1>Assistant\n", "chosen_response": "Hello!", "rejected_response": "What?"},
        {"qid": 1, "question": "Hi?", "response_j": "Hello!", "response_k": "What?"},
        {"user_input": "Hi", "completion_a": "Hello!", "completion_b": "What?"},
    ),
    not_mine=({"prompt": "Human: Hi Assistant:", "chosen": "Hello"}, {"prompt": "x", "chosen": "y", "rejected": None}),
)
