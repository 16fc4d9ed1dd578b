"""Rows of a run to tensors: in the plan's order, each process its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gogpt.data.store import ExampleSet
from gogpt.data.stream import RowStream
from gogpt.packing import Bins, batch_rows
from gogpt.records import IGNORE_INDEX, Batch, Example
from gogpt.trees import Forest, StepShape, grow, step_groups

TENSORS = ("input_ids", "labels", "position_ids", "document_ids", "ends")


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


def tensors_of(batch: Batch) -> dict[str, torch.Tensor]:
    """The arrays of a batch that are there, as tensors of the same memory."""
    return {name: torch.from_numpy(found) for name in TENSORS if (found := getattr(batch, name)) is not None}


def collate_rows(pad_id: int, *, across: bool = False) -> Callable[[Sequence[Sequence[Example]]], dict[str, Any]]:
    """Rows of examples -> what ``collate`` gives."""

    def make(rows: Sequence[Sequence[Example]]) -> dict[str, Any]:
        batch = batch_rows(rows, pad_id, across=across)
        out: dict[str, Any] = {**tensors_of(batch)}
        tokens = int((batch.document_ids >= 0).sum())
        out |= {"trained": int((batch.labels[:, 1:] != IGNORE_INDEX).sum()), "tokens": tokens, "computed": tokens}
        out["origins"] = [[str(o) for o in row] for row in batch.origins]
        return out

    return make


def mask_spare(batch: dict[str, Any], rows: Sequence[Any]) -> dict[str, Any]:
    """Nothing of a ``Spare`` row is trained, or counted as read."""
    for r, row in enumerate(rows):
        if isinstance(row, Spare):
            batch["labels"][r] = IGNORE_INDEX
            batch["origins"][r] = []
            batch |= {"trained": 0, "tokens": 0, "computed": 0}
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


# -- steps laid out as a whole ---------------------------------------------------------------------


def collate_forests(forests: Sequence[Forest], pad_id: int) -> dict[str, Any]:
    """Rows -> ``input_ids``, ``position_ids``, ``ends`` ``[B, T]`` (no ``ends`` where each row is one document), the entries of their loss with
    ``at`` into the flattened rows, and the numbers of tokens trained, represented and computed. No row at all is a micro-batch of nothing."""
    length = max((f.computed for f in forests), default=0)
    ids, positions = np.full((len(forests), length), pad_id, dtype=np.int64), np.zeros((len(forests), length), dtype=np.int64)
    ends = np.tile(np.arange(length), (len(forests), 1))
    for r, forest in enumerate(forests):
        size = forest.computed
        ids[r, :size], positions[r, :size], ends[r, :size] = forest.input_ids, forest.position_ids, forest.ends
    at = [f.at + r * length for r, f in enumerate(forests)]
    flat = {"at": at, "targets": [f.targets for f in forests], "weights": [f.weights for f in forests]}
    out: dict[str, Any] = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions)}
    if any((f.ends != f.computed).any() for f in forests):
        out["ends"] = torch.from_numpy(ends)
    out |= {name: torch.from_numpy(np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)) for name, parts in flat.items()}
    out |= {name: sum(getattr(f, name) for f in forests) for name in ("trained", "tokens", "computed")}
    return {**out, "origins": [list(f.origins) for f in forests]}


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a micro-batch: its step, from 0, and its turn in it, from 0."""

    step: int
    turn: int


@dataclass(frozen=True, slots=True)
class Slots:
    """Every slot of a run, one a batch, made as they are asked for: a long run has millions."""

    num_steps: int
    turns: int

    def __len__(self) -> int:
        return self.num_steps * self.turns

    def __iter__(self) -> Iterator[list[Slot]]:
        return ([Slot(step, turn)] for step in range(self.num_steps) for turn in range(self.turns))


class Steps(Dataset[dict[str, Any]]):
    """The micro-batches of one process, each step's examples laid out as a whole (``trees.lay_out``). Item ``Slot(s, k)`` is its k-th of step s, collated.

    A step has as many turns as the plan has micro-batches. Those that it does not need hold nothing and come first, so that an engine that brings gradients
    together in the last turn finds them there. While a step is trained, the next one is laid out on a thread.
    """

    def __init__(self, bins: Bins, order: Any, examples: ExampleSet, shape: StepShape, *, batch_size: int, pad_id: int, rank: int = 0) -> None:
        self.bins, self.order, self.examples, self.shape = bins, order, examples, shape
        self.batch_size, self.pad_id, self.rank = batch_size, pad_id, rank
        self.num_steps = math.ceil(len(order) / batch_size)
        self._made: dict[int, Future[list[dict[str, Any]]]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rows")

    def __len__(self) -> int:
        return self.num_steps * self.shape.turns

    def slots(self) -> Slots:
        """Of the whole run, in order: what a DataLoader takes for its batches."""
        return Slots(self.num_steps, self.shape.turns)

    def __getitem__(self, slot: Slot) -> dict[str, Any]:
        wanted = self._ask(slot.step)
        if slot.step + 1 < self.num_steps:
            self._ask(slot.step + 1)
        for done in [s for s in self._made if s not in (slot.step, slot.step + 1)]:
            self._made.pop(done)
        return wanted.result()[slot.turn]

    def _ask(self, step: int) -> Future[list[dict[str, Any]]]:
        if step not in self._made:
            self._made[step] = self._thread.submit(self.make, step)
        return self._made[step]

    def make(self, step: int) -> list[dict[str, Any]]:
        """The micro-batches of this process in one step."""
        rows = [self.bins[int(r)] for r in self.order[step * self.batch_size : (step + 1) * self.batch_size]]
        examples = {i: self.examples[i] for row in rows for i in row}
        groups = step_groups(rows, examples, self.shape)
        mine = groups[self.rank :: self.shape.processes]
        forests = [grow([examples[i] for i in members], shared) for members, shared in mine]
        some = next(iter(examples.values()))
        # Where another process has a row and this one has none, the engine waits for its pass all the same.
        forests = [f if f.computed else spare(some) for f in forests]
        per_turn = self.shape.rows
        batches = [collate_forests(forests[at : at + per_turn], self.pad_id) for at in range(0, len(forests), per_turn)]
        return [collate_forests([], self.pad_id) for _ in range(self.shape.turns - len(batches))] + batches


def spare(example: Example) -> Forest:
    """A row of which nothing is trained and nothing is counted."""
    none = np.zeros(0, dtype=np.int64)
    size = example.num_tokens
    return Forest(input_ids=example.input_ids.astype(np.int64), position_ids=np.arange(size), ends=np.full(size, size), at=none, targets=none, weights=none,
                  tokens=0, trained=0)
