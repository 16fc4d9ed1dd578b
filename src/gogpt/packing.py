"""Lengths -> bins -> batches: best-fit packing into rows, with nothing lost and nothing shared.

Every example lies whole in one row (longer ones were dealt with before, by policy, see huggingface/trl#4632 for
what happens otherwise); position ids restart in each, and ``document_ids`` keep attention inside it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gogpt.records import IGNORE_INDEX, Batch, Example

Bins = tuple[tuple[int, ...], ...]


def pack(lengths: Sequence[int] | npt.NDArray[np.int64], capacity: int) -> Bins:
    """Best-fit decreasing: indices of the examples of each row; the sum of lengths never passes ``capacity``.

    Raises ValueError for a length above the capacity. O(n log n) for n examples. Examples of equal length keep
    their order, and rows come in the order of their first example.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size and int(sizes.max()) > capacity:
        raise ValueError(f"an example of {int(sizes.max())} tokens does not fit rows of {capacity}")
    bins: list[list[int]] = []
    free: dict[int, list[int]] = {}  # free room -> rows with exactly that room, as a stack
    rooms: list[int] = []  # the keys of `free`, sorted
    for i in np.argsort(-sizes, kind="stable"):
        size = int(sizes[i])
        at = bisect.bisect_left(rooms, size)
        if at < len(rooms):
            room = rooms[at]
            row = free[room].pop()
            if not free[room]:
                del free[room], rooms[at]
        else:
            room, row = capacity, len(bins)
            bins.append([])
        bins[row].append(int(i))
        left = room - size
        if left:
            if left not in free:
                free[left] = []
                bisect.insort(rooms, left)
            free[left].append(row)
    return tuple(sorted(tuple(sorted(b)) for b in bins))


def one_per_row(num_examples: int) -> Bins:
    """Unpacked: every example is a row of its own."""
    return tuple((i,) for i in range(num_examples))


def batch_rows(rows: Sequence[Sequence[Example]], pad_id: int) -> Batch:
    """Rows of examples as one padded batch ``[B, T]``, T the longest row."""
    sizes = [sum(e.num_tokens for e in row) for row in rows]
    shape = (len(rows), max(sizes, default=0))
    input_ids = np.full(shape, pad_id, dtype=np.int64)
    labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    document_ids = np.full(shape, -1, dtype=np.int64)
    for r, row in enumerate(rows):
        at = 0
        for d, example in enumerate(row):
            end = at + example.num_tokens
            input_ids[r, at:end] = example.input_ids
            labels[r, at:end] = example.labels
            # Nothing in this document predicts its first token; the token before belongs to another one.
            labels[r, at] = IGNORE_INDEX
            position_ids[r, at:end] = np.arange(example.num_tokens)
            document_ids[r, at:end] = d
            at = end
    origins = tuple(tuple(e.origin for e in row) for row in rows)
    return Batch(input_ids=input_ids, labels=labels, position_ids=position_ids, document_ids=document_ids, origins=origins)
