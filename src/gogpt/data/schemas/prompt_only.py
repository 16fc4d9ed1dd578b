"""Rows that hold a prompt and no key of an answer: there is nothing to train on, and each row is told so."""

from __future__ import annotations

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import only_metadata_but
from gogpt.data.shapes.turns import is_message
from gogpt.errors import RowError
from gogpt.records import Conversation, Origin

PROMPTS = ("instruction", "prompt", "question", "query")


def _key(row: Row) -> str | None:
    for key, value in row.items():
        if str(key).lower() in PROMPTS and (isinstance(value, str) or (isinstance(value, list) and bool(value) and all(map(is_message, value)))):
            return str(key)
    return None


def fits(row: Row) -> bool:
    """Another key that holds text may be the answer under a name that is misspelt: such a row is not claimed."""
    key = _key(row)
    return key is not None and only_metadata_but(row, (key, "input", "context", "system"))


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    raise RowError("no_answer", f"{_key(row)} alone: the row has no key of an answer")


PROMPT_ONLY = Schema(
    name="prompt_only",
    wants="a prompt and no answer: read by no run",
    doc="Prompts for distillation, evaluation or reinforcement learning (InstructionWild, WizardLM's test set, verl). Every row is dropped as no_answer.",
    keys=PROMPTS,
    fits=fits,
    to_conversation=to_conversation,
    examples=({"instruction": "Name a colour.", "instruction_type": "x"}, {"idx": 1, "Skill": "Math", "Difficulty": 1, "Instruction": "2 + 2?"},
              {"data_source": "x", "prompt": [{"role": "user", "content": "Hi"}], "ability": "math", "reward_model": {"ground_truth": "4"}}),
    not_mine=({"instruction": "x", "ouput": "y"}, {"prompt": "x", "completion": "y"}),
)
