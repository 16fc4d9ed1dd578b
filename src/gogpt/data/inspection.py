"""The records of an inspection of data, and how numbers are spread."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_LENGTHS = (512, 1024, 2048, 4096, 8192)
"""Usual values of data.max_length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How one kind of number is spread. ``p95``: the smallest value that at least 95 % do not exceed."""

    count: int
    min: int
    median: float
    mean: float
    p95: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """``count`` values v with ``low <= v < high``."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """Conversations longer than a maximum length, in tokens."""

    max_length: int
    count: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to look at: in how many conversations, where first, and how it is spelled (occurrences)."""

    name: str
    count: int
    share: float
    first: tuple[str, ...]
    spelled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a file has its schema, over its first ``sampled`` rows. ``shapes``: which of the fields that are read stand
    together, in how many rows. ``read`` and ``ignored``: field -> rows that have it; ``messages[].role`` is a field
    of the objects in a list. ``others``: rows that another schema would claim."""

    sampled: int
    fits: int
    shapes: tuple[tuple[tuple[str, ...], int], ...]
    read: Mapping[str, int]
    ignored: Mapping[str, int]
    others: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInspection:
    """One file. ``schema`` and ``evidence`` are None where it cannot be read; ``error`` then says why."""

    path: str
    schema: str | None
    rows: int
    conversations: int
    dropped: int
    evidence: Evidence | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Lengths in tokens, rendered by a template as training does; the longest sequence of each conversation."""

    model: str
    template: str
    total: int
    trained: int
    sequences: int
    lengths: Spread | None
    histogram: tuple[Bin, ...]
    over: tuple[Over, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Languages:
    """Conversations by language (ISO 639) or, by method ``script``, by script. ``und``: not told."""

    method: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemMessages:
    conversations: int
    distinct: int
    most_frequent: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Conversations that declare tools; calls, by name; results."""

    conversations: int
    calls: int
    results: int
    names: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The document of ``gogpt data inspect``."""

    object: Mapping[str, str]
    files: tuple[FileInspection, ...]
    rows_in: int
    conversations: int
    drops: Mapping[str, int]
    first: Mapping[str, Sequence[str]]
    notes: Mapping[str, int]
    texts: int
    """conversations that are documents for continued pretraining"""
    turns: int
    """messages of the user's"""
    multi_turn: int
    """conversations with more than one of them"""
    messages: Mapping[str, int]
    system: SystemMessages
    tools: Tools
    characters: Mapping[str, Spread]
    """of a whole conversation, and of one message of each role"""
    histogram: tuple[Bin, ...]
    """characters of a whole conversation"""
    tokens: Tokens | None
    languages: Languages
    notices: tuple[Notice, ...]
    samples: tuple[Mapping[str, Any], ...]

    @property
    def failed(self) -> tuple[FileInspection, ...]:
        return tuple(f for f in self.files if f.error is not None)


# -- spread and histogram --------------------------------------------------------------------------


def spread(values: Sequence[int]) -> Spread | None:
    """None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    n = len(ordered)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return Spread(count=n, min=ordered[0], median=middle, mean=sum(ordered) / n, p95=ordered[math.ceil(0.95 * n) - 1], max=ordered[-1])


def histogram(values: Sequence[int]) -> tuple[Bin, ...]:
    """Bins between powers of two (and half way between, where that makes no more than 16), which are what maximum
    lengths are; every value is in one bin."""
    if not values:
        return ()
    low, high = min(values), max(values)
    edges = _edges(low, high, halves=True)
    if len(edges) > 17:
        edges = _edges(low, high, halves=False)
    counts: Counter[int] = Counter()
    for value in values:
        counts[next(i for i in range(len(edges) - 2, -1, -1) if value >= edges[i])] += 1
    return tuple(Bin(low=a, high=b, count=counts[i]) for i, (a, b) in enumerate(itertools.pairwise(edges)))


def _edges(low: int, high: int, *, halves: bool) -> list[int]:
    marks = [0, 1, 2, *(x for k in range(2, max(3, high.bit_length() + 2)) for x in ((2**k, 3 * 2 ** (k - 1)) if halves else (2**k,)))]
    first = max(i for i, mark in enumerate(marks) if mark <= low)
    last = next(i for i, mark in enumerate(marks) if mark > high)
    return marks[first : last + 1]
