"""Chat of Chinese-Vicuna: ``input`` and ``output``, lists of texts that belong together by position."""

from __future__ import annotations

from itertools import zip_longest

from gogpt.data.schemas.schema import Note, Row, Schema, silent
from gogpt.data.shapes.fields import finish, system_messages, text_of
from gogpt.errors import RowError
from gogpt.records import Conversation, Message, Origin


def fits(row: Row) -> bool:
    return all(isinstance(row.get(k), list) and row[k] and all(isinstance(text, str) for text in row[k]) for k in ("input", "output"))


def to_conversation(row: Row, origin: Origin, note: Note = silent, /) -> Conversation:
    asked, answered = row["input"], row["output"]
    if not len(asked) - 1 <= len(answered) <= len(asked):  # the last question may be without an answer
        raise RowError("turn_order", f"{len(asked)} inputs, but {len(answered)} outputs")
    messages = system_messages(row)
    for question, answer in zip_longest(asked, answered):
        messages.append(Message(role="user", content=text_of(question, "input")))
        if answer is not None:
            messages.append(Message(role="assistant", content=text_of(answer, "output")))
    return finish(messages, origin)


PAIRED_LISTS = Schema(
    name="paired_lists",
    wants="input, output: two lists of texts of one length",
    doc="Chinese-Vicuna's chats: the questions in one list, the answers in another.",
    keys=("input", "output", "system", "system_prompt"),
    fits=fits,
    to_conversation=to_conversation,
    examples=({"input": ["Hi", "And?"], "output": ["Hello!", "Fine."]}, {"input": ["Hi"], "output": ["Hello!"]}),
    not_mine=({"input": "Hi", "output": "Hello"}, {"input": [], "output": []}, {"instruction": "x", "input": "", "output": ["a", "b"]}),
)
