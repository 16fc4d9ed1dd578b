"""What the trained answers of a set look like beside each other and beside their prompts: one answer for all, answers that stand in their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gogpt.data.store import ExampleSet
from gogpt.records import IGNORE_INDEX

NUM_LOOKED = 2000
"""Examples that are looked at, evenly spread."""
NUM_READ = 500
"""Answers that are looked for in their prompts."""
LONG = 8
"""Tokens from which an answer is long enough not to stand in a prompt by chance; names and labels that are extracted are shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """``looked``: trained answers. ``same``: how many are the most frequent one, whose ids are ``most``. ``long``: those of LONG tokens
    and more, as far as NUM_READ of them, and ``inside``: how many of those stand, as text, in what comes before them."""

    looked: int
    same: int
    most: tuple[int, ...]
    long: int
    inside: int


def look_at_answers(train: ExampleSet, stop_ids: tuple[int, ...], decode: Callable[[list[int]], str]) -> Answers:
    """Of up to NUM_LOOKED examples. A stop token at the end of an answer is no part of it.

    What stands in a prompt is compared as text: in the middle of a sentence the same words are other tokens.
    """
    chosen = range(len(train)) if len(train) <= NUM_LOOKED else np.linspace(0, len(train) - 1, NUM_LOOKED).astype(int)
    seen: Counter[tuple[int, ...]] = Counter()
    long = inside = 0
    for i in chosen:
        example = train[int(i)]
        for begin, end in _runs(example.labels):
            while end > begin and int(example.input_ids[end - 1]) in stop_ids:
                end -= 1
            answer = example.input_ids[begin:end]
            seen[tuple(answer.tolist())] += 1
            if end - begin >= LONG and long < NUM_READ:
                long += 1
                text = decode(answer.tolist()).strip()
                inside += bool(text) and text in decode(example.input_ids[:begin].tolist())
    most, same = seen.most_common(1)[0] if seen else ((), 0)
    return Answers(looked=seen.total(), same=same, most=most, long=long, inside=inside)


def _runs(labels: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Stretches of trained tokens, as [begin, end)."""
    trained = np.concatenate([[False], labels != IGNORE_INDEX, [False]])
    borders = np.flatnonzero(trained[1:] != trained[:-1])
    return ((int(a), int(b)) for a, b in zip(borders[::2], borders[1::2], strict=True))
