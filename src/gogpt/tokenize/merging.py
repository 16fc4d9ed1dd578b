"""Byte-pair merging of short texts in Python: which tokens of a vocabulary another text is made of, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rank = Callable[[str, str], Any]
"""The rank of a pair of neighbours, the lowest is merged first; None where they do not merge."""


def merge_symbols(symbols: Iterable[str], rank: Rank) -> list[str]:
    """The symbols after every merge: the pair of the lowest rank, of equals the leftmost, until none is left."""
    parts = list(symbols)
    while len(parts) > 1:
        ranked = [(r, i) for i in range(len(parts) - 1) if (r := rank(parts[i], parts[i + 1])) is not None]
        if not ranked:
            break
        _, at = min(ranked)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def ranks_of(merges: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Pair -> place in the list of merges; of a pair listed twice the last, as the tokenizers library has it."""
    return {pair: place for place, pair in enumerate(merges)}


def by_pairs(ranks: Mapping[tuple[str, str], int]) -> Rank:
    """The rule of a tokenizer.json."""
    return lambda a, b: ranks.get((a, b))


def by_scores(scores: Mapping[str, float]) -> Rank:
    """The rule of sentencepiece: two neighbours merge where both together are a piece, the highest score first."""

    def rank(a: str, b: str) -> float | None:
        score = scores.get(a + b)
        return None if score is None else -score

    return rank


def merges_of(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Merges of a tokenizer.json as pairs; older files write them as one string."""
    pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in model.get("merges") or ())
    return [(p[0], p[1]) for p in pairs]
