"""Sources: path | folder | glob | hub id -> rows, each with its origin.

What a file is, is decided by its content; the name only helps where content cannot tell (CSV, plain text).
A row that cannot be read comes out as a RowError ``unreadable`` in its place: the caller counts it. A file
that cannot be read at all is a GogptError with its place.
"""

from __future__ import annotations

import csv
import glob as globbing
import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gogpt.errors import GogptError, RowError
from gogpt.records import Origin

ROW_FILES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
TEXT_FILES = (".txt", ".md")
HUB_ID = re.compile(r"^(?:hub:)?[A-Za-z0-9][\w.-]*/[\w.-]+$")

Row = tuple["dict[str, Any] | RowError", Origin]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A data set on the hub, read through ``datasets`` in streaming form (nothing is downloaded whole)."""

    id: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None


def display_path(path: Path | str) -> str:
    """Relative to the current folder where that is shorter to read."""
    try:
        relative = os.path.relpath(path)
    except ValueError:
        return str(path)
    return relative if not relative.startswith("..") else str(path)


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    return os.path.splitext(name)[1]


def find_files(spec: str) -> list[Path]:
    """The files of a path, folder or glob, sorted. Raises GogptError DAT300 (none), DAT304 (empty folder)."""
    path = Path(spec)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        found = [p for p in inside if _suffix(p) in ROW_FILES]
        arrow = [p for p in found if _suffix(p) == ".arrow"]
        if arrow and (path / "state.json").exists() or any(p.parent.joinpath("state.json").exists() for p in arrow):
            found = arrow  # a saved Dataset: the JSON files beside are its description
        found = found or [p for p in inside if _suffix(p) in TEXT_FILES]
        if not found:
            raise GogptError("DAT304", "the folder holds no data file", where=display_path(path),
                             got=", ".join(p.name for p in inside[:6]) or "an empty folder",
                             expected=" ".join((*ROW_FILES, *TEXT_FILES)) + ", also .gz and .zst")
        return found
    if any(c in spec for c in "*?["):
        found = sorted(Path(p) for p in globbing.glob(spec, recursive=True) if Path(p).is_file())
        if found:
            return found
        raise GogptError("DAT300", "no file matches", where=spec, fix="check the pattern and the folder it is relative to")
    import difflib

    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1) if path.parent.is_dir() else []
    raise GogptError("DAT300", "there is no such data file", where=display_path(path),
                     fix=f"did you mean {near[0]}?" if near else "paths in a recipe are relative to the recipe")


def is_hub_id(spec: str) -> bool:
    return spec.startswith("hub:") or bool(HUB_ID.match(spec) and not Path(spec).exists()
                                           and _suffix(Path(spec)) not in (*ROW_FILES, *TEXT_FILES))


# -- one file --------------------------------------------------------------------------------------


def read_rows(path: Path, *, notes: dict[str, int] | None = None) -> Iterator[Row]:
    """Rows of one file in order. ``notes`` collects what was done to read it (an encoding, say).

    Raises GogptError DAT301 (not valid JSON), DAT303 (unreadable), DAT304 (empty), DAT305 (binary).
    """
    shown = display_path(path)
    try:
        with path.open("rb") as raw:
            magic = raw.read(8)
        if not magic:
            raise GogptError("DAT304", "the file is empty", where=shown, got="0 bytes", expected="at least one row")
        if magic[:4] == b"PAR1":
            yield from _parquet(path, shown)
            return
        if _suffix(path) == ".arrow" or magic[:6] == b"ARROW1":
            yield from _arrow(path, shown)
            return
        with _open(path, magic) as stream:
            yield from _text_rows(stream, path, shown, notes if notes is not None else {})
    except (OSError, EOFError) as problem:
        raise GogptError("DAT303", f"the file cannot be read: {problem}", where=shown) from problem


def _open(path: Path, magic: bytes) -> BinaryIO:
    if magic[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.open(path, "rb"))  # type: ignore[arg-type]
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard

        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True))
    return path.open("rb")


def _text_rows(stream: BinaryIO, path: Path, shown: str, notes: dict[str, int]) -> Iterator[Row]:
    head = stream.peek(1 << 16) if isinstance(stream, io.BufferedReader) else b""
    if not head:
        raise GogptError("DAT304", "the file is empty", where=shown, got="0 bytes", expected="at least one row")
    encoding = _encoding(head, shown)
    if encoding != "utf-8":
        notes[f"read as {encoding}: {shown}"] = 1
    kind = _suffix(path)
    if kind in TEXT_FILES:
        text = _decode(stream.read(), encoding, shown)
        if not text.strip():
            raise GogptError("DAT304", "the file is blank", where=shown, got=f"{len(text)} characters of white space")
        yield {"text": text}, Origin(path=shown, row=1)
    elif kind in (".csv", ".tsv"):
        yield from _csv(io.TextIOWrapper(stream, encoding=encoding, errors="strict", newline=""), kind, shown)
    elif kind in (".jsonl", ".ndjson") or (kind != ".json" and not head.lstrip()[:1] == b"["):
        yield from _lines(stream, encoding, shown)
    else:
        yield from _json(stream, encoding, shown)


def _encoding(head: bytes, shown: str) -> str:
    if head[:3] == b"\xef\xbb\xbf":
        return "utf-8-sig"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\0" in head:
        raise GogptError("DAT305", "binary data, not text", where=shown, got=f"a NUL byte at offset {head.index(0)}",
                         expected="JSON, JSON lines, CSV, Parquet, Arrow or plain text, also .gz and .zst",
                         fix="convert the file; models and archives are no data")
    for encoding in ("utf-8", "gb18030"):
        for cut in range(4):  # the sample may end inside a character
            try:
                head[: len(head) - cut].decode(encoding)
                return encoding
            except UnicodeDecodeError:
                continue
    return "utf-8"


def _decode(data: bytes, encoding: str, shown: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        raise GogptError("DAT305", f"not valid {encoding} text", where=f"{shown}:{line}",
                         got=f"byte {data[problem.start]:#04x} at offset {problem.start}",
                         fix="save the file as UTF-8") from problem


def _row(value: Any) -> dict[str, Any] | RowError:
    if isinstance(value, dict):
        return value
    kind = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
    return RowError("not_an_object", f"the row is {kind}, not an object with named fields")


def _lines(stream: BinaryIO, encoding: str, shown: str) -> Iterator[Row]:
    number = 0
    lines: Iterator[bytes] | Iterator[str] = iter(stream)
    if encoding == "utf-16":
        lines = io.TextIOWrapper(stream, encoding=encoding)
    for raw in lines:
        if not raw.strip():
            continue
        number += 1
        origin = Origin(path=shown, row=number)
        try:
            text = raw if isinstance(raw, str) else raw.decode(encoding)
            yield _row(json.loads(text)), origin
        except UnicodeDecodeError as problem:
            yield RowError("unreadable", f"not valid {encoding} text at byte {problem.start}"), origin
        except (ValueError, RecursionError) as problem:
            yield RowError("unreadable", f"not valid JSON: {problem}"), origin
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, got="blank lines", expected="one JSON object a line")


def _json(stream: BinaryIO, encoding: str, shown: str) -> Iterator[Row]:
    """A .json file: an array of rows, one object, or JSON lines under another name."""
    first = stream.readline()
    while first and not first.strip():
        first = stream.readline()
    second = stream.readline()
    while second and not second.strip():
        second = stream.readline()
    if second and _is_json(first, encoding):
        rest = io.BufferedReader(_Chain(first + second, stream))  # type: ignore[arg-type]
        yield from _lines(rest, "utf-8" if encoding == "utf-8-sig" and first[:3] != b"\xef\xbb\xbf" else encoding, shown)
        return
    text = _decode(first + second + stream.read(), encoding, shown)
    del first, second
    if text.lstrip()[:1] == "[":
        yield from _array(text, shown)
        return
    try:
        yield _row(json.loads(text)), Origin(path=shown, row=1)
    except (ValueError, RecursionError) as problem:
        raise _not_json(problem, shown) from problem


class _Chain(io.RawIOBase):
    """Bytes already read, then the rest of the stream."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer):]
        else:
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _is_json(line: bytes, encoding: str) -> bool:
    try:
        json.loads(line.decode(encoding))
    except (ValueError, RecursionError):
        return False
    return True


def _not_json(problem: Exception, shown: str, row: int | None = None) -> GogptError:
    line = getattr(problem, "lineno", 1)
    column = getattr(problem, "colno", 1)
    message = getattr(problem, "msg", str(problem))
    at = f" in row {row}" if row else ""
    return GogptError("DAT301", f"not valid JSON{at}: {message} (line {line} column {column})",
                      where=f"{shown}:{row}" if row else f"{shown}:{line}",
                      fix="correct that place; rows after it in an array cannot be told apart. In a .jsonl file a broken row is "
                      "counted and the others stay")


_SPACE = re.compile(r"\s*")


def _array(text: str, shown: str) -> Iterator[Row]:
    decoder = json.JSONDecoder()

    def skip(at: int) -> int:
        match = _SPACE.match(text, at)
        return match.end() if match else at

    at = skip(skip(0) + 1)
    number = 0
    while text[at : at + 1] != "]" or number == 0:
        if number == 0 and text[at : at + 1] == "]":
            raise GogptError("DAT304", "the file has no rows", where=shown, got="[]", expected="at least one row")
        number += 1
        try:
            value, at = decoder.raw_decode(text, at)
            at = skip(at)
            if text[at : at + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", text, at)
        except json.JSONDecodeError as problem:
            raise _not_json(problem, shown, number) from problem
        except RecursionError:
            raise _not_json(ValueError("nested too deeply"), shown, number) from None
        yield _row(value), Origin(path=shown, row=number)
        if text[at : at + 1] == ",":
            at = skip(at + 1)
    if text[at + 1:].strip():
        raise _not_json(json.JSONDecodeError("Extra data after the array", text, at + 1), shown)


def _csv(stream: io.TextIOWrapper, kind: str, shown: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    reader = csv.DictReader(stream, delimiter="\t" if kind == ".tsv" else ",", restkey="\0extra", restval=None)
    number = 0
    try:
        if not reader.fieldnames:
            raise GogptError("DAT304", "the file has no header", where=shown, expected="a first line with the column names")
        for row in reader:
            number += 1
            origin = Origin(path=shown, row=number)
            if "\0extra" in row:
                yield RowError("unreadable", f"more fields than the {len(reader.fieldnames)} columns"), origin
            else:
                yield dict(row), origin
    except csv.Error as problem:
        raise GogptError("DAT303", f"not valid CSV: {problem}", where=f"{shown}:{number + 1}") from problem
    except UnicodeDecodeError as problem:
        raise GogptError("DAT305", f"not valid {problem.encoding} text", where=f"{shown}:{number + 1}",
                         got=f"byte {problem.object[problem.start]:#04x}", fix="save the file as UTF-8") from problem
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, got="a header alone", expected="at least one row")


def _parquet(path: Path, shown: str) -> Iterator[Row]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield row, Origin(path=shown, row=number)
    except Exception as problem:  # pyarrow's own classes; the file is what is wrong
        raise GogptError("DAT303", f"not readable as Parquet: {problem}", where=shown) from problem
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, expected="at least one row")


def _arrow(path: Path, shown: str) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        with pa.memory_map(str(path)) as data:
            try:
                reader = pa.ipc.open_stream(data)
                batches = iter(reader)
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(data)
                batches = (file.get_batch(i) for i in range(file.num_record_batches))
            for batch in batches:
                for row in batch.to_pylist():
                    number += 1
                    yield row, Origin(path=shown, row=number)
    except Exception as problem:
        raise GogptError("DAT303", f"not readable as Arrow: {problem}", where=shown) from problem
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, expected="at least one row")


# -- the hub ---------------------------------------------------------------------------------------


def read_hub(source: HubSource) -> Iterator[Row]:
    """Rows of a hub data set, streamed. Raises GogptError DAT302 where it cannot be reached or does not exist."""
    name = source.id.removeprefix("hub:")
    try:
        import datasets

        datasets.disable_progress_bars()
        data = datasets.load_dataset(name, source.subset, split=source.split, revision=source.revision, streaming=True)
        for number, row in enumerate(data, start=1):
            yield dict(row), Origin(path=name, row=number)
    except Exception as problem:  # datasets and huggingface_hub raise many kinds; all mean the same here
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise GogptError(
            "DAT302", f"the data set cannot be read from the hub: {reason}", where=name,
            expected="a data set id, a split and a subset that exist, and a connection",
            fix="for a local file check the path (relative to the recipe); offline, download the data set first and give its folder",
        ) from problem
