"""Sources -> stretches: which rows make a block, decided by the files alone, never by how many processes work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xxhash

from gogpt.config import SourceConfig
from gogpt.data.read import schema_of
from gogpt.data.schemas import NUM_SAMPLE
from gogpt.data.schemas.schema import Schema
from gogpt.data.sources import (
    HubSource,
    display_path,
    find_files,
    hub_revision,
    is_hub_id,
    is_lines,
    read_hub,
    read_rows,
    unreadable_file,
)
from gogpt.data.sources import Row as SourceRow
from gogpt.data.work import Stretch

SMALLEST, LARGEST = 1 << 20, 64 << 20
"""Bytes of a stretch; between them a set has about ``NUM_BLOCKS``."""
NUM_BLOCKS = 2048
NUM_ROWS = 1024
"""Rows of a stretch whose rows are read before (arrays, tables, compressed files, the hub)."""
BUFFER = 8 << 20
NUM_PARTS, PART = 256, 1 << 18
"""Of a digest that does not read the whole file: parts, and bytes of each."""
PACKED = 4
"""How much larger a compressed file is taken to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file or a hub data set of a source. ``digest`` changes with its content; None where that cannot be known."""

    source: int
    shown: str
    path: Path | None
    digest: str | None
    size: int


@dataclass(slots=True)
class Inputs:
    """All files of the sources, in order. ``schemas`` and ``notes`` fill while they are read."""

    sources: Sequence[SourceConfig]
    files: list[Input]
    schemas: dict[str, str] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return sum(f.size * (PACKED if f.path is not None and f.path.suffix in (".gz", ".zst", ".parquet") else 1) for f in self.files)


def find_inputs(sources: Sequence[SourceConfig], *, whole: bool = True) -> Inputs:
    """Find and digest every file. ``whole``: its whole content, else its size and parts spread over it, in a time that does not
    grow with it. Raises GogptError DAT300, DAT302, DAT303, DAT304."""
    files = []
    for number, source in enumerate(sources):
        if is_hub_id(source.path):
            hub = HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision)
            files.append(Input(source=number, shown=hub.id, path=None, digest=hub_revision(hub), size=0))
            continue
        for file in find_files(source.path, source.split):
            try:
                digest, size = _digest(file) if whole else _digest_of_parts(file)
            except OSError as problem:
                raise unreadable_file(problem, display_path(file)) from problem
            files.append(Input(source=number, shown=display_path(file), path=file, digest=digest, size=size))
    return Inputs(sources=sources, files=files)


def _digest(file: Path) -> tuple[str, int]:
    """XXH3 of the content, and its bytes."""
    digest = xxhash.xxh3_128()
    size = 0
    with file.open("rb") as raw:
        while chunk := raw.read(BUFFER):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _digest_of_parts(file: Path) -> tuple[str, int]:
    """XXH3 of the size and ``NUM_PARTS`` evenly spread parts, the first and the last among them; of the content where that is no more."""
    size = file.stat().st_size
    if size <= NUM_PARTS * PART:
        return _digest(file)
    digest = xxhash.xxh3_128(str(size).encode())
    with file.open("rb") as raw:
        for i in range(NUM_PARTS):
            raw.seek((size - PART) * i // (NUM_PARTS - 1))
            digest.update(raw.read(PART))
    return digest.hexdigest(), size


def stretches(inputs: Inputs, *, size: int | None = None, num_rows: int = NUM_ROWS) -> Iterator[Stretch]:
    """Every stretch of every file, in order: of about ``size`` bytes (None: by the whole set's), or of ``num_rows`` rows where those are
    read before. Raises GogptError DAT3xx for a file that cannot be read, or whose schema cannot be told."""
    size = size or min(LARGEST, max(SMALLEST, inputs.num_bytes // NUM_BLOCKS))
    number = itertools.count()
    for at, file in enumerate(inputs.files):
        source = inputs.sources[file.source]
        rows = _rows(file, source, inputs.notes)
        head = list(itertools.islice(rows, NUM_SAMPLE if source.limit is None else min(NUM_SAMPLE, source.limit)))
        schema, forced = schema_of(head, source, file.shown)
        inputs.schemas[file.shown] = schema.name
        whole = Stretch(number=-1, source=file.source, file=at, shown=file.shown, schema=schema, forced=forced)
        if file.path is not None and source.limit is None and schema.join is None and is_lines(file.path):
            rows.close()  # type: ignore[attr-defined]
            for start, end, before, count in _line_ranges(file.path, size):
                yield replace(whole, number=next(number), path=str(file.path), start=start, end=end, row=before, num_rows=count)
            continue
        for some in _some(_all(head, rows, source, schema, file, inputs), num_rows):
            yield replace(whole, number=next(number), rows=some, num_rows=len(some))


def _rows(file: Input, source: SourceConfig, notes: dict[str, int]) -> Iterator[SourceRow]:
    if file.path is None:
        return read_hub(HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision))
    return read_rows(file.path, notes=notes)


def _all(head: list[SourceRow], rows: Iterator[SourceRow], source: SourceConfig, schema: Schema, file: Input, inputs: Inputs) -> Iterator[Any]:
    everything: Iterator[SourceRow] = itertools.chain(head, rows)
    if source.limit is not None:
        everything = itertools.islice(everything, source.limit)
        inputs.notes[f"read only the first {source.limit} rows of {file.shown}"] = 1

    def note(what: str, count: int = 1) -> None:
        inputs.notes[what] = inputs.notes.get(what, 0) + count

    return schema.join(everything, note) if schema.join is not None else everything


def _some(rows: Iterator[SourceRow], count: int) -> Iterator[tuple[SourceRow, ...]]:
    while some := tuple(itertools.islice(rows, count)):
        yield some


def _line_ranges(path: Path, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Start and end in bytes, the number of rows before and of rows inside, of stretches of whole lines of about ``size`` bytes."""
    rows = start = 0
    with path.open("rb") as file:
        while True:
            data = file.read(size)
            if not data:
                return
            if data[-1:] != b"\n":
                data += file.readline()
            count = _num_rows(data)
            yield start, start + len(data), rows, count
            start += len(data)
            rows += count


def _num_rows(data: bytes) -> int:
    """Lines that are not blank."""
    ends = data.count(b"\n") + (data[-1:] != b"\n")
    if data.count(b"\n{") + (data[:1] == b"{") == ends:
        return ends
    return sum(1 for line in data.split(b"\n") if line and not line.isspace())
