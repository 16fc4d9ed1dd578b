"""Which of the examples an epoch holds, and which are held out: decided over the whole set, by numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.config import DataConfig
from gogpt.data.ledger import Ledger
from gogpt.data.mix import hold_out, weigh
from gogpt.data.pool import Done
from gogpt.data.store import ExampleSet, Ints
from gogpt.errors import GogptError
from gogpt.facts import NUM_FIRST, Tally

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Numbers of the examples of an epoch (one may stand several times), and of those held out."""

    train: Ints
    eval: Ints
    overlap: Tally
    duplicates: Tally
    mix: tuple[dict[str, Any], ...]


def select(everything: ExampleSet, done: Sequence[Done], kept: Sequence[int], config: DataConfig, seed: int, ledger: Ledger) -> Selection:
    """Duplicates, the held-out part, leaks and the mix, in that order. ``kept``: conversations of each block.

    Raises GogptError DAT308 where nothing is left.
    """
    source = np.repeat([d.source for d in done], [len(d.block) for d in done]).astype(np.int32)
    in_train = source < len(config.train)
    keys, numbers = everything.content_keys, everything.conversations
    left = np.ones(len(everything), dtype=bool)
    duplicates = _duplicates(everything, keys, numbers, in_train, config, ledger, left)
    train = np.flatnonzero(in_train & left)
    held = np.flatnonzero(~in_train & left)
    if not isinstance(config.eval, tuple) and config.eval > 0 and train.size:
        places = everything.rows[train] * np.int64(len(everything.files)) + everything.file_numbers[train]
        stays, goes = hold_out(places, keys[train], config.eval, seed)
        train, held = train[stays], train[goes]
    overlap = _overlap(everything, keys, train, held)
    conversations = sum(n for n, d in zip(kept, done, strict=True) if d.source >= len(config.train)) if isinstance(config.eval, tuple) else \
        len(np.unique(numbers[held]))
    ledger.kept = {"train": ledger.conversations - conversations, "eval": conversations} if config.eval else {"train": ledger.conversations}
    weights = [config.train[s].weight for s in source[train].tolist()]
    if any(w != 1.0 for w in weights):
        picked = weigh(weights, seed)
        if not picked.size:
            raise GogptError("DAT308", "no training example is left", where="recipe: data.train", got=f"{train.size} examples, of which the weights take none",
                             expected="a weight of at least 1 / the number of the source's examples",
                             fix="raise the weight in data.train, or leave it out")
        train = train[picked]
        ledger.note("examples of an epoch after weights", int(train.size))
    return Selection(train=train, eval=held, overlap=overlap, duplicates=duplicates, mix=())


def _duplicates(everything: ExampleSet, keys: Ints, numbers: Ints, in_train: Mask, config: DataConfig, ledger: Ledger, left: Mask) -> Tally:
    """Training conversations that say what an earlier one says: counted, or taken out of ``left`` and the ledger."""
    train = np.flatnonzero(in_train)
    of, first = np.unique(numbers[train], return_index=True)
    one = train[first]  # one example of each conversation
    _, earliest, inverse = np.unique(keys[one], return_index=True, return_inverse=True)
    again = np.flatnonzero(earliest[inverse] != np.arange(one.size))
    places = [f"{everything.origin(int(one[i]))} = {everything.origin(int(one[earliest[inverse[i]]]))}" for i in again[:NUM_FIRST].tolist()]
    if config.clean.duplicates in ("exact", "near"):
        for i in again.tolist():
            ledger.lose("duplicate", everything.origin(int(one[i])), f"says the same as {everything.origin(int(one[earliest[inverse[i]]]))}")
        left &= ~(in_train & np.isin(numbers, of[again]))
    return Tally(count=int(again.size), first=tuple(places))


def _overlap(everything: ExampleSet, keys: Ints, train: Ints, held: Ints) -> Tally:
    """Evaluation examples whose conversation the training set holds too."""
    both = held[np.isin(keys[held], keys[train])]
    places = []
    for i in both[:NUM_FIRST].tolist():
        twin = train[np.flatnonzero(keys[train] == keys[i])[0]]
        places.append(f"{everything.origin(i)} = {everything.origin(int(twin))}")
    return Tally(count=int(both.size), first=tuple(places))
