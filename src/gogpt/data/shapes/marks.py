"""Dialogues written as one text with marks in it (``Human: ... Assistant: ...``), taken apart into turns.

The marks are the template of another tool. Left in the text they would be trained as words, inside the template of
this run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gogpt.data.shapes.fields import Note, user_message
from gogpt.records import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """``user``, ``assistant``, ``system``: patterns of what opens a turn. ``end``: of what closes one."""

    name: str
    user: str
    assistant: str
    system: str = r"(?!)"
    end: str = r"(?!)"
    preamble: bool = False
    """text before the first mark is a system message; otherwise there must be none"""

    def turns(self, text: str) -> list[Message] | None:
        """The turns, white space at their ends removed; None where the text does not begin with a mark."""
        pattern = re.compile(f"(?P<system>{self.system})|(?P<user>{self.user})|(?P<assistant>{self.assistant})")
        found = list(pattern.finditer(text))
        before = text[: found[0].start()].strip() if found else ""
        if not found or (before and not self.preamble):
            return None
        out = [Message(role="system", content=before)] if before else []
        for i, mark in enumerate(found):
            said = self.clean(text[mark.end(): found[i + 1].start() if i + 1 < len(found) else len(text)])
            if said or mark.lastgroup != "system":
                out.append(Message(role=str(mark.lastgroup), content=said))
        return out

    def clean(self, text: str) -> str:
        """A turn without what closes it, nor white space at its ends."""
        return self.without_end(text.strip()).strip()

    def without_end(self, text: str) -> str:
        """A text without what closes it; otherwise as it is."""
        tail = text[-40:]
        found = re.search(f"(?:{self.end})\\s*$", tail)
        return text[: len(text) - len(tail) + found.start()].rstrip() if found else text


GUANACO = Marks(name="### Human:", user=r"###\s*Human\s*[:：]", assistant=r"###\s*Assistant\s*[:：]", system=r"###\s*System\s*[:：]")
"""timdettmers/openassistant-guanaco: no newline before ###."""
LLAMA2_CHINESE = Marks(name="<s>Human:", user=r"<s>\s*Human\s*[:：]", assistant=r"<s>\s*Assistant\s*[:：]", system=r"<s>\s*System\s*[:：]", end=r"</s>")
HH = Marks(name="Human: after a blank line", user=r"(?:^\s*|\n\n)Human:", assistant=r"\n\nAssistant:")
BAIZE = Marks(name="[|Human|]", user=r"\[\|Human\|\]", assistant=r"\[\|AI\|\]", preamble=True)
MOSS_002 = Marks(name="[Human]:", user=r"\[Human\]\s*[:：]", assistant=r"\[MOSS\]\s*[:：]", end=r"<eo[hamct]>", preamble=True)
NEMO = Marks(name="<extra_id_1>User", system=r"<extra_id_0>System\n", user=r"<extra_id_1>User\n", assistant=r"<extra_id_1>Assistant\n", end=r"<extra_id_1>")

TEXT_MARKS = (GUANACO, LLAMA2_CHINESE, NEMO)
"""Forms in which a ``text`` field holds a whole dialogue."""

_LINE = r"(?:^\s*|\n[ \t]*)"
_WORD = r"(?:^|(?<=\s))"
OPEN_MARKS = (
    Marks(name="Human: on a line", user=rf"{_LINE}Human\s?[:：]", assistant=rf"{_LINE}Assistant\s?[:：]"),
    Marks(name="Human:", user=rf"{_WORD}Human\s?[:：]", assistant=rf"{_WORD}Assistant\s?[:：]"),
    Marks(name="USER:", user=rf"{_WORD}USER:", assistant=rf"{_WORD}ASSISTANT:", end=r"</s>", preamble=True),
    NEMO,
)
"""Forms of a prompt that ends with the assistant's mark: what follows is the answer."""
CLOSED_MARKS = (Marks(name="<user>:", user=r"<user>\s*[:：]", assistant=r"<bot>\s*[:：]"),)
"""Forms of a prompt that ends with the user's turn."""


def turns_of_text(text: str) -> list[Message] | None:
    """The turns of a whole dialogue, without an empty last one; None where the text is no such dialogue."""
    for marks in TEXT_MARKS:
        turns = marks.turns(text)
        if turns and any(m.role == "user" for m in turns):
            return without_open_end(turns)
    return None


def turns_of_prompt(prompt: str) -> tuple[list[Message], Marks] | None:
    """The turns of a prompt that is a dialogue so far: it begins with a mark, user and assistant alternate, and the
    answer comes next. Anything else is left as it is, a text that happens to hold such words."""
    end = prompt.rstrip()[-40:] + "\n"
    for marks in OPEN_MARKS:
        turns = marks.turns(prompt) if re.search(f"(?:{marks.assistant})\\s*$", end) else None
        if turns and turns[-1].role == "assistant" and not turns[-1].content and _alternate(turns):
            return turns[:-1], marks
    for marks in CLOSED_MARKS:
        turns = marks.turns(prompt) if prompt[:40].lstrip().startswith("<") else None
        if turns and turns[-1].role == "user" and turns[-1].content and _alternate(turns):
            return turns, marks
    return None


def asked(prompt: str, extra: str, note: Note) -> tuple[list[Message], Marks | None]:
    """The turns before an answer: the user's message, or those of a dialogue so far, whose marks come with them."""
    dialogue = turns_of_prompt(prompt) if not extra else None
    if dialogue is None:
        return [user_message(prompt, extra)], None
    note("prompts that are a dialogue written as text (Human: ... Assistant:): taken apart into turns")
    return dialogue


def without_open_end(turns: list[Message]) -> list[Message]:
    """The turns without marks at the end that nothing follows."""
    end = len(turns)
    while end and not turns[end - 1].content:
        end -= 1
    return turns[:end]


def _alternate(turns: list[Message]) -> bool:
    spoken = [m.role for m in turns if m.role != "system"]
    return all(role == ("user", "assistant")[i % 2] for i, role in enumerate(spoken))
