"""Sources -> conversations: rows are read, the schema of each file is found, every row is counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gogpt.config import SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.schemas import NUM_SAMPLE, detect, schema_named
from gogpt.data.schemas.schema import Schema
from gogpt.data.sources import HubSource, Row, display_path, find_files, is_hub_id, read_hub, read_rows
from gogpt.errors import GogptError, RowError
from gogpt.records import Conversation


def read_conversations(source: SourceConfig, ledger: Ledger) -> Iterator[Conversation]:
    """Conversations of one source in order. Rows that cannot be used go to the ledger with their reason.

    Raises GogptError DAT3xx for a file that cannot be read at all, or whose schema cannot be told.
    """
    if is_hub_id(source.path):
        hub = HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision)
        yield from _convert(read_hub(hub), source, hub.id, ledger)
        return
    for file in find_files(source.path):
        yield from _convert(read_rows(file, notes=ledger.notes), source, display_path(file), ledger)


def _convert(rows: Iterator[Row], source: SourceConfig, shown: str, ledger: Ledger) -> Iterator[Conversation]:
    if source.limit is not None:
        rows = itertools.islice(rows, source.limit)
        ledger.note(f"read only the first {source.limit} rows of {shown}")
    head = list(itertools.islice(rows, NUM_SAMPLE))
    schema = _schema(head, source, shown)
    ledger.schema[shown] = schema.name
    for row, origin in itertools.chain(head, rows):
        try:
            if isinstance(row, RowError):
                raise row
            if not schema.claims(row):
                raise RowError("other_schema", f"not of schema {schema.name}, which wants {schema.wants}")
            conversation = schema.to_conversation(row, origin)
        except RowError as problem:
            ledger.drop(problem.reason, origin, problem.detail, None if isinstance(row, RowError) else row)
            continue
        ledger.keep()
        yield conversation


def _schema(head: list[Row], source: SourceConfig, shown: str) -> Schema:
    if source.schema_ != "auto":
        return schema_named(source.schema_, shown)
    readable = [(row, origin.row) for row, origin in head if not isinstance(row, RowError)]
    if not readable:
        problem, origin = next((r, o) for r, o in head if isinstance(r, RowError))
        raise GogptError("DAT303", f"no row can be read; the first: {problem.detail}", where=str(origin),
                         got=f"{len(head)} rows, none of them usable", expected="one JSON object a row, with named fields",
                         fix="see gogpt explain DAT303")
    return detect([row for row, _ in readable], shown, [number for _, number in readable])
