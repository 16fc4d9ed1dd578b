"""Which process takes which rows of a step."""

from __future__ import annotations

import math
from collections.abc import Iterator


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
