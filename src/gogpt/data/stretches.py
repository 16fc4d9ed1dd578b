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
)
from gogpt.data.sources import Row as SourceRow
from gogpt.data.work import Stretch

SMALLEST, LARGEST = 1 << 20, 64 << 20
"""Bytes of a stretch; between them a set has about ``NUM_BLOCKS``."""
NUM_BLOCKS = 2048
NUM_ROWS = 1024
"""Rows of a stretch whose rows are read before (arrays, tables, compressed files, the hub)."""
BUFFER = 8 << 20
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


def find_inputs(sources: Sequence[SourceConfig]) -> Inputs:
    """Find and digest every file. Raises GogptError DAT300, DAT302, DAT304."""
    files = []
    for number, source in enumerate(sources):
        if is_hub_id(source.path):
            hub = HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision)
            files.append(Input(source=number, shown=hub.id, path=None, digest=hub_revision(hub), size=0))
            continue
        for file in find_files(source.path, source.split):
            digest = xxhash.xxh3_128()
            size = 0
            with file.open("rb") as raw:
                while chunk := raw.read(BUFFER):
                    digest.update(chunk)
                    size += len(chunk)
            files.append(Input(source=number, shown=display_path(file), path=file, digest=digest.hexdigest(), size=size))
    return Inputs(sources=sources, files=files)


def stretches(inputs: Inputs) -> Iterator[Stretch]:
    """Every stretch of every file, in order. Raises GogptError DAT3xx for a file that cannot be read, or whose schema cannot be told."""
    size = min(LARGEST, max(SMALLEST, inputs.num_bytes // NUM_BLOCKS))
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
            for start, end, before in _line_ranges(file.path, size):
                yield replace(whole, number=next(number), path=str(file.path), start=start, end=end, row=before)
            continue
        for some in _some(_all(head, rows, source, schema, file, inputs)):
            yield replace(whole, number=next(number), rows=some)


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


def _some(rows: Iterator[SourceRow]) -> Iterator[tuple[SourceRow, ...]]:
    while some := tuple(itertools.islice(rows, NUM_ROWS)):
        yield some


def _line_ranges(path: Path, size: int) -> Iterator[tuple[int, int, int]]:
    """Start and end in bytes, and the number of rows before, of stretches of whole lines of about ``size`` bytes."""
    rows = start = 0
    with path.open("rb") as file:
        while True:
            data = file.read(size)
            if not data:
                return
            if data[-1:] != b"\n":
                data += file.readline()
            yield start, start + len(data), rows
            start += len(data)
            rows += _num_rows(data)


def _num_rows(data: bytes) -> int:
    """Lines that are not blank."""
    ends = data.count(b"\n") + (data[-1:] != b"\n")
    if data.count(b"\n{") + (data[:1] == b"{") == ends:
        return ends
    return sum(1 for line in data.split(b"\n") if line and not line.isspace())
