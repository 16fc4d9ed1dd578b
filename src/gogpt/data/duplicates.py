"""Conversations that say the same: exact ones by their keys, those alike by MinHash over character 5-grams.

A signature holds the smallest hash of a text's 5-grams under each of 128 permutations; two signatures agree in a share of
their places that estimates the Jaccard similarity J of the two sets of 5-grams, with a standard error of sqrt(J(1-J)/128)
(Broder 1997). Candidates are pairs that agree on a whole band of places (locality-sensitive hashing); each is confirmed by
the estimate over all places, so a band that agrees by chance finds nothing.

Signatures come from ``rensa`` (the extra ``clean``), and are the same in every process and on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.errors import GogptError
from gogpt.records import Conversation

NUM_PERMUTATIONS = 128
NUM_CHARS = 5
SEED = 0x676F6770
RECALL = 0.95
"""Share of the pairs at exactly the asked similarity that become candidates; more alike ones are found more surely."""
NUM_PAIRS = 1 << 18
"""Pairs of signatures compared at once."""

Indices = npt.NDArray[np.int64]
Signatures = npt.NDArray[np.uint32]


def compared_text(conversation: Conversation) -> str:
    """What of a conversation is compared: role and content of every message, one a line, without the system messages.

    A long system prompt that many conversations share would make them all alike, whatever they say.
    """
    return "\n".join(f"{m.role} {m.content}" for m in conversation.messages if m.role != "system")


def signatures(texts: Sequence[str]) -> Signatures:
    """MinHash signatures ``[N, 128]`` of texts, in lower case and with white space collapsed.

    Needs about 40 bytes of memory a character while it runs: give it blocks, not a whole set.
    Raises GogptError ENV111 where ``rensa`` is not installed.
    """
    sketch = _rensa()
    plain = [" ".join(text.lower().split()) for text in texts]
    lengths = np.fromiter((len(text) for text in plain), dtype=np.int64, count=len(plain))
    # Fewer characters than a gram has: the text, filled up with zeros, is its one gram.
    room = np.maximum(lengths, NUM_CHARS)
    points = np.zeros(int(room.sum()) + NUM_CHARS, dtype=np.uint64)
    starts = np.cumsum(room) - room
    flat = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    points[np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(flat.size)] = flat
    hashed = np.zeros(points.size - NUM_CHARS, dtype=np.uint64)
    for i in range(NUM_CHARS):
        hashed = hashed * np.uint64(0x9E3779B97F4A7C15) + points[i : i + hashed.size] + np.uint64(1)
    # The last places of each text begin grams that would run into the next one.
    counts = room - NUM_CHARS + 1
    grams = np.arange(int(counts.sum())) + np.repeat(starts - (np.cumsum(counts) - counts), counts)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    matrix = sketch.digest_matrix_from_flat_token_hashes(_mix(hashed[grams]), offsets, NUM_PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(plain), NUM_PERMUTATIONS)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's last step: nearby numbers become unrelated ones (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _rensa() -> Any:
    try:
        from rensa import RMinHash
    except ImportError as problem:
        raise GogptError("ENV111", "near duplicates need the package rensa", where="recipe: data.clean",
                         fix="pip install 'gogpt[clean]', or ask for exact duplicates only (duplicates: exact, leakage: exact)") from problem
    return RMinHash


# -- exact -----------------------------------------------------------------------------------------


def exact_duplicates(keys: npt.NDArray[np.int64]) -> Indices:
    """For each of N keys, the index of the first equal one, or -1 where it is the first itself. int64 ``[N]``."""
    keys = np.asarray(keys, dtype=np.int64)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[inverse.reshape(-1)]
    return np.where(earliest == np.arange(keys.size), -1, earliest).astype(np.int64)


def leaks(train_keys: npt.NDArray[np.int64], eval_keys: npt.NDArray[np.int64]) -> Indices:
    """For each of N training keys, the index of the first equal evaluation key, or -1. int64 ``[N]``."""
    train_keys = np.asarray(train_keys, dtype=np.int64)
    known, first = np.unique(np.asarray(eval_keys, dtype=np.int64), return_index=True)
    if not known.size:
        return np.full(train_keys.size, -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, train_keys), known.size - 1)
    return np.where(known[at] == train_keys, first[at], -1).astype(np.int64)


# -- alike -----------------------------------------------------------------------------------------


def bands(similarity: float) -> tuple[int, int]:
    """(bands, rows of each): the longest bands with which a pair of this similarity is a candidate with probability RECALL."""
    for rows in range(NUM_PERMUTATIONS, 0, -1):
        count = NUM_PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** count >= RECALL:
            return count, rows
    return NUM_PERMUTATIONS, 1


def agreement(a: Signatures, b: Signatures) -> npt.NDArray[np.float64]:
    """Estimated Jaccard similarity of signatures ``[..., P]``, pair by pair: ``[...]``."""
    return np.asarray(np.count_nonzero(a == b, axis=-1) / a.shape[-1], dtype=np.float64)


def near_duplicates(signatures: Signatures, similarity: float) -> Indices:
    """For each of N signatures ``[N, P]``, the index of the earliest one that is kept and alike, or -1. int64 ``[N]``.

    Items are taken in order, and one is kept unless it is alike (estimate >= similarity) to one kept before. So whatever is dropped
    is itself alike to what stands for it: in a chain where A is like B and B like C but A not like C, A stays, B goes and
    C stays. Which of equals is kept depends on the order, and in chains also how many are; the order of reading decides.

    Costs about 16 numbers an item in memory, and a comparison with each kept item of the same band.
    Raises GogptError CFG202 where similarity is not between 0 and 1.
    """
    _allowed(similarity)
    out = np.full(len(signatures), -1, dtype=np.int64)
    if not len(signatures):
        return out
    first, inverse = _distinct(signatures)
    distinct = signatures[first]
    found = _greedy(distinct, similarity)
    stands = np.where(found >= 0, found, np.arange(len(distinct)))
    earliest = first[stands[inverse]]
    return np.where(earliest == np.arange(len(signatures)), -1, earliest).astype(np.int64)


def near_leaks(train_signatures: Signatures, eval_signatures: Signatures, similarity: float) -> Indices:
    """For each of N training signatures ``[N, P]``, the index of the earliest evaluation signature ``[M, P]`` that is alike
    (estimate >= similarity), or -1. int64 ``[N]``. Raises GogptError CFG202 where similarity is not between 0 and 1."""
    _allowed(similarity)
    none = len(eval_signatures)
    out = np.full(len(train_signatures), none, dtype=np.int64)
    if not len(train_signatures) or not none:
        return np.full(len(train_signatures), -1, dtype=np.int64)
    first, inverse = _distinct(train_signatures)
    train = train_signatures[first]
    held_first, _ = _distinct(eval_signatures)
    held = eval_signatures[held_first]
    best = np.full(len(train), none, dtype=np.int64)
    for columns in _columns(similarity):
        ours, theirs = _key(train[:, columns]), _key(held[:, columns])
        order = np.argsort(theirs, kind="stable")
        low = np.searchsorted(theirs[order], ours, side="left")
        counts = np.searchsorted(theirs[order], ours, side="right") - low
        for part in _parts(counts):
            sizes = counts[part]
            i = np.repeat(np.arange(part.start, part.stop), sizes)
            j = order[np.repeat(low[part] - (np.cumsum(sizes) - sizes), sizes) + np.arange(i.size)]
            alike = agreement(train[i], held[j]) >= similarity
            np.minimum.at(best, i[alike], held_first[j[alike]])
    out = best[inverse]
    return np.where(out == none, -1, out).astype(np.int64)


def _allowed(similarity: float) -> None:
    if not 0 < similarity < 1:
        raise GogptError("CFG202", "data.clean.similarity is out of range", where="recipe", got=str(similarity), expected="a number between 0 and 1",
                         fix="0.8 finds rewordings; 0.95 finds all but copies")


def _columns(similarity: float) -> list[slice]:
    count, rows = bands(similarity)
    return [slice(i * rows, (i + 1) * rows) for i in range(count)]


def _key(columns: Signatures) -> npt.NDArray[np.uint64]:
    """One number for the places of a band: ``[N, R]`` -> ``[N]``. Equal for equal bands; others are told apart when confirmed."""
    out = np.zeros(len(columns), dtype=np.uint64)
    for i in range(columns.shape[1]):
        out = _mix(out + columns[:, i] + np.uint64(0x9E3779B97F4A7C15))
    return out


def _distinct(signatures: Signatures) -> tuple[Indices, Indices]:
    """(index of the first of each group of equal signatures, in order; group of each signature)."""
    # Two independent keys of 64 bits: that they agree for different signatures will not be seen.
    left, right = _key(signatures), _key(signatures[:, ::-1])
    order = np.lexsort((np.arange(len(signatures)), right, left))
    new = np.ones(len(signatures), dtype=bool)
    new[1:] = (left[order][1:] != left[order][:-1]) | (right[order][1:] != right[order][:-1])
    group = np.empty(len(signatures), dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    first = order[new]
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return np.sort(first), rank[group]


def _parts(counts: npt.NDArray[np.int64]) -> list[slice]:
    """Runs of items whose pairs together are at most NUM_PAIRS (or one item that has more)."""
    ends = np.cumsum(counts)
    out, start, done = [], 0, 0
    while start < counts.size:
        stop = max(start + 1, int(np.searchsorted(ends, done + NUM_PAIRS, side="right")))
        done = int(ends[stop - 1])
        out.append(slice(start, stop))
        start = stop
    return out


def _greedy(signatures: Signatures, similarity: float) -> Indices:
    """``near_duplicates`` of signatures that are all different."""
    count = len(signatures)
    shared = np.zeros(count, dtype=bool)
    buckets = []
    for columns in _columns(similarity):
        _, inverse, sizes = np.unique(_key(signatures[:, columns]), return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1).astype(np.int32)
        inverse[sizes[inverse] == 1] = -1
        shared |= inverse >= 0
        buckets.append(inverse)
    members = np.flatnonzero(shared)
    rows = np.stack([b[members] for b in buckets], axis=1)
    kept: list[dict[int, list[int]]] = [{} for _ in buckets]
    out = np.full(count, -1, dtype=np.int64)
    least = similarity * signatures.shape[1]
    for i, row in zip(members.tolist(), rows.tolist(), strict=True):
        own = [band.setdefault(bucket, []) for band, bucket in zip(kept, row, strict=True) if bucket >= 0]
        before = sorted({j for bucket in own for j in bucket})
        if before:
            alike = np.flatnonzero(np.count_nonzero(signatures[before] == signatures[i], axis=1) >= least)
            if alike.size:
                out[i] = before[int(alike[0])]
                continue
        for bucket in own:
            bucket.append(i)
    return out
