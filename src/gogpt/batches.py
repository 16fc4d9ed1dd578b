"""Rows of a run to tensors: in the plan's order, each process its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from gogpt.data.store import ExampleSet
from gogpt.data.stream import RowStream
from gogpt.packing import Bins, batch_rows
from gogpt.records import IGNORE_INDEX, Example

TENSORS = ("input_ids", "labels", "position_ids", "document_ids")


class Spare(tuple[Any, ...]):
    """A row that only keeps a process in step with the others: none of its tokens is trained."""


class Rows(Dataset[tuple[int, ...]]):
    """Rows of a run in the plan's order: item i is the examples of row ``order[i]``; item ~i the same as a ``Spare``."""

    def __init__(self, bins: Bins, order: Any) -> None:
        self.bins, self.order = bins, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, i: int) -> tuple[int, ...]:
        return Spare(self.bins[int(self.order[~i])]) if i < 0 else self.bins[int(self.order[i])]


class StreamRows(Dataset[tuple[Example, ...]]):
    """Rows of a stream, which is asked in order: item i is its row i. Rows before it for which nobody asked (those of the steps that a
    resumed run has done) are read and passed over."""

    def __init__(self, rows: RowStream, num_rows: int) -> None:
        self.rows, self.num_rows = rows, num_rows

    def __len__(self) -> int:
        return self.num_rows

    def __getitem__(self, i: int) -> tuple[Example, ...]:
        if i < self.rows.taken:
            raise IndexError(f"row {i} of the stream is gone: {self.rows.taken} were taken")
        while self.rows.taken < i:
            next(self.rows)
        return next(self.rows)


def collate_rows(pad_id: int, *, across: bool = False) -> Callable[[Sequence[Sequence[Example]]], dict[str, Any]]:
    """Rows of examples -> what ``collate`` gives."""

    def make(rows: Sequence[Sequence[Example]]) -> dict[str, Any]:
        batch = batch_rows(rows, pad_id, across=across)
        out: dict[str, Any] = {name: torch.from_numpy(getattr(batch, name)) for name in TENSORS}
        out["origins"] = [[str(o) for o in row] for row in batch.origins]
        return out

    return make


def mask_spare(batch: dict[str, Any], rows: Sequence[Any]) -> dict[str, Any]:
    """Nothing of a ``Spare`` row is trained, or counted as read."""
    for r, row in enumerate(rows):
        if isinstance(row, Spare):
            batch["labels"][r] = IGNORE_INDEX
            batch["origins"][r] = []
            batch["spare"] = True
    return batch


def collate(examples: ExampleSet, pad_id: int, *, across: bool = False) -> Callable[[list[tuple[int, ...]]], dict[str, Any]]:
    """Rows of example indices -> tensors ``[B, T]`` (int64), and the rows' origins for the watch. ``across``: as in ``batch_rows``."""
    make = collate_rows(pad_id, across=across)
    return lambda rows: mask_spare(make([[examples[i] for i in row] for row in rows]), rows)


def by_length(examples: ExampleSet, size: int) -> list[list[int]]:
    """The batches in which held-out examples are evaluated: ``size`` at once, the shortest first, those of one length as they stand."""
    order = sorted(range(len(examples)), key=lambda i: int(examples.lengths[i]))
    return [order[at : at + size] for at in range(0, len(order), size)]


class RankBatches:
    """The micro-batches of one process, as lists of places in the run's order of rows.

    The rows of a step are cut into micro-batches, and the processes take these in turn. Every process gets as many of each step as the
    first one; where the last step has none left for it, it gets one row that must not count: ``[~i]`` names it, by the bits of its place.
    """

    def __init__(self, num_rows: int, *, batch_size: int, micro_batch_size: int, rank: int, size: int) -> None:
        """``num_rows`` of the whole run, ``batch_size`` a step, over ``size`` processes."""
        self.num_rows, self.batch_size, self.micro_batch_size, self.rank, self.size = num_rows, batch_size, micro_batch_size, rank, size

    def _steps(self) -> Iterator[list[list[int]]]:
        for begin in range(0, self.num_rows, self.batch_size):
            end = min(begin + self.batch_size, self.num_rows)
            yield [list(range(at, min(at + self.micro_batch_size, end))) for at in range(begin, end, self.micro_batch_size)]

    def __iter__(self) -> Iterator[list[int]]:
        for micro in self._steps():
            mine = micro[self.rank :: self.size]
            yield from mine
            if len(mine) < len(micro[:: self.size]):
                yield [~micro[0][0]]

    def __len__(self) -> int:
        full, rest = divmod(self.num_rows, self.batch_size)
        return full * self._count(self.batch_size) + (self._count(rest) if rest else 0)

    def _count(self, rows: int) -> int:
        return math.ceil(math.ceil(rows / self.micro_batch_size) / self.size)
