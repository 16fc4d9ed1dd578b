"""Weights and the held-out split: which examples an epoch holds, deterministic by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gogpt.data.store import ExampleSet


def weigh(weights: Sequence[float], seed: int) -> npt.NDArray[np.int64]:
    """Indices of an epoch: example i appears ``weights[i]`` times; a fraction is drawn without replacement
    among the examples of the same weight."""
    values = np.asarray(weights, dtype=np.float64)
    whole = np.floor(values).astype(np.int64)
    rng = np.random.default_rng([seed, 0x6D6978])
    for weight in np.unique(values):
        fraction = weight - np.floor(weight)
        members = np.flatnonzero(values == weight)
        extra = round(fraction * len(members))
        if extra:
            whole[rng.choice(members, size=extra, replace=False)] += 1
    return np.repeat(np.arange(len(values)), whole)


def _groups(examples: ExampleSet) -> npt.NDArray[np.int64]:
    """Number of the group of each example: joined are those of one row, and those with the same messages."""
    leader: dict[object, object] = {}

    def find(node: object) -> object:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for origin, key in zip(examples.origins, examples.content_keys, strict=True):
        leader[find(origin)] = find(int(key))
    smallest: dict[object, int] = {}
    for origin, key in zip(examples.origins, examples.content_keys, strict=True):
        group = find(origin)
        smallest[group] = min(smallest.get(group, int(key)), int(key))
    return np.unique([smallest[find(origin)] for origin in examples.origins], return_inverse=True)[1]


def hold_out(examples: ExampleSet, fraction: float, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Indices of the training and of the held-out examples.

    Examples of one row, and rows with the same messages, stay on one side: equal text on both sides would
    make the evaluation measure memory. At least one group is held out, and at least one stays.
    """
    group = _groups(examples)
    order = np.random.default_rng([seed, 0x6576616C]).permutation(int(group.max()) + 1)
    sizes = np.bincount(group)
    wanted = fraction * len(examples)
    held: list[int] = []
    total = 0
    for g in order[:-1]:
        if held and total + sizes[g] / 2 > wanted:
            break
        held.append(int(g))
        total += int(sizes[g])
    mask = np.isin(group, held)
    return np.flatnonzero(~mask), np.flatnonzero(mask)
