"""Rows as flat arrays: the same rows as best-fit placed one example at a time gives, in a few bytes each."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gogpt.packing import Bins, cut_documents, one_per_row, pack


def placed_one_by_one(lengths: Sequence[int], capacity: int) -> tuple[tuple[int, ...], ...]:
    """Best-fit decreasing as it is defined: each example in turn goes to the fullest row with room, the last such row of several."""
    sizes = np.asarray(lengths, dtype=np.int64)
    bins: list[list[int]] = []
    free: dict[int, list[int]] = {}
    rooms: list[int] = []
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


@settings(deadline=None, max_examples=400)
@given(st.integers(1, 90).flatmap(lambda top: st.tuples(st.lists(st.integers(0, top), max_size=300), st.integers(top, 150))))
def test_rows_are_those_of_one_by_one(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    assert pack(lengths, capacity) == placed_one_by_one(lengths, capacity)


def test_rows_of_a_real_spread() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.5, 0.9, 20_000).astype(int), 4, 4096).tolist()
    assert pack(lengths, 4096) == placed_one_by_one(lengths, 4096)


def test_a_length_above_the_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="21 tokens does not fit rows of 20"):
        pack([3, 21], 20)


rows_of = st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=20)


def bins_of(rows: list[list[int]]) -> Bins:
    return Bins(np.asarray([i for row in rows for i in row], dtype=np.int64), np.cumsum([0, *map(len, rows)]))


@given(rows_of, st.data())
def test_bins_read_as_tuples_do(rows: list[list[int]], data: st.DataObject) -> None:
    bins, plain = bins_of(rows), [tuple(row) for row in rows]
    assert list(bins) == plain == [bins[i] for i in range(len(bins))]
    assert (len(bins), bool(bins), bins.num_examples) == (len(plain), bool(plain), sum(map(len, plain)))
    assert bins == plain
    assert bins != [*plain, (1,)]
    cut = slice(data.draw(st.integers(-25, 25)), data.draw(st.integers(-25, 25)), data.draw(st.sampled_from([1, 2, -1])))
    assert list(bins[cut]) == plain[cut]
    for at in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            bins[at]
    if plain:
        assert bins[-1] == plain[-1]
        order = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=30))
        assert list(bins.select(np.asarray(order, dtype=np.int64))) == [plain[i] for i in order]
    values = np.arange(51) ** 2
    assert bins.sums(values).tolist() == [sum(i * i for i in row) for row in plain]


@given(rows_of, rows_of)
def test_bytes_tell_rows_apart(one: list[list[int]], other: list[list[int]]) -> None:
    assert (bins_of(one).tobytes() == bins_of(other).tobytes()) == (one == other)


def test_a_row_costs_bytes() -> None:
    lengths = np.random.default_rng(1).integers(1, 1000, 5000)
    bins = pack(lengths, 2048)
    assert bins.indices.nbytes + bins.offsets.nbytes <= 16 * lengths.size + 8
    assert one_per_row(3) == [(0,), (1,), (2,)]
    assert list(one_per_row(0)) == list(cut_documents(np.zeros(0, dtype=np.int64), 8)[2]) == list(pack([], 8)) == []
