"""Examples that begin alike, as trees: every common prefix once, every trained token of every example in the loss.

In causal attention the state of a token depends on the tokens before it alone, so that examples with the same beginning have the same states
there. A row of such examples keeps one copy of each: examples are sorted by their ids, and each adds what it does not share with the one before.
What is left of an example follows its prefix at the same positions (depths in the tree), attends to its ancestors only, and
the loss is a list of (position, target, weight): one position may predict the first tokens of several branches, and examples that are
the same in everything weigh as often as they are there. The gradient is that of the examples apart. Compare Tree Training (arXiv 2511.00413).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gogpt.records import IGNORE_INDEX, Example

Ints = npt.NDArray[np.int64]

LEAST_SHARED = 16
"""Tokens. A shorter common prefix, or a longer one by less than this, is computed again: each branch costs a call of attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forest:
    """Examples in one row of T tokens.

    ``input_ids``, ``position_ids``: ``[T]``, in depth-first order. ``ends``: ``[T]``, token t is seen by the tokens of ``[t, ends[t])`` alone, so
    that i attends to j where ``j <= i < ends[j]``. The loss is the sum over E entries: position ``at`` (of the T) predicts ``targets`` with
    ``weights`` (how many examples say so). ``tokens``, ``trained``: of the examples; T is what is computed.
    """

    input_ids: Ints
    position_ids: Ints
    ends: Ints
    at: Ints
    targets: Ints
    weights: Ints
    tokens: int
    trained: int
    origins: tuple[str, ...] = ()

    @property
    def computed(self) -> int:
        return self.input_ids.size


def common_prefix(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> int:
    """Tokens with which both begin."""
    size = min(a.size, b.size)
    differ = np.flatnonzero(a[:size] != b[:size])
    return int(differ[0]) if differ.size else size


def sort_examples(ids: Sequence[npt.NDArray[np.int32]]) -> tuple[list[int], Ints]:
    """The order of the examples by their ids, and of each in that order how many tokens it shares with the one before it (the first: 0)."""
    # Big-endian bytes compare as the ids do (ids are not negative); the sort is stable, so that the layout of a step is a function of its examples.
    keys = [x.astype(">u4").tobytes() for x in ids]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    shared = [0, *(common_prefix(ids[a], ids[b]) for a, b in itertools.pairwise(order))]
    return order, np.asarray(shared[: len(order)], dtype=np.int64)


def worth_sharing(shared: Ints, least: int = LEAST_SHARED) -> Ints:
    """``shared`` with every branch that would save less than ``least`` tokens moved up to the one above it (0: a tree of its own).

    A stretch of examples that all share m tokens branches at m; what shares fewer than ``least`` more with its neighbour branches there too.
    """
    out = np.zeros_like(shared)
    stretches = [(1, shared.size, 0)]  # borders [begin, end) of `shared` whose examples all share `above` tokens
    while stretches:
        begin, end, above = stretches.pop()
        if begin >= end:
            continue
        cuts = begin + np.flatnonzero(shared[begin:end] < above + least)
        if not cuts.size:
            above = int(shared[begin:end].min())
            stretches.append((begin, end, above))
            continue
        out[cuts] = above
        stretches += [(a + 1, b, above) for a, b in zip([begin - 1, *cuts.tolist()], [*cuts.tolist(), end], strict=True)]
    return out


def plant(examples: Sequence[Example], *, least: int | None = LEAST_SHARED) -> Forest:
    """One row of these examples. ``least``: see LEAST_SHARED; None shares nothing, one tree an example in the order given."""
    order, shared = in_order(range(len(examples)), dict(enumerate(examples)), least)
    return grow([examples[i] for i in order], shared)


def grow(examples: Sequence[Example], shared: Ints) -> Forest:
    """The row of examples that are in depth-first order; ``shared[k]``: tokens of example k that are those of example k - 1."""
    sizes = np.asarray([e.num_tokens for e in examples], dtype=np.int64)
    fresh = sizes - shared
    starts = np.concatenate([[0], np.cumsum(fresh)]).astype(np.int64)
    total = int(starts[-1])
    input_ids, position_ids, ends = (np.empty(total, dtype=np.int64) for _ in range(3))
    path = np.empty(int(sizes.max(initial=0)), dtype=np.int64)  # where in the row the tokens of the current example lie
    before = 0
    at, targets = [], []
    for k, example in enumerate(examples):
        depth, size, start = int(shared[k]), int(sizes[k]), int(starts[k])
        ends[path[depth:before]] = start  # what branched off above is over
        path[depth:size] = np.arange(start, start + size - depth)
        input_ids[start : start + size - depth] = example.input_ids[depth:]
        position_ids[start : start + size - depth] = np.arange(depth, size)
        before = size
        trained = np.flatnonzero(example.labels[1:] != IGNORE_INDEX)
        at.append(path[trained])
        targets.append(example.labels[1:][trained].astype(np.int64))
    ends[path[:before]] = total
    flat_at, flat_targets = (np.concatenate(x) if x else np.zeros(0, dtype=np.int64) for x in (at, targets))
    pairs, weights = np.unique(np.stack([flat_at, flat_targets], axis=1), axis=0, return_counts=True) if flat_at.size else (np.zeros((0, 2), np.int64), np.zeros(0, np.int64))
    return Forest(input_ids=input_ids, position_ids=position_ids, ends=ends, at=pairs[:, 0], targets=pairs[:, 1], weights=weights.astype(np.int64),
                  tokens=int(sizes.sum()), trained=flat_at.size, origins=tuple(str(e.origin) for e in examples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """An optimizer step's examples, in depth-first order, cut into stretches: micro-batch m of the step is ``order[cuts[m] : cuts[m + 1]]``.

    ``shared``: of each example in that order the tokens it has from the one before it; the first of a stretch has none.
    """

    order: list[int]
    shared: Ints
    cuts: list[int]
    computed: int

    def __len__(self) -> int:
        return len(self.cuts) - 1

    def members(self, m: int) -> tuple[list[int], Ints]:
        """The examples of micro-batch m, and what each shares."""
        begin, end = self.cuts[m], self.cuts[m + 1]
        shared = self.shared[begin:end].copy()
        shared[:1] = 0
        return self.order[begin:end], shared


def lay_out(ids: Sequence[npt.NDArray[np.int32]], *, capacity: int, most: int, unit: int = 1, quadratic: float = float("inf"),
            least: int | None = LEAST_SHARED, spread: bool = False) -> Layout | None:
    """A step's examples over as few micro-batches as hold them, at most ``most`` (both a multiple of ``unit``, the processes), each of at most
    ``capacity`` computed tokens and all of as equal work as can be; None where they do not fit.

    Work of a token is 1 and its share of attention: the tokens that it sees over ``quadratic`` (at which attention costs as much as
    all the rest). ``least``: as for ``plant``. Of fewer micro-batches each can share more. ``spread``: over all ``most`` of them.
    """
    sizes = np.asarray([x.size for x in ids], dtype=np.int64)
    if least is None:
        order, shared = list(range(len(ids))), np.zeros(len(ids), dtype=np.int64)
    else:
        order, raw = sort_examples(ids)
        shared = worth_sharing(raw, least)
        ordered = sizes[order]
        same = np.zeros(len(order), dtype=bool)
        same[1:] = (raw[1:] == ordered[1:]) & (ordered[1:] == ordered[:-1]) & (raw[1:] > 0)
        shared = np.where(same, raw, shared)
    lengths = sizes[order]
    # What a stretch [a, b) costs: its first example whole, of the others what is fresh.
    tokens = np.stack([lengths, lengths - shared])
    work = tokens + np.stack([lengths**2 / 2, (lengths**2 - shared**2) / 2]) / quadratic
    running = np.concatenate([np.zeros((2, 1)), np.cumsum(np.stack([tokens[1], work[1]]), axis=1)], axis=1)

    def cut(limit: float) -> list[int] | None:
        """Greedy stretches of at most ``limit`` work; None where an example alone is too much."""
        cuts = [0]
        while (a := cuts[-1]) < len(order):
            if tokens[0, a] > capacity or work[0, a] > limit:
                return None
            room = np.minimum(np.searchsorted(running[0], running[0, a + 1] + capacity - tokens[0, a], side="right"),
                              np.searchsorted(running[1], running[1, a + 1] + (limit - work[0, a]) * (1 + 1e-12), side="right"))
            cuts.append(int(room) - 1)
        return cuts

    least_cuts = cut(float("inf"))
    if least_cuts is None:
        return None
    num = -(-max(1, len(least_cuts) - 1) // unit) * unit
    if num > most:
        return None
    num = most if spread else num
    low, high = float(work[0].max(initial=0.0)), float(running[1, -1] + work[0].max(initial=0.0))
    for _ in range(40):
        middle = (low + high) / 2
        found = cut(middle)
        low, high = (low, middle) if found is not None and len(found) - 1 <= num else (middle, high)
        if high - low <= 1e-3 * high:
            break
    cuts = cut(high) or least_cuts
    cuts += [cuts[-1]] * (num + 1 - len(cuts))
    firsts = [a for a, b in itertools.pairwise(cuts) if a < b]
    computed = int(tokens[1].sum() + sum(int(shared[a]) for a in firsts))
    return Layout(order=order, shared=shared, cuts=cuts, computed=computed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """What holds a step: ``turns`` micro-batches in each of ``processes``, each of ``rows`` rows of at most ``capacity`` computed tokens.

    ``least`` and ``quadratic``: as for ``lay_out``. ``spread``: every turn has rows (of an engine that counts its passes).
    """

    turns: int
    rows: int
    capacity: int
    processes: int = 1
    least: int | None = LEAST_SHARED
    quadratic: float = float("inf")
    spread: bool = False


def step_groups(rows: Sequence[Sequence[int]], examples: Mapping[int, Example], shape: StepShape) -> list[tuple[list[int], Ints]]:
    """The rows of a step as they are computed: of each its examples in depth-first order, and the tokens that each has from the one before.

    ``rows``: the plan's, packed without sharing; where the layout of the whole step needs more room than there is, they stay as they are, each
    a tree of its own. As many as a multiple of the processes, which take them in turn; what is left over is empty.
    """
    flat = [i for row in rows for i in row]
    most = shape.turns * shape.rows * shape.processes
    found = lay_out([examples[i].input_ids for i in flat], capacity=shape.capacity, most=most, unit=shape.processes, quadratic=shape.quadratic,
                    least=shape.least, spread=shape.spread)
    if found is not None:
        groups = [(([flat[i] for i in members]), shared) for members, shared in map(found.members, range(len(found)))]
    else:
        sizes = [sum(examples[i].num_tokens for i in row) for row in rows]
        together: list[list[int]] = []
        room = 0
        for row, size in zip(rows, sizes, strict=True):
            if not together or size > room:
                together.append([])
                room = shape.capacity
            together[-1] += row
            room -= size
        groups = [in_order(members, examples, shape.least) for members in together]
    missing = -len(groups) % shape.processes if not shape.spread else most - len(groups)
    return groups + [([], np.zeros(0, dtype=np.int64))] * missing


def in_order(members: Sequence[int], examples: Mapping[int, Example], least: int | None) -> tuple[list[int], Ints]:
    """One row's examples in depth-first order, and what each shares."""
    found = lay_out([examples[i].input_ids for i in members], capacity=sum(examples[i].num_tokens for i in members), most=1, least=least)
    assert found is not None
    order, shared = found.members(0)
    return [members[i] for i in order], shared
