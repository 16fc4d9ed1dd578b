"""ExampleSet: many examples in flat arrays, in memory or memory-mapped, so that a million of them cost no million objects.

A block is the examples of a stretch of one source, in order. On disk it is one Arrow stream (``datasets.Dataset.from_file``
opens it too), read without a copy.
"""

from __future__ import annotations

import bisect
import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.records import IGNORE_INDEX, Example, Origin, TokenArray

Ints = npt.NDArray[np.int64]

NO_LANGUAGE = -1
"""Language of an example where none was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """N examples. Example i is ``input_ids[offsets[i]:offsets[i+1]]``; of it are trained the stretches
    ``[start, end)`` that ``spans[span_offsets[i]:span_offsets[i+1]]`` lists as start, end, start, end.

    ``file`` and ``row`` (from 1) say where each came from; ``key`` is equal for conversations of equal messages;
    ``conversation`` numbers the block's conversations in the order of reading, and several examples can be of one.
    """

    input_ids: TokenArray
    offsets: Ints
    spans: npt.NDArray[np.int32]
    span_offsets: Ints
    file: npt.NDArray[np.int32]
    row: Ints
    key: Ints
    conversation: Ints
    language: npt.NDArray[np.int16]
    counted: Ints | None = None
    """trained tokens of each example, where they were counted already"""

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def trained(self) -> Ints:
        """Trained tokens of each example, ``[N]``."""
        if self.counted is not None:
            return self.counted
        sizes = np.concatenate([[0], np.cumsum(self.spans[1::2] - self.spans[0::2], dtype=np.int64)])
        return np.asarray(sizes[self.span_offsets[1:] // 2] - sizes[self.span_offsets[:-1] // 2])

    def example(self, i: int, path: str) -> Example:
        ids = self.input_ids[self.offsets[i] : self.offsets[i + 1]]
        labels = np.full(ids.size, IGNORE_INDEX, dtype=np.int32)
        spans = self.spans[self.span_offsets[i] : self.span_offsets[i + 1]].tolist()
        for start, end in zip(spans[0::2], spans[1::2], strict=True):
            labels[start:end] = ids[start:end]
        return Example(input_ids=ids, labels=labels, origin=Origin(path=path, row=int(self.row[i])))

    def take(self, order: Ints) -> Block:
        """The examples at ``order``, in that order."""
        flat, offsets = _take_lists(self.input_ids, self.offsets, order)
        spans, span_offsets = _take_lists(self.spans, self.span_offsets, order)
        return Block(input_ids=flat, offsets=offsets, spans=spans, span_offsets=span_offsets, file=self.file[order], row=self.row[order],
                     key=self.key[order], conversation=self.conversation[order], language=self.language[order])

    def digest(self) -> str:
        """SHA-256 over ids and trained spans."""
        out = hashlib.sha256()
        for numbers in (self.input_ids, self.spans):
            out.update(np.ascontiguousarray(numbers, dtype=np.int32).data)
        for ends in (self.offsets, self.span_offsets):
            out.update(np.ascontiguousarray(ends, dtype=np.int64).data)
        return out.hexdigest()


def _take_lists(flat: npt.NDArray[np.int32], offsets: Ints, order: Ints) -> tuple[npt.NDArray[np.int32], Ints]:
    starts, sizes = offsets[:-1][order], np.diff(offsets)[order]
    after = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    places = np.arange(int(after[-1])) + np.repeat(starts - after[:-1], sizes)
    return flat[places], after


def join(blocks: Sequence[Block]) -> Block:
    """Blocks of one stretch as one, in order."""
    if len(blocks) == 1:
        return blocks[0]

    def lists(name: str) -> Ints:
        ends = [getattr(b, name) for b in blocks]
        bases = np.concatenate([[0], np.cumsum([e[-1] for e in ends])])
        return np.concatenate([[0], *(e[1:] + base for e, base in zip(ends, bases[:-1], strict=True))]).astype(np.int64)

    flat = {f.name: np.concatenate([getattr(b, f.name) for b in blocks]) for f in fields(Block) if not f.name.endswith("offsets") and f.name != "counted"}
    return Block(offsets=lists("offsets"), span_offsets=lists("span_offsets"), **flat)


def spans_of(labels: TokenArray) -> list[int]:
    """Start and end of every trained stretch of ``labels``, one after another."""
    marks = np.concatenate([[False], labels != IGNORE_INDEX, [False]])
    return [int(i) for i in np.flatnonzero(marks[1:] != marks[:-1])]


@dataclass(slots=True)
class BlockBuilder:
    """A block in the making, example by example."""

    ids: list[TokenArray] = field(default_factory=list)
    spans: list[list[int]] = field(default_factory=list)
    places: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def add(self, example: Example, key: int, number: int, *, file: int = 0, language: int = NO_LANGUAGE) -> None:
        """``number``: of the conversation; ``file``: of its path, among the files of the set."""
        self.ids.append(example.input_ids)
        self.spans.append(spans_of(example.labels))
        self.places.append((file, example.origin.row, key, number, language))

    def build(self) -> Block:
        def ends(parts: Sequence[Sequence[int] | TokenArray]) -> Ints:
            return np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)

        table = np.asarray(self.places, dtype=np.int64).reshape(-1, 5)
        return Block(
            input_ids=np.concatenate(self.ids) if self.ids else np.zeros(0, dtype=np.int32), offsets=ends(self.ids),
            spans=np.asarray([x for s in self.spans for x in s], dtype=np.int32), span_offsets=ends(self.spans),
            file=table[:, 0].astype(np.int32), row=table[:, 1], key=table[:, 2], conversation=table[:, 3],
            language=table[:, 4].astype(np.int16))


class ExampleSet:
    """Examples of several blocks, all of them or those that ``index`` lists (one may stand several times).

    ``files``: the path of each file number. ``numbers``: conversations of the blocks before each, so that conversations
    are numbered through. ``cuts`` (``[N, 2]``): of each example only the tokens ``[start, end)``.
    """

    def __init__(self, blocks: Sequence[Block], files: Sequence[str], *, numbers: Sequence[int] | None = None,
                 index: Ints | None = None, cuts: Ints | None = None) -> None:
        self.blocks, self.files = tuple(blocks), tuple(files)
        self._starts = [0, *np.cumsum([len(b) for b in self.blocks]).tolist()]
        self.numbers = tuple(numbers) if numbers is not None else tuple(0 for _ in self.blocks)
        self.index = np.arange(self._starts[-1]) if index is None else index
        self.cuts = cuts

    def __len__(self) -> int:
        return int(self.index.size)

    def __getitem__(self, i: int) -> Example:
        place = int(self.index[i])
        number = bisect.bisect_right(self._starts, place) - 1
        block, local = self.blocks[number], place - self._starts[number]
        example = block.example(local, self.files[int(block.file[local])])
        if self.cuts is None:
            return example
        start, end = (int(x) for x in self.cuts[i])
        labels = example.labels[start:end].copy()
        labels[:1] = IGNORE_INDEX  # nothing in this piece predicts its first token
        return Example(input_ids=example.input_ids[start:end], labels=labels, origin=example.origin)

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def _column(self, name: str) -> Ints:
        parts = [getattr(b, name) for b in self.blocks]
        whole = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return np.asarray(whole if self._is_whole else whole[self.index])

    @cached_property
    def _is_whole(self) -> bool:
        return bool(self.index.size == self._starts[-1] and (np.diff(self.index) == 1).all() and (not self.index.size or self.index[0] == 0))

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each example, ``[N]``."""
        if self.cuts is not None:
            return np.asarray(self.cuts[:, 1] - self.cuts[:, 0])
        parts = [np.diff(b.offsets) for b in self.blocks]
        whole = np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)
        return np.asarray(whole[self.index])

    @cached_property
    def trained(self) -> Ints:
        """Trained tokens of each example, ``[N]``."""
        if self.cuts is not None:
            return np.asarray([e.num_trained for e in self], dtype=np.int64) if not self._one_span else self._trained_pieces()
        parts = [b.trained for b in self.blocks]
        return np.asarray((np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64))[self.index])

    @cached_property
    def _one_span(self) -> bool:
        """Every example is trained in one stretch (documents)."""
        return all((np.diff(b.span_offsets) == 2).all() for b in self.blocks)

    def _trained_pieces(self) -> Ints:
        """The same from the stretch of each example: what of it lies in the piece, but for the piece's first token."""
        assert self.cuts is not None
        starts = np.concatenate([b.spans[0::2] for b in self.blocks])[self.index]
        ends = np.concatenate([b.spans[1::2] for b in self.blocks])[self.index]
        return np.asarray(np.maximum(0, np.minimum(ends, self.cuts[:, 1]) - np.maximum(starts, self.cuts[:, 0] + 1)).astype(np.int64))

    @property
    def content_keys(self) -> Ints:
        """Equal for examples of conversations with the same messages, ``[N]``."""
        return self._column("key")

    @property
    def languages(self) -> Ints:
        return self._column("language")

    @property
    def file_numbers(self) -> Ints:
        return self._column("file")

    @property
    def rows(self) -> Ints:
        """Row of each example in its file, from 1, ``[N]``."""
        return self._column("row")

    @property
    def conversations(self) -> Ints:
        """Number of the conversation that each example was made of, in the order of reading, ``[N]``."""
        parts = [b.conversation + base for b, base in zip(self.blocks, self.numbers, strict=True)]
        whole = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return np.asarray(whole[self.index])

    def origin(self, i: int) -> Origin:
        return self[i].origin

    @property
    def num_tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def num_trained(self) -> int:
        return int(self.trained.sum())

    def select(self, indices: Ints) -> ExampleSet:
        """The examples at ``indices``, in that order; an index may stand several times. Nothing is copied."""
        return ExampleSet(self.blocks, self.files, numbers=self.numbers, index=self.index[indices],
                          cuts=None if self.cuts is None else self.cuts[indices])

    def cut(self, documents: Ints, cuts: Ints) -> ExampleSet:
        """Pieces: of the examples at ``documents`` (``[M]``) the tokens ``cuts`` (``[M, 2]``)."""
        return ExampleSet(self.blocks, self.files, numbers=self.numbers, index=self.index[documents], cuts=cuts)

    def digest(self) -> str:
        """SHA-256 over what trains and in which order it is numbered."""
        out = hashlib.sha256()
        for block in self.blocks:
            out.update(block.digest().encode())
        out.update(np.ascontiguousarray(self.index, dtype=np.int64).data)
        if self.cuts is not None:
            out.update(np.ascontiguousarray(self.cuts, dtype=np.int64).data)
        return out.hexdigest()


# -- on disk ---------------------------------------------------------------------------------------

_LISTS = {"input_ids": "offsets", "trained": "span_offsets"}
_FLAT = {"input_ids": "input_ids", "trained": "spans"}
_PLAIN = ("file", "row", "key", "conversation", "language")


def block_bytes(block: Block) -> Any:
    """A block's file, as a buffer of bytes: one Arrow stream of one batch: ``input_ids`` and ``trained`` as lists, the rest as plain columns. Same block, same bytes."""
    import pyarrow as pa

    def plain(array: npt.NDArray[Any]) -> Any:
        # Not pa.array(): that imports pandas (0.3 s) to see whether it is given one of its columns.
        array = np.ascontiguousarray(array)
        return pa.Array.from_buffers(pa.from_numpy_dtype(array.dtype), array.size, [None, pa.py_buffer(array)])

    columns = {name: pa.ListArray.from_arrays(plain(getattr(block, ends).astype(np.int32)), plain(getattr(block, _FLAT[name]).astype(np.int32, copy=False)))
               for name, ends in _LISTS.items()}
    columns |= {name: plain(getattr(block, name)) for name in _PLAIN}
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, batch.schema) as writer:
        writer.write_batch(batch)
    return out.getvalue()


def read_block(path: Path) -> Block:
    """A block as it lies on the disk: ids and spans memory-mapped, the columns of the examples in memory (about 50 bytes each).

    Raises OSError or pyarrow's error for a damaged file.
    """
    import pyarrow as pa

    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    batch = pa.ipc.open_stream(pa.py_buffer(mapped)).read_next_batch()

    def plain(column: Any) -> npt.NDArray[Any]:
        # Not to_numpy(): that imports pandas (0.3 s) to see whether it is asked for one of its columns.
        kind = np.dtype(column.type.to_pandas_dtype())
        buffer = column.buffers()[1]
        return np.frombuffer(buffer, dtype=kind, count=len(column), offset=column.offset * kind.itemsize) if len(column) else np.zeros(0, dtype=kind)

    values: dict[str, Any] = {name: plain(batch.column(name)).copy() for name in _PLAIN}
    for name, ends in _LISTS.items():
        column = batch.column(name)
        values[ends] = plain(column.offsets).astype(np.int64)
        values[_FLAT[name]] = plain(column.values)
    counted = Block(**values).trained
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)  # what was read is in memory now; a thousand blocks would keep a page of each column
    return Block(**values, counted=counted)
