"""Which of the examples an epoch holds, and which are held out: decided over the whole set, by numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.config import DataConfig
from gogpt.data.duplicates import exact_duplicates, leaks, near_duplicates, near_leaks
from gogpt.data.languages import CODES
from gogpt.data.ledger import Ledger
from gogpt.data.mix import hold_out, mix
from gogpt.data.pool import Done
from gogpt.data.store import ExampleSet, Ints
from gogpt.facts import NUM_FIRST, Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Numbers of the examples of an epoch (one may stand several times), and of those held out."""

    train: Ints
    eval: Ints
    overlap: Tally
    duplicates: Tally
    mix: tuple[dict[str, Any], ...]


class _Conversations:
    """The conversations of some examples: one example of each stands for it."""

    def __init__(self, everything: ExampleSet, numbers: Ints, examples: Ints) -> None:
        self._all, self._numbers = everything, numbers
        self.numbers, first = np.unique(numbers[examples], return_index=True)
        self.ones = examples[first]

    def place(self, i: int) -> str:
        return str(self._all.origin(int(self.ones[i])))

    def examples_of(self, chosen: Ints, examples: Ints) -> npt.NDArray[np.bool_]:
        """Which of ``examples`` belong to the conversations at ``chosen``."""
        return np.isin(self._numbers[examples], self.numbers[chosen])


class Selector:
    """Decides over a whole set. ``kept``: conversations of each block; what is dropped here goes to ``ledger``."""

    def __init__(self, everything: ExampleSet, done: Sequence[Done], kept: Sequence[int], config: DataConfig, seed: int, ledger: Ledger) -> None:
        self._all, self._done, self._kept = everything, done, kept
        self._config, self._seed, self._ledger = config, seed, ledger
        self._keys, self._numbers = everything.content_keys, everything.conversations
        self._source = np.repeat([d.source for d in done], [len(d.block) for d in done]).astype(np.int64)

    @cached_property
    def _signatures(self) -> tuple[Ints, Any]:
        """Numbers of conversations in ascending order, and the signature of each."""
        numbers = [np.unique(d.block.conversation) + base for d, base in zip(self._done, self._all.numbers, strict=True)]
        return np.concatenate(numbers), np.concatenate([d.signatures for d in self._done])

    def _signed(self, of: _Conversations) -> Any:
        numbers, signatures = self._signatures
        return signatures[np.searchsorted(numbers, of.numbers)]

    def select(self) -> Selection:
        """Duplicates, the held-out part, leaks and the mix, in that order. Raises GogptError DAT308, CFG243, CFG244."""
        config = self._config
        in_train = self._source < len(config.train)
        train, held = np.flatnonzero(in_train), np.flatnonzero(~in_train)
        train, duplicates = self._without_duplicates(train)
        held_before = self._count(held)
        if not isinstance(config.eval, tuple) and config.eval > 0 and train.size:
            places = self._all.rows[train] * np.int64(len(self._all.files)) + self._all.file_numbers[train]
            stays, goes = hold_out(places, self._keys[train], config.eval, self._seed)
            train, held = train[stays], train[goes]
            held_before = self._count(held)
        train = self._without_leaks(train, held)
        overlap = self._overlap(train, held)
        mixed = mix(config.mix, config.train, self._source[train], self._all.lengths[train], self._all.trained[train],
                    self._languages(train), self._seed)
        if isinstance(config.eval, tuple):
            held_before = sum(n for n, d in zip(self._kept, self._done, strict=True) if d.source >= len(config.train))
        whole = self._ledger.conversations
        self._ledger.kept = {"train": whole - held_before, "eval": held_before} if config.eval else {"train": whole}
        if mixed.index.size != train.size or (np.diff(mixed.index) != 1).any():
            self._ledger.note("examples of an epoch after weights", int(mixed.index.size))
        return Selection(train=train[mixed.index], eval=held, overlap=overlap, duplicates=duplicates, mix=tuple(asdict(row) for row in mixed.table))

    def _count(self, examples: Ints) -> int:
        return len(np.unique(self._numbers[examples]))

    def _languages(self, train: Ints) -> npt.NDArray[np.str_] | None:
        if not self._config.mix.languages:
            return None
        return np.asarray(CODES, dtype=np.str_)[self._all.languages[train]]

    # -- what is dropped ---------------------------------------------------------------------------

    def _without_duplicates(self, train: Ints) -> tuple[Ints, Tally]:
        """Training conversations that say what an earlier one says: counted, or dropped."""
        policy = self._config.clean.duplicates
        if policy == "keep":
            return train, Tally()
        some = _Conversations(self._all, self._numbers, train)
        twin = exact_duplicates(self._keys[some.ones])
        exact = np.flatnonzero(twin >= 0)
        tally = Tally(count=int(exact.size), first=tuple(f"{some.place(i)} = {some.place(int(twin[i]))}" for i in exact[:NUM_FIRST].tolist()))
        if policy in ("exact", "near"):
            train = self._drop("duplicate", some, exact, train, lambda i: f"says the same as {some.place(int(twin[i]))}")
        if policy == "near":
            left = _Conversations(self._all, self._numbers, train)
            alike = near_duplicates(self._signed(left), self._config.clean.similarity)
            train = self._drop("near_duplicate", left, np.flatnonzero(alike >= 0), train, lambda i: f"is like {left.place(int(alike[i]))}")
        return train, tally

    def _without_leaks(self, train: Ints, held: Ints) -> Ints:
        """Training conversations that the evaluation set holds too, dropped where that is asked for."""
        policy = self._config.clean.leakage
        if policy == "report" or not held.size:
            return train
        some, out = _Conversations(self._all, self._numbers, train), _Conversations(self._all, self._numbers, held)
        twin = leaks(self._keys[some.ones], self._keys[out.ones])
        train = self._drop("leak", some, np.flatnonzero(twin >= 0), train, lambda i: f"is in the evaluation set: {out.place(int(twin[i]))}")
        if policy == "near":
            left = _Conversations(self._all, self._numbers, train)
            alike = near_leaks(self._signed(left), self._signed(out), self._config.clean.similarity)
            train = self._drop("near_leak", left, np.flatnonzero(alike >= 0), train, lambda i: f"is like {out.place(int(alike[i]))} of the evaluation set")
        return train

    def _drop(self, reason: str, some: _Conversations, which: Ints, train: Ints, why: Callable[[int], str]) -> Ints:
        for i in which.tolist():
            self._ledger.lose(reason, self._all.origin(int(some.ones[i])), why(i))
        return train[~some.examples_of(which, train)] if which.size else train

    def _overlap(self, train: Ints, held: Ints) -> Tally:
        """Evaluation examples whose conversation the training set holds too."""
        both = held[np.isin(self._keys[held], self._keys[train])]
        places = []
        for i in both[:NUM_FIRST].tolist():
            twin = train[np.flatnonzero(self._keys[train] == self._keys[i])[0]]
            places.append(f"{self._all.origin(i)} = {self._all.origin(int(twin))}")
        return Tally(count=int(both.size), first=tuple(places))
