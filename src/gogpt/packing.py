"""Lengths -> bins -> batches: best-fit packing into rows, with nothing lost and nothing shared.

Every example lies whole in one row (longer ones were dealt with before, by policy, see huggingface/trl#4632 for
what happens otherwise); position ids restart in each, and ``document_ids`` keep attention inside it.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from gogpt.records import IGNORE_INDEX, Batch, Example

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Bins(Sequence[tuple[int, ...]]):
    """The examples of each of R rows, in two flat arrays: row r holds ``indices[offsets[r] : offsets[r + 1]]``.

    ``indices``: ``[N]``, an example each. ``offsets``: ``[R + 1]``, ascending from 0 to N. 8 bytes an example and 8 a row, where
    tuples of tuples take about 100. A row is read as a tuple; equal to whatever sequence holds the same rows.
    """

    indices: Ints
    offsets: Ints

    def __len__(self) -> int:
        return self.offsets.size - 1

    @overload
    def __getitem__(self, at: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, at: slice) -> Bins: ...
    def __getitem__(self, at: int | slice) -> tuple[int, ...] | Bins:
        if isinstance(at, slice):
            return self.select(np.arange(len(self))[at])
        row = range(len(self))[at]  # negative ones count from the end, others raise IndexError
        return tuple(self.indices[self.offsets[row] : self.offsets[row + 1]].tolist())

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (self[r] for r in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Bins):
            return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.indices, other.indices)
        return isinstance(other, Sequence) and list(self) == list(map(tuple, other))

    __hash__ = None  # type: ignore[assignment]

    @property
    def num_examples(self) -> int:
        return self.indices.size

    def select(self, rows: Ints) -> Bins:
        """These rows, in this order."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        return Bins(self.indices[np.repeat(self.offsets[:-1][rows], counts) + within], offsets)

    def sums(self, values: Ints) -> Ints:
        """Of each row the sum of ``values`` (``[N]``, by example), ``[R]``."""
        running = np.concatenate([[0], np.cumsum(values[self.indices])])
        return np.asarray(running[self.offsets[1:]] - running[self.offsets[:-1]], dtype=np.int64)

    def tobytes(self) -> bytes:
        """What tells these rows from any others."""
        return b"".join(np.ascontiguousarray(part, dtype="<i8").tobytes() for part in (self.offsets, self.indices))


def pack(lengths: Sequence[int] | Ints, capacity: int) -> Bins:
    """Best-fit decreasing: indices of the examples of each row; the sum of lengths never passes ``capacity``.

    Raises ValueError for a length above the capacity. Examples of equal length keep their order, and rows come in the order of
    their first example. O(n log n) for n examples, for the two sorts; the fitting itself goes over the distinct lengths.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if sizes.size and int(sizes.max()) > capacity:
        raise ValueError(f"an example of {int(sizes.max())} tokens does not fit rows of {capacity}")
    order = np.argsort(-sizes, kind="stable")
    row_of = np.empty(sizes.size, dtype=np.int64)
    row_of[order] = _fit(sizes[order], capacity)
    # Rows are numbered anew, by their first example: of several values for one place numpy keeps the last.
    first = np.empty(int(row_of.max(initial=-1)) + 1, dtype=np.int64)
    first[row_of[::-1]] = np.arange(sizes.size)[::-1]
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    by_rank = rank[row_of]
    return Bins(np.argsort(by_rank, kind="stable"), np.concatenate([[0], np.cumsum(np.bincount(by_rank, minlength=first.size))]))


def _fit(sizes: Ints, capacity: int) -> Ints:
    """The row of each example, for descending ``sizes`` (``[N]``): the fullest row that has room for it, among equals the last that came
    to have that room.

    All examples of one size are placed together. A row that takes one of size s and has room for another is then the fullest
    with room for s, so that it takes ``room // s`` of them in a row, and rows of equal room do so in turn.
    """
    row_of = np.empty(sizes.size, dtype=np.int64)
    free: dict[int, list[int]] = {}  # free room -> rows with exactly that room, as a stack
    rooms: list[int] = []  # the keys of `free`, sorted
    num_rows = 0

    def put(room: int, rows: list[int]) -> None:
        if room and rows:
            if room not in free:
                free[room] = []
                bisect.insort(rooms, room)
            free[room].extend(rows)

    borders = [*np.flatnonzero(np.diff(sizes, prepend=-1)).tolist(), sizes.size]
    for begin, end in itertools.pairwise(borders):
        at, size = begin, int(sizes[begin])
        while at < end:
            found = bisect.bisect_left(rooms, size)
            room = rooms[found] if found < len(rooms) else capacity
            each = room // size if size else end - at
            wanted = -(-(end - at) // each)
            if found < len(rooms):
                stack = free[room]
                rows = stack[: -wanted - 1 : -1]
                del stack[-wanted:]
                if not stack:
                    del free[room], rooms[found]
            else:
                rows = list(range(num_rows, num_rows + wanted))
                num_rows += wanted
            placed = min(end - at, each * len(rows))
            row_of[at : at + placed] = np.repeat(rows, each)[:placed]
            whole, rest = divmod(placed, each)
            put(room - each * size, rows[:whole])
            put(room - rest * size, rows[whole:])
            at += placed
    return row_of


def cut_documents(lengths: Ints, capacity: int) -> tuple[Ints, Ints, Bins]:
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
    return document, np.stack([begin - first, end - first], axis=1), Bins(np.arange(row.size), at.astype(np.int64))


def one_per_row(num_examples: int) -> Bins:
    """Unpacked: every example is a row of its own."""
    return Bins(np.arange(num_examples), np.arange(num_examples + 1))


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
    ends = np.tile(np.arange(shape[1]), (shape[0], 1))
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
            ends[r, at:end] = sizes[r] if across else end
            at = end
    origins = tuple(tuple(e.origin for e in row) for row in rows)
    return Batch(input_ids=input_ids, labels=labels, position_ids=position_ids, document_ids=document_ids,
                 ends=ends if int(document_ids.max(initial=0)) > 0 else None, origins=origins)
