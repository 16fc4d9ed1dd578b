"""ExampleSet: many examples in three flat arrays, so that a million of them cost no million objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gogpt.records import IGNORE_INDEX, Example, Origin, TokenArray


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """``input_ids`` and ``labels`` are int32 ``[all tokens]``; example i is ``offsets[i]:offsets[i+1]``.

    ``content_keys`` (int64 ``[N]``) are equal for examples of conversations with the same messages;
    ``conversations`` (int64 ``[N]``) number the conversation that each was made of, in the order of reading.
    """

    input_ids: TokenArray
    labels: TokenArray
    offsets: npt.NDArray[np.int64]
    origins: tuple[Origin, ...]
    content_keys: npt.NDArray[np.int64]
    conversations: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, i: int) -> Example:
        at, end = int(self.offsets[i]), int(self.offsets[i + 1])
        return Example(input_ids=self.input_ids[at:end], labels=self.labels[at:end], origin=self.origins[i])

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def num_tokens(self) -> int:
        return int(self.input_ids.size)

    @property
    def num_trained(self) -> int:
        return int(np.count_nonzero(self.labels != IGNORE_INDEX))

    def select(self, indices: npt.NDArray[np.int64]) -> ExampleSet:
        """The examples at ``indices``, in that order; an index may stand several times."""
        builder = ExampleSetBuilder()
        for i in indices:
            example = self[int(i)]
            builder.add(example, int(self.content_keys[int(i)]), int(self.conversations[int(i)]))
        return builder.build()


@dataclass(slots=True)
class ExampleSetBuilder:
    ids: list[TokenArray] = field(default_factory=list)
    labels: list[TokenArray] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def add(self, example: Example, key: int, number: int) -> None:
        self.ids.append(example.input_ids)
        self.labels.append(example.labels)
        self.origins.append(example.origin)
        self.keys.append(key)
        self.numbers.append(number)

    def build(self) -> ExampleSet:
        sizes = [a.size for a in self.ids]
        empty = np.zeros(0, dtype=np.int32)
        return ExampleSet(
            input_ids=np.concatenate(self.ids) if self.ids else empty,
            labels=np.concatenate(self.labels) if self.labels else empty,
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            origins=tuple(self.origins),
            content_keys=np.asarray(self.keys, dtype=np.int64),
            conversations=np.asarray(self.numbers, dtype=np.int64),
        )
