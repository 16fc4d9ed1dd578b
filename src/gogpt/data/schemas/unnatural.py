"""An instruction with several instances: Unnatural Instructions (core and full), self-instruct seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import (
    NO_CONSTRAINT,
    finish,
    input_of,
    text_of,
    user_message,
)
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin


def fits(row: Row) -> bool:
    return "instruction" in row and isinstance(row.get("instances"), list)


def parts(row: Row) -> Sequence[Row]:
    """One row for each instance, and for each reformulation (each has an instruction of its own, and the same output)."""
    again = row.get("reformulations")
    reformulated = again if isinstance(again, list) else [again] if again else []
    instances = [(row["instruction"], instance) for instance in row["instances"]]
    instances += [(r.get("instruction", row["instruction"]) if isinstance(r, Mapping) else row["instruction"], r) for r in reformulated]
    return [{"instruction": instruction, "instances": [instance]} for instruction, instance in instances] or [row]


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    if not row["instances"]:
        raise RowError("no_answer", "the instruction has no instance")
    instance = row["instances"][0]
    if not isinstance(instance, Mapping):
        raise RowError("wrong_type", f"an instance is {type(instance).__name__}, want an object")
    return finish([_prompt(row["instruction"], instance, note), Message(role="assistant", content=text_of(instance.get("output"), "output"))], origin)


def _prompt(instruction: Any, instance: Row, note: Note) -> Message:
    """``instruction_with_input`` says both; the instruction alone has a placeholder where its input belongs."""
    whole = text_of(instance.get("instruction_with_input"), "instruction_with_input")
    extra = input_of(instance.get("input"), "input", note)
    asked = text_of(instruction, "instruction")
    if not whole.strip() and "{INPUT}" in asked:
        whole = asked.replace("{INPUT}", extra)
    constraints = text_of(instance.get("constraints"), "constraints")
    if constraints.strip().lower() in NO_CONSTRAINT or not constraints.strip():
        return user_message(whole) if whole.strip() else user_message(asked, extra)
    note("constraints of an instance: added to its prompt")
    prompt = user_message(whole) if whole.strip() else user_message(asked, extra)
    return Message(role="user", content=f"{prompt.content}\n{constraints}")


UNNATURAL = Schema(
    name="unnatural",
    wants="instruction, instances: a list of {input, output} (and instruction_with_input, constraints, reformulations)",
    doc="Unnatural Instructions, core and full, and self-instruct's seed tasks. Every instance and every reformulation is a conversation "
    "of its own; constraints follow the prompt.",
    keys=("instruction", "instances", "reformulations"),
    fits=fits,
    to_conversation=to_conversation,
    parts=parts,
    examples=(
        {"id": "seed_1", "name": "colour", "instruction": "Name a colour.", "instances": [{"input": "", "output": "Blue."}], "is_classification": False},
        {"instruction": "Is it warm? {INPUT}", "instances": [{"instruction_with_input": "Is it warm? 30 C", "input": "30 C", "constraints": "Say yes or no.", "output": "yes"},
                                                             {"input": "-5 C", "constraints": "None.", "output": "no"}],
         "reformulations": [{"instruction": "Warm or not: {INPUT}", "instruction_with_input": "Warm or not: 30 C", "input": "30 C", "output": "yes"}]},
        {"instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}, {"input": "2 2", "output": "4"}], "reformulations": None},
    ),
    not_mine=({"instruction": "x", "output": "y"}, {"instruction": "x", "instances": "y"}),
)
