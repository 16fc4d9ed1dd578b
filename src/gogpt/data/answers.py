"""What the trained answers of a set look like beside each other and beside their prompts: one answer for all, answers that stand in their prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gogpt.data.store import ExampleSet
from gogpt.records import IGNORE_INDEX

NUM_LOOKED = 2000
"""Examples that are looked at, evenly spread."""
LONG = 8
"""Tokens from which an answer is long enough not to stand in a prompt by chance; names and labels that are extracted are shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """``looked``: trained answers. ``same``: how many are the most frequent one, whose ids are ``most``. ``long``: those of LONG tokens
    and more, and ``inside``: how many of them stand, whole but for their first and last token, in what comes before them."""

    looked: int
    same: int
    most: tuple[int, ...]
    long: int
    inside: int


def look_at_answers(train: ExampleSet, stop_ids: tuple[int, ...]) -> Answers:
    """Of up to NUM_LOOKED examples. A stop token at the end of an answer is no part of it."""
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
            if end - begin >= LONG:
                long += 1
                inside += _stands_in(answer[1:-1], example.input_ids[:begin])
    most, same = seen.most_common(1)[0] if seen else ((), 0)
    return Answers(looked=seen.total(), same=same, most=most, long=long, inside=inside)


def _runs(labels: npt.NDArray[np.int32]) -> Iterator[tuple[int, int]]:
    """Stretches of trained tokens, as [begin, end)."""
    trained = np.concatenate([[False], labels != IGNORE_INDEX, [False]])
    borders = np.flatnonzero(trained[1:] != trained[:-1])
    return ((int(a), int(b)) for a, b in zip(borders[::2], borders[1::2], strict=True))


def _stands_in(part: npt.NDArray[np.int32], whole: npt.NDArray[np.int32]) -> bool:
    wanted, text = part.astype("<i4").tobytes(), whole.astype("<i4").tobytes()
    at = text.find(wanted)
    while at >= 0 and at % 4:
        at = text.find(wanted, at + 1)
    return at >= 0
