"""Lengths -> bins -> batches: best-fit packing into rows, with nothing lost and nothing shared.

Every example lies whole in one row (longer ones were dealt with before, by policy, see huggingface/trl#4632 for
what happens otherwise); position ids restart in each, and ``document_ids`` keep attention inside it.
"""

from __future__ import annotations

import bisect
import itertools
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


def cut_documents(lengths: npt.NDArray[np.int64], capacity: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Bins]:
    """Documents one after another, cut into rows of exactly ``capacity`` tokens (the last row is what remains).

    Returns for each of M pieces the number of its document (``[M]``) and its start and end in it (``[M, 2]``), and the pieces of
    each row. Every token is in exactly one piece: nothing is padded and nothing is lost.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    borders = np.union1d(np.concatenate([[0], ends]), np.arange(0, total + capacity, capacity))
    borders = borders[borders <= total]
    begin, end = borders[:-1], borders[1:]
    document = np.searchsorted(ends, begin, side="right")
    first = ends[document] - lengths[document]
    row = begin // capacity
    counts = np.bincount(row) if row.size else np.zeros(0, dtype=np.int64)
    at = np.concatenate([[0], np.cumsum(counts)])
    bins = tuple(tuple(range(int(a), int(b))) for a, b in itertools.pairwise(at))
    return document, np.stack([begin - first, end - first], axis=1), bins


def one_per_row(num_examples: int) -> Bins:
    """Unpacked: every example is a row of its own."""
    return tuple((i,) for i in range(num_examples))


def batch_rows(rows: Sequence[Sequence[Example]], pad_id: int, *, across: bool = False) -> Batch:
    """Rows of examples as one padded batch ``[B, T]``, T the longest row.

    ``across``: a row is one stream of text: positions run on, tokens attend to what stands before in the row, and the first token
    of a document is predicted by the end of the one before it.
    """
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
            labels[r, at] = example.input_ids[0] if across and at else IGNORE_INDEX
            position_ids[r, at:end] = np.arange(example.num_tokens) + (at if across else 0)
            document_ids[r, at:end] = 0 if across else d
            at = end
    origins = tuple(tuple(e.origin for e in row) for row in rows)
    return Batch(input_ids=input_ids, labels=labels, position_ids=position_ids, document_ids=document_ids, origins=origins)
