"""Are the ids on the disk the same? Read what GoGPT wrote, and hold it against what a peer wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IGNORE = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One conversation: its ids, and which of them are trained (None where nothing says so)."""

    ids: list[int]
    trained: list[bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """Conversations compared; how many have the same ids; how many train the same tokens too. ``first``: the first row
    (from 1) whose ids differ."""

    who: str
    compared: int
    same_ids: int
    same_trained: int
    first: int | None

    def line(self) -> str:
        out = f"ids on the disk, GoGPT and {self.who}: equal for {self.same_ids:,} of {self.compared:,} conversations"
        if self.first is not None:
            out += f" (first difference: row {self.first})"
        return out + f"; the same tokens trained in {self.same_trained:,}"


def read_peer(file: Path) -> list[Sample]:
    """What a peer's runner wrote with --ids, in the order of the rows."""
    out = []
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            labels = row["labels"]
            out.append(Sample(ids=row["ids"], trained=None if labels is None else [x != IGNORE for x in labels]))
    return out


def read_gogpt(folder: Path) -> dict[int, Sample]:
    """Row of the file (from 1) -> what GoGPT prepared of it: Arrow streams with ``input_ids``, ``trained`` (start and end
    of each trained stretch) and ``row``. Raises FileNotFoundError where there are none."""
    out = {}
    for row, ids, spans in _arrow_rows(folder):
        trained = [False] * len(ids)
        for start, end in zip(spans[0::2], spans[1::2], strict=True):
            trained[start:end] = [True] * (end - start)
        out[row] = Sample(ids=ids, trained=trained)
    return out


def _arrow_rows(folder: Path) -> Iterator[tuple[int, list[int], list[int]]]:
    import pyarrow as pa

    files = sorted(folder.rglob("*.arrow"))
    if not files:
        raise FileNotFoundError(f"{folder.name}: no prepared set in it (*.arrow)")
    for file in files:
        with pa.memory_map(str(file)) as data:
            for batch in pa.ipc.open_stream(data):
                yield from zip(batch["row"].to_pylist(), batch["input_ids"].to_pylist(), batch["trained"].to_pylist(), strict=True)


def compare(who: str, mine: dict[int, Sample], theirs: list[Sample]) -> Equality:
    same_ids = same_trained = 0
    first = None
    for row, other in enumerate(theirs, start=1):
        own = mine.get(row)
        if own is not None and own.ids == other.ids:
            same_ids += 1
            same_trained += own.trained == other.trained
        elif first is None:
            first = row
    return Equality(who=who, compared=len(theirs), same_ids=same_ids, same_trained=same_trained, first=first)
