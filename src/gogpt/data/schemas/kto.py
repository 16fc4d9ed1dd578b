"""KTO: one answer, and whether it is a good one. Bad ones are kept as they stand and never trained."""

from __future__ import annotations

from dataclasses import replace

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import (
    finish,
    first_key,
    input_of,
    is_plain,
    system_messages,
    text_of,
)
from gogpt.data.shapes.marks import asked
from gogpt.data.shapes.tools import tools_of
from gogpt.data.shapes.turns import (
    is_message,
    is_turn,
    list_under,
    read_turns,
    with_system,
)
from gogpt.records import Conversation, Message, Origin

LABELS = ("label", "kto_tag", "tag")
TURNS = ("messages", "conversations")
PROMPTS = ("instruction", "prompt", "question", "query")
ANSWERS = ("output", "completion", "response", "answer")


def _label(row: Row) -> bool | None:
    return next((value for k in LABELS if isinstance(value := row.get(k), bool)), None)


def fits(row: Row) -> bool:
    if _label(row) is None:
        return False
    turns = list_under(row, TURNS)
    if turns is not None:
        return bool(turns) and (all(map(is_message, turns)) or all(map(is_turn, turns)))
    prompt, answer = first_key(row, PROMPTS), first_key(row, ANSWERS)
    return prompt is not None and answer is not None and isinstance(row[prompt], str) and is_plain(row[answer])


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    turns = list_under(row, TURNS)
    if turns is not None:
        messages = read_turns(turns, note)
    else:
        prompt, answer = first_key(row, PROMPTS), first_key(row, ANSWERS)
        assert prompt is not None
        assert answer is not None
        extra = input_of(row.get("input"), "input", note) if prompt == "instruction" else ""
        messages = [*asked(row[prompt], extra, note)[0], Message(role="assistant", content=text_of(row[answer], answer))]
    if _label(row) is False:
        note("rows labelled as a bad answer (KTO): kept in their place, their answers not trained")
        messages = [replace(m, train=False) if m.role == "assistant" else m for m in messages]
    else:
        note("rows labelled as a good answer (KTO): read as conversations")
    return finish(with_system(system_messages(row), messages), origin, tools_of(row.get("tools")))


KTO = Schema(
    name="kto",
    wants="messages (or prompt, completion; instruction, output), label: true or false",
    doc="KTO rows: an answer, and a label that says whether it is good. Trained on all of them, a model would learn the bad ones: they are "
    "kept with train: false.",
    keys=(*LABELS, *TURNS, *PROMPTS, *ANSWERS, "input", "system", "system_prompt", "tools"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}], "label": True},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}], "label": False},
        {"instruction": "Name a colour.", "output": "Blue.", "tag": True},
        {"prompt": "Hi", "completion": "What?", "label": False},
    ),
    not_mine=({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}], "label": "greeting"},
              {"text": "x", "label": True}),
)
