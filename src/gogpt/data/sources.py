"""Sources: path | folder | glob | hub id -> rows, each with its origin.

What a file is, is decided by its content; the name only helps where content cannot tell (CSV, plain text).
A row that cannot be read comes out as a RowError ``unreadable`` in its place: the caller counts it. A file
that cannot be read at all is a GogptError with its place.
"""

from __future__ import annotations

import csv
import glob as globbing
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gogpt.data.decoding import HEAD, decode, encoding_of, is_packed, open_bytes
from gogpt.data.json_rows import Row, read_json, read_lines
from gogpt.errors import GogptError, RowError
from gogpt.records import Origin

ROW_FILES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow")
TEXT_FILES = (".txt", ".md")
HUB_ID = re.compile(r"^(?:hub:)?[A-Za-z0-9][\w.-]*/[\w.-]+$")

__all__ = ["HubSource", "Row", "display_path", "find_files", "hub_revision", "is_hub_id", "is_lines", "read_hub", "read_rows", "unreadable_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A data set on the hub, read through ``datasets`` in streaming form (nothing is downloaded whole)."""

    id: str
    split: str = "train"
    subset: str | None = None
    revision: str | None = None


def display_path(path: Path | str) -> str:
    """Relative to the current folder where that is shorter to read; bytes that are no UTF-8 become ``?``."""
    text = str(path)
    try:
        relative = os.path.relpath(path)
        text = relative if not relative.startswith("..") else text
    except ValueError:
        pass
    return text.encode("utf-8", "replace").decode("utf-8")


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for packed in (".gz", ".zst"):
        name = name.removesuffix(packed)
    return os.path.splitext(name)[1]


def find_files(spec: str, split: str | None = None) -> list[Path]:
    """The files of a path, folder or glob, sorted. ``split``: of a saved DatasetDict, the one to read if it has it.

    Raises GogptError DAT300 (none), DAT304 (empty folder).
    """
    if not spec.strip():
        raise GogptError("DAT300", "the path of the data is empty", got=repr(spec), fix="name a file, a folder, a glob or a hub id")
    try:
        return _find_files(spec, split)
    except OSError as problem:  # a name that is too long, a folder that may not be read
        raise GogptError("DAT300", f"the data cannot be looked for: {problem.strerror}", where=display_path(spec[:200]),
                         fix="check the path") from problem


def _find_files(spec: str, split: str | None) -> list[Path]:
    path = Path(spec)
    if path.is_file():
        return [path]
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".") and not p.name.endswith(".ledger.json"))
        found = [p for p in inside if _suffix(p) in ROW_FILES]
        arrow = [p for p in found if _suffix(p) == ".arrow"]
        if any(p.parent.joinpath("state.json").exists() for p in arrow):
            found = _saved(path, arrow, split)  # a saved Dataset: the JSON files beside are its description
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


def _saved(path: Path, arrow: list[Path], split: str | None) -> list[Path]:
    """The files of a saved Dataset or DatasetDict: those that its state.json lists, not the caches of its maps."""
    if split is not None and (path / "dataset_dict.json").exists() and any(p.parent == path / split for p in arrow):
        arrow = [p for p in arrow if p.parent == path / split]
    listed: dict[Path, set[str] | None] = {}
    for folder in {p.parent for p in arrow}:
        try:
            state = json.loads((folder / "state.json").read_bytes())
            listed[folder] = {str(file["filename"]) for file in state["_data_files"]} or None
        except (OSError, ValueError, TypeError, KeyError):
            listed[folder] = None
    kept = [p for p in arrow if (names := listed[p.parent]) is None or p.name in names]
    return kept or arrow


def is_hub_id(spec: str) -> bool:
    return spec.startswith("hub:") or bool(HUB_ID.match(spec) and not os.path.exists(spec)
                                           and _suffix(Path(spec)) not in (*ROW_FILES, *TEXT_FILES))


FETCH = "a file that was not copied or written whole looks like this: fetch it again"


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
        with open_bytes(path, magic) as stream:
            yield from _text_rows(stream, path, shown, notes if notes is not None else {})
    except (OSError, EOFError, zlib.error) as problem:
        raise unreadable_file(problem, shown) from problem


def unreadable_file(problem: Exception, shown: str) -> GogptError:
    """A file that is there and cannot be read."""
    broken = isinstance(problem, (EOFError, zlib.error)) or getattr(problem, "errno", None) is None
    return GogptError("DAT303", f"the file cannot be read: {problem}", where=shown,
                      fix=FETCH if broken else "check that it is there and that you may read it")


def is_lines(path: Path) -> bool:
    """Whether ``read_rows`` reads the file line by line from plain UTF-8, so that it can be taken apart at any line end."""
    with path.open("rb") as raw:
        head = raw.read(HEAD)
    if _suffix(path) in (*TEXT_FILES, ".csv", ".tsv", ".json", ".arrow") or head[:4] == b"PAR1" or head[:6] == b"ARROW1":
        return False
    if is_packed(head[:8]) or head[:3] == b"\xef\xbb\xbf" or head.lstrip()[:1] == b"[":
        return False
    return encoding_of(head, display_path(path)) == "utf-8"


def _text_rows(stream: io.BufferedReader, path: Path, shown: str, notes: dict[str, int]) -> Iterator[Row]:
    head = stream.peek(HEAD)
    if not head:
        raise GogptError("DAT304", "the file is empty", where=shown, got="0 bytes", expected="at least one row")
    encoding = encoding_of(head, shown)
    if encoding != "utf-8":
        notes[f"read as {encoding}: {shown}"] = 1
    if encoding == "utf-16":  # its line ends are two bytes: read it whole
        head = decode(stream.read(), encoding, shown).encode("utf-8")
        stream, encoding = io.BufferedReader(io.BytesIO(head)), "utf-8"  # type: ignore[arg-type]
    kind = _suffix(path)
    is_array = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    if kind in TEXT_FILES:
        text = decode(stream.read(), encoding, shown)
        if not text.strip():
            raise GogptError("DAT304", "the file is blank", where=shown, got=f"{len(text)} characters of white space")
        yield {"text": text}, Origin(path=shown, row=1)
    elif kind in (".csv", ".tsv"):
        yield from _csv(io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline=""), kind, shown)
    elif is_array or kind == ".json":
        yield from read_json(stream, encoding, shown, named_lines=kind in (".jsonl", ".ndjson"))
    else:
        yield from read_lines(stream, encoding, shown)


_ESCAPED = re.compile("[\udc80-\udcff]")
"""What a byte that cannot be decoded becomes (surrogateescape)."""


def _csv(stream: io.TextIOWrapper, kind: str, shown: str) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    # strict: a quote that is never closed would otherwise swallow the rest of the file into one field.
    reader = csv.DictReader(stream, delimiter="\t" if kind == ".tsv" else ",", restkey="\0extra", restval=None, strict=True)
    number = 0
    try:
        names = list(reader.fieldnames or ())
        if not any(name.strip() for name in names):
            raise GogptError("DAT304", "the file has no header", where=shown, expected="a first line with the column names")
        if twice := sorted({name for name in names if name.strip() and names.count(name) > 1}):
            raise GogptError("DAT303", f"the column {twice[0]!r} stands twice", where=shown, got=", ".join(names[:12]),
                             fix="rename or remove one of them")
        for row in reader:
            number += 1
            origin = Origin(path=shown, row=number)
            broken = next((found for v in row.values() if isinstance(v, str) and (found := _ESCAPED.search(v))), None)
            if "\0extra" in row:
                yield RowError("unreadable", f"more fields than the {len(names)} columns"), origin
            elif broken is not None:
                yield RowError("unreadable", f"not valid {stream.encoding} text: the byte {ord(broken.group()) - 0xDC00:#04x}"), origin
            else:
                yield dict(row), origin
    except csv.Error as problem:
        raise GogptError("DAT303", f"not valid CSV: {problem}", where=f"{shown}:{number + 1}", got=f"line {reader.line_num} of the file",
                         fix='close every quote, and write a quote inside a field as ""') from problem
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
        raise GogptError("DAT303", f"not readable as Parquet: {problem}", where=shown, fix=FETCH) from problem
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
                batch.validate(full=True)  # the offsets of a damaged file lead outside it: without this the process dies
                for row in batch.to_pylist():
                    number += 1
                    yield row, Origin(path=shown, row=number)
    except Exception as problem:
        raise GogptError("DAT303", f"not readable as Arrow: {problem}", where=shown, fix=FETCH) from problem
    if not number:
        raise GogptError("DAT304", "the file has no rows", where=shown, expected="at least one row")


# -- the hub ---------------------------------------------------------------------------------------


def hub_revision(source: HubSource) -> str | None:
    """The commit that the data set is read at; None where the hub cannot be asked."""
    try:
        from huggingface_hub import HfApi

        return str(HfApi().dataset_info(source.id.removeprefix("hub:"), revision=source.revision, timeout=10).sha)
    except Exception:  # no connection, no such data set: reading it says which
        return None


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
        raise _not_from_hub(name, problem) from problem


def _not_from_hub(name: str, problem: Exception) -> GogptError:
    reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return GogptError(
        "DAT302", f"the data set cannot be read from the hub: {reason}", where=name,
        expected="a data set id, a split and a subset that exist, and a connection",
        fix="for a local file check the path (relative to the recipe); offline, download the data set first and give its folder")
