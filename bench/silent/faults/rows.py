"""The conversations of the cases: short, different, deterministic."""

from __future__ import annotations

from typing import Any

WORDS = ["red", "blue", "green", "one", "two", "three", "four", "five", "north", "south", "east", "west", "sun", "moon", "star", "tree", "stone", "river"]
NUM_ROWS = 48

Row = dict[str, Any]


def question(i: int) -> str:
    return f"Question {i}: what follows {WORDS[i % 18]} and {WORDS[i * 5 % 18]}?"


def answer(i: int) -> str:
    return f"After {WORDS[i % 18]} and {WORDS[i * 5 % 18]} comes {WORDS[i * 7 % 18]}{' and so on' * (i % 4)}."


def row(user: str, assistant: str) -> Row:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}


def plain(count: int = NUM_ROWS, *, start: int = 0) -> list[Row]:
    return [row(question(i), answer(i)) for i in range(start, start + count)]


def long_questions(share: float = 1.0, count: int = NUM_ROWS) -> list[Row]:
    """Of ``share`` of the rows the question alone is longer than 96 tokens, and all is shorter than 256."""
    text = " ".join(f"After {a} and {b} comes {c}." for a, b, c in zip(WORDS[:9], WORDS[3:12], WORDS[6:15], strict=True))
    return [row(f"Read this: {text} {question(i)}" if i % 2 < 2 * share else question(i), answer(i)) for i in range(count)]


def chats(turns: int = 5, count: int = NUM_ROWS) -> list[Row]:
    return [{"messages": [m for t in range(turns) for m in row(question(i + 100 * t), answer(i + 3 * t))["messages"]]} for i in range(count)]


def changed(rows: list[Row], places: range, change: Any) -> list[Row]:
    """The rows, those at ``places`` replaced by ``change(row, place)``."""
    return [change(r, i) if i in places else r for i, r in enumerate(rows)]


FEW = range(5, NUM_ROWS, 16)
"""Three of 48 rows, about 5%, and not the first."""
