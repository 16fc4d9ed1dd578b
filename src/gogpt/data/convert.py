"""Any data -> OpenAI messages in one file, with the ledger of every row beside it."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from pathlib import Path
from typing import IO, Any, Protocol

from gogpt.config import SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.read import read_conversations
from gogpt.data.sources import find_files, is_hub_id
from gogpt.errors import GogptError
from gogpt.records import Conversation
from gogpt.runfolder import as_disk_error, disk_error, write_json

LEDGER_KEYS = ("rows_in", "conversations", "drops", "schema", "first", "notes")
NUM_BUFFERED = 1000
"""Rows of one Parquet row group."""


class Writer(Protocol):
    def write(self, document: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def convert(path: str, target: Path, *, schema: str = "auto") -> dict[str, Any]:
    """Write the conversations of ``path`` in order to ``target`` and return the document ``TARGET.ledger.json``.

    The name decides the form: ``.parquet``, ``.gz`` (compressed lines), else lines. The file is whole or not there.
    Raises GogptError DAT3xx (the data), ENV110 (the disk), RUN610 (the target is the data itself).
    """
    sources = _sources(path, target, schema)
    ledger = Ledger()
    partial = target.with_name(target.name + ".partial")
    try:
        with contextlib.closing(_writer(partial, target.name)) as writer:
            for source in sources:
                for conversation in read_conversations(source, ledger):
                    writer.write(document_of(conversation))
        os.replace(partial, target)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if (found := as_disk_error(problem, target)) is not None:
            raise found from problem
        raise
    document = {key: value for key, value in ledger.to_dict().items() if key in LEDGER_KEYS}
    write_json(target.with_name(target.name + ".ledger.json"), document)
    return document


def document_of(conversation: Conversation) -> dict[str, Any]:
    """``{"messages", "tools"?}``, or ``{"text"}`` for a document."""
    if conversation.is_text:
        return {"text": conversation.messages[0].content}
    messages = [message.to_dict() for message in conversation.messages]
    for message in messages:
        message.pop("input", None)
    return {"messages": messages, **({"tools": [dict(tool) for tool in conversation.tools]} if conversation.tools else {})}


def _sources(path: str, target: Path, schema: str) -> list[SourceConfig]:
    """One source, or the files of a folder without what an earlier conversion wrote among them."""
    whole = [SourceConfig.model_validate({"path": path, "schema": schema})]
    if not target.name or not target.parent.is_dir():
        raise GogptError("ENV110", "cannot write: there is no such folder", where=str(target) if target.name else "(an empty name)",
                         fix="name a file in a folder that exists")
    if is_hub_id(path):
        return whole
    files = find_files(path)
    try:
        written = [other for other in (target, target.with_name(target.name + ".ledger.json")) if other.is_file()]
        rest = [file for file in files if not any(file.samefile(other) for other in written)]
    except OSError as problem:
        raise disk_error(problem, target) from problem
    if len(rest) == len(files):
        return whole
    if not rest or Path(path).is_file():
        raise GogptError("RUN610", "the output is the data itself", where=str(target), fix="name another file")
    return [SourceConfig.model_validate({"path": str(file), "schema": schema}) for file in rest]


# -- writing ---------------------------------------------------------------------------------------


def _writer(partial: Path, name: str) -> Writer:
    if name.lower().endswith(".parquet"):
        return ParquetWriter(partial)
    return LineWriter(partial, compressed=name.lower().endswith(".gz"))


class LineWriter:
    """One JSON object a line."""

    def __init__(self, path: Path, *, compressed: bool) -> None:
        self._raw = path.open("wb")
        # No time and no name in the header: the same data give the same bytes.
        self._packed: IO[bytes] = gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0) if compressed else self._raw  # type: ignore[assignment]
        self._text = io.TextIOWrapper(self._packed, encoding="utf-8", newline="\n")

    def write(self, document: dict[str, Any]) -> None:
        self._text.write(json.dumps(document, ensure_ascii=False, default=str) + "\n")

    def close(self) -> None:
        self._text.close()
        self._raw.close()


class ParquetWriter:
    """``messages``: a list of structs; ``tools``: JSON text, for tools of a thousand shapes would make one struct with
    a thousand fields, nearly all null; or ``text`` alone. One kind of document a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._rows: list[dict[str, Any]] = []
        self._kind: str | None = None
        path.open("wb").close()  # the disk says no now, not after hours

    def write(self, document: dict[str, Any]) -> None:
        kind = "text" if "text" in document else "messages"
        if self._kind not in (None, kind):
            raise GogptError("DAT307", "Parquet has one set of columns, and the data hold conversations and documents", where=str(self._path).removesuffix(".partial"),
                             expected="conversations or documents, not both", fix="write .jsonl, or convert the files one by one")
        self._kind = kind
        tools = document.get("tools")
        self._rows.append({**document, "tools": json.dumps(tools, ensure_ascii=False, default=str)} if tools else document)
        if len(self._rows) >= NUM_BUFFERED:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = _arrow_schema(self._kind or "messages")
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, schema, compression="zstd")
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=schema))
        self._rows = []

    def close(self) -> None:
        if self._rows or self._file is None:
            self._flush()
        self._file.close()


def _arrow_schema(kind: str) -> Any:
    import pyarrow as pa

    if kind == "text":
        return pa.schema([("text", pa.string())])
    call = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())]))])
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("reasoning_content", pa.string()), ("tool_calls", pa.list_(call)),
                         ("tool_call_id", pa.string()), ("name", pa.string()), ("train", pa.bool_())])
    return pa.schema([("messages", pa.list_(message)), ("tools", pa.string())])
