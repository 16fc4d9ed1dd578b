"""COIG: exam questions (``textbox_...``), and counterfactual chats (``round_0`` ... as JSON text)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, text_of
from gogpt.data.shapes.tools import from_json
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin

PROMPT = ("textbox_q_instruction", "textbox_q_context", "textbox_question")
ANSWER = ("textbox_answer_analysis", "textbox_answer")
ROUND = re.compile(r"round_(\d{1,6})$")


def fits_exam(row: Row) -> bool:
    return "textbox_question" in row and any(k in row for k in ANSWER)


def to_exam(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    prompt, answer = ("\n".join(text for k in keys if (text := text_of(row.get(k), k).strip())) for keys in (PROMPT, ANSWER))
    return finish([Message(role="user", content=prompt), Message(role="assistant", content=answer)], origin)


def _rounds(row: Row) -> list[tuple[str, Any]]:
    found = [(int(match.group(1)), str(key), value) for key, value in row.items()
             if (match := ROUND.match(str(key))) and isinstance(value, Mapping) and "response" in value]
    return [(key, value) for _, key, value in sorted(found, key=lambda t: t[0])]


def fits_chat(row: Row) -> bool:
    return bool(_rounds(row))


def to_chat(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    messages = []
    for where, value in _rounds(row):
        said = from_json(value["response"], where)
        if not isinstance(said, Mapping) or not {"Q", "A"} <= set(said):
            raise RowError("wrong_type", f"{where}: the response is no JSON object of Q and A")
        messages += [Message(role="user", content=text_of(said["Q"], where)), Message(role="assistant", content=text_of(said["A"], where))]
    return finish(messages, origin)


COIG_EXAM = Schema(
    name="coig_exam",
    wants="textbox_question, textbox_answer (and textbox_q_instruction, textbox_q_context, textbox_answer_analysis)",
    doc="COIG's exam and value rows. Instruction, context and question make the prompt; the analysis, where there is one, comes before the answer.",
    keys=(*PROMPT, *ANSWER),
    fits=fits_exam,
    to_conversation=to_exam,
    examples=({"textbox_q_instruction": "选择正确答案。", "textbox_q_context": "", "textbox_question": "1 + 1 = ? A. 1 B. 2", "textbox_answer": "B",
               "textbox_answer_analysis": "一加一等于二。", "subject": "maths"},
              {"textbox_q_instruction": "回答。", "textbox_q_context": None, "textbox_question": "天为什么蓝？", "textbox_answer": "散射。"}),
    not_mine=({"textbox_question": "x"}, {"question": "x", "answer": "y"}),
)

COIG_CHAT = Schema(
    name="coig_chat",
    wants="round_0, round_1, ...: objects whose response is JSON of {Q, A}",
    doc="COIG's counterfactual correction chats, one object a file.",
    keys=("round_0", "round_1"),
    fits=fits_chat,
    to_conversation=to_chat,
    examples=({"round_0": {"prompt": "x", "response": "{\"Q\": \"Hi\", \"A\": \"Hello!\"}"}, "round_1": {"response": "{\"Q\": \"And?\", \"A\": \"Fine.\"}"}},
              {"round_0": {"response": {"Q": "Hi", "A": "Hello!"}}}),
    not_mine=({"round_0": "x"}, {"round_one": {"response": "{}"}}),
)
