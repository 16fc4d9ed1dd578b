"""Data sets of one optimizer step each, from the docstrings of the standard library: the same for the same Python.

    short   single turns, for the Alpaca template: about 230 tokens, two fifths trained
    multi   chats of 4 to 8 turns: about 460 tokens, three quarters trained
    sys     short turns, about 55 tokens of their own, 40 of them trained, under one system text of 400

A step trains a whole set, and every step the same one: whoever trains it, in whatever order and rows, takes the same gradient.
"""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from conversations import Message, english

Conversation = list[Message]

CHARACTERS = 4.75
"""Characters of a token in this text, about (SmolLM2's tokenizer); sets are sized in characters, so that making them needs no tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetKind:
    """``count``: examples by default; ``quick``: with --quick. ``template``: of GoGPT."""

    name: str
    template: str
    count: int
    quick: int
    about: str


KINDS: tuple[SetKind, ...] = (
    SetKind(name="short", template="alpaca", count=8, quick=2, about="single turns under Alpaca"),
    SetKind(name="multi", template="chatml", count=4, quick=1, about="chats of 4-8 turns"),
    SetKind(name="sys", template="chatml", count=16, quick=3, about="short turns under one system text of 400 tokens"),
)


def kind_of(name: str) -> SetKind:
    return next(k for k in KINDS if k.name == name)


class Text:
    """Sentences one after another, each once; a walk that reaches the end begins again."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._sentences = sentences
        self._at = 0

    def of(self, length: float) -> str:
        """So many characters, ended at a word's end."""
        parts: list[str] = []
        while sum(map(len, parts)) + len(parts) < length:
            parts.append(self._sentences[self._at % len(self._sentences)])
            self._at += 1
        text = " ".join(parts)
        return text if len(text) <= length else text[: max(text.rfind(" ", 0, int(length)), 1)].rstrip(" ,;:")

    def tokens(self, count: float) -> str:
        return self.of(count * CHARACTERS)


def sentences_of(folders: Sequence[Path], seed: int) -> list[str]:
    """One line of prose for each paragraph, in an order that the seed draws."""
    lines = [" ".join(p.split()) for doc in english(folders) for p in doc if "\n" not in p and 60 <= len(p) <= 600 and p[0].isupper()]
    random.Random(f"{seed}: sentences").shuffle(lines)
    return lines


def standard_text(seed: int) -> Text:
    return Text(sentences_of([Path(sysconfig.get_path("stdlib"))], seed))


def _turn(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def short(text: Text, count: int, pick: random.Random) -> Iterator[Conversation]:
    for _ in range(count):
        yield _turn(text.tokens(pick.uniform(65, 110)), text.tokens(pick.uniform(65, 125)))


def multi(text: Text, count: int, pick: random.Random) -> Iterator[Conversation]:
    """4 to 8 turns of user and assistant: the more, the shorter."""
    for number in range(count):
        turns = (6, 4, 8, 6, 5, 7)[number % 6]
        yield [m for _ in range(turns) for m in _turn(text.tokens(pick.uniform(6, 10)), text.tokens(pick.uniform(0.85, 1.15) * 345 / turns))]


def under_system(text: Text, count: int, pick: random.Random) -> Iterator[Conversation]:
    system = text.tokens(355)
    for _ in range(count):
        yield [{"role": "system", "content": system}, *_turn(text.tokens(pick.uniform(6, 10)), text.tokens(pick.uniform(30, 48)))]


MAKERS: dict[str, Callable[[Text, int, random.Random], Iterator[Conversation]]] = {"short": short, "multi": multi, "sys": under_system}


def make(name: str, count: int, text: Text, *, seed: int = 0) -> list[Conversation]:
    """``count`` conversations of the set ``name``. ``text`` is read on from where it stands."""
    return list(MAKERS[name](text, count, random.Random(f"{seed}: {name}")))


# -- one pass over n turns against its n samples -----------------------------------------------------


def turns(text: Text, count: int, pick: random.Random) -> Conversation:
    """One conversation of ``count`` turns, about 70 tokens each."""
    return [m for _ in range(count) for m in _turn(text.tokens(pick.uniform(12, 22)), text.tokens(pick.uniform(35, 50)))]


def samples_of(conversation: Conversation) -> list[Conversation]:
    """Its beginnings, each up to the end of an answer; of each, only the last answer is to be trained (``data.train_on: last``)."""
    return [conversation[: i + 1] for i, m in enumerate(conversation) if m["role"] == "assistant"]


# -- files -------------------------------------------------------------------------------------------


def write(conversations: Sequence[Conversation], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"messages": c}, ensure_ascii=False) + "\n" for c in conversations), encoding="utf-8")
    return file
