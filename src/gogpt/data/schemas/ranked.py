"""Several answers to one prompt, in an order: the best is read, the others are left out, and the ledger says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import (
    finish,
    first_text,
    history_of,
    input_of,
    system_messages,
    text_of,
)
from gogpt.data.shapes.marks import asked
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

PROMPTS = ("instruction", "prompt", "question", "query", "user_input")
LISTS = ("answers", "responses_and_scores", "responses", "completions")
TEXTS = ("answer", "response", "text", "content", "completion")
NUMBERS = ("rank", "score")


def _answers(row: Row) -> list[Any] | None:
    """Two or more: objects with a rank or a score, or texts, the best first, under ``output``."""
    found = next((value for k in LISTS if isinstance(value := row.get(k), list)), None)
    if found is not None and len(found) >= 2 and all(isinstance(a, Mapping) and any(k in a for k in TEXTS) and any(k in a for k in NUMBERS) for a in found):
        return found
    texts = row.get("output")
    return texts if isinstance(texts, list) and len(texts) >= 2 and all(isinstance(t, str) for t in texts) else None


def fits(row: Row) -> bool:
    return any(isinstance(row.get(k), str) for k in PROMPTS) and _answers(row) is not None


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    answers = _answers(row)
    assert answers is not None
    note("rows of ranked answers: the best one is read, the others are left out")
    extra = input_of(row.get("input"), "input", note) if "instruction" in row else ""
    turns, marks = asked(first_text(row, PROMPTS), extra, note)
    answer = answers[0] if isinstance(answers[0], str) else _best(answers)
    return finish([*system_messages(row), *history_of(row.get("history")), *turns,
                   Message(role="assistant", content=marks.without_end(answer) if marks else answer)], origin)


def _best(answers: list[Any]) -> str:
    key = next((k for k in NUMBERS if all(isinstance(a.get(k), (int, float)) for a in answers)), None)
    if key is None:
        raise RowError("wrong_type", "answers whose rank or score is no number")
    best = (min if key == "rank" else max)(answers, key=lambda a: a[key])
    return next((text for k in TEXTS if (text := text_of(best.get(k), k)).strip()), "")


RANKED = Schema(
    name="ranked",
    wants="prompt (or instruction), answers: a list of {answer, rank} (or output: a list of texts, the best first)",
    doc="Ranked answers: Nectar, GPT-4-LLM's comparisons with scores, OASST as LLaMA-Factory's reward data. The best answer is read.",
    keys=(*PROMPTS, *LISTS, "output", "input", "history", "system", "system_prompt"),
    fits=fits,
    to_conversation=to_conversation,
    examples=(
        {"prompt": "Hi", "answers": [{"answer": "What?", "rank": 2.0}, {"answer": "Hello!", "rank": 1.0}]},
        {"instruction": "Hi", "input": "", "output": ["Hello!", "What?"], "history": [["First", "One"]]},
        {"user_input": "Hi", "responses_and_scores": [{"response": "Hello!", "source": "a", "score": 9.0}, {"response": "What?", "source": "b", "score": 1}]},
    ),
    not_mine=({"instruction": "x", "output": ["only"]}, {"query": "x", "answers": [{"name": "f", "arguments": {}}], "tools": "[]"}),
)
