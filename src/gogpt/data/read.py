"""Sources -> conversations: rows are read, the schema of each file is found, every row is counted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from gogpt.config import SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.schemas import NUM_SAMPLE, detect, schemas_named, unclaimed
from gogpt.data.schemas.schema import Row, Schema
from gogpt.data.sources import HubSource, display_path, find_files, is_hub_id, read_hub, read_rows
from gogpt.data.sources import Row as SourceRow
from gogpt.errors import GogptError, RowError
from gogpt.records import Conversation, Message, Origin

SEVERAL = "rows that hold several conversations: each conversation is counted as a row"


def read_conversations(source: SourceConfig, ledger: Ledger) -> Iterator[Conversation]:
    """Conversations of one source in order. Rows that cannot be used go to the ledger with their reason.

    Raises GogptError DAT3xx for a file that cannot be read at all, or whose schema cannot be told.
    """
    if is_hub_id(source.path):
        hub = HubSource(id=source.path, split=source.split, subset=source.subset, revision=source.revision)
        yield from _convert(read_hub(hub), source, hub.id, ledger)
        return
    for file in find_files(source.path, source.split):
        yield from _convert(read_rows(file, notes=ledger.notes), source, display_path(file), ledger)


def _convert(rows: Iterator[SourceRow], source: SourceConfig, shown: str, ledger: Ledger) -> Iterator[Conversation]:
    if source.limit is not None:
        rows = itertools.islice(rows, source.limit)
        ledger.note(f"read only the first {source.limit} rows of {shown}")
    head = list(itertools.islice(rows, NUM_SAMPLE))
    schema, forced = schema_of(head, source, shown)
    ledger.schema[shown] = schema.name
    everything: Iterable[tuple[Row | RowError, Origin]] = itertools.chain(head, rows)
    if schema.join is not None:
        everything = schema.join(everything, ledger.note)
    for row, origin in everything:
        yield from conversations_of(row, origin, schema, forced, ledger)


def conversations_of(row: Row | RowError, origin: Origin, schema: Schema, forced: bool, ledger: Ledger) -> Iterator[Conversation]:
    """The conversations of a row of a file of this schema; ``forced``: the user named it, so that nothing else may claim the row."""
    if isinstance(row, RowError):
        ledger.drop(row.reason, origin, row.detail)
    elif not (schema.fits if forced else schema.claims)(row):
        problem = unclaimed(schema, row)
        ledger.drop(problem.reason, origin, problem.detail, row)
    else:
        yield from _conversations(schema, row, origin, ledger)


def _conversations(schema: Schema, row: Row, origin: Origin, ledger: Ledger) -> Iterator[Conversation]:
    """The conversations that a row holds, nearly always one; each is kept or dropped by itself."""
    parts = schema.parts(row) if schema.parts is not None else (row,)
    if len(parts) > 1:
        ledger.note(SEVERAL)
    for part in parts:
        done: list[str] = []
        try:
            conversation = schema.to_conversation(part, origin, done.append)
        except RowError as problem:
            ledger.drop(problem.reason, origin, problem.detail, part)
            continue
        for remark in dict.fromkeys((*done, *remarks(conversation.messages))):
            ledger.note(remark)
        ledger.keep()
        yield conversation


def remarks(messages: tuple[Message, ...]) -> Iterator[str]:
    """What is unusual in the turns of a conversation. They are kept as they stand: whether a template can render them
    is the template's to say, and a conversation that it refuses is dropped and counted then."""
    turns = [m for m in messages if m.role != "system"]
    if turns[0].role == "assistant":
        yield "conversations that begin with the assistant: kept"
    if any(a.role == b.role and a.role != "tool" and not a.tool_calls for a, b in itertools.pairwise(turns)):
        yield "conversations with two turns of one role in a row: kept"
    if turns[-1].role == "user":
        yield "conversations that end with the user: kept, the last turn has no answer"
    if any(m.role == "system" for m in messages[1:]):
        yield "conversations with a system message after the first message: kept"
    if any(m.role == "assistant" and not m.content.strip() and not m.tool_calls for m in turns):
        yield "conversations with a blank answer inside: kept, that answer is not trained"


def schema_of(head: list[SourceRow], source: SourceConfig, shown: str) -> tuple[Schema, bool]:
    """The schema of a file, and whether the user named it, so that nothing else may claim its rows."""
    readable = [(row, origin.row) for row, origin in head if not isinstance(row, RowError)]
    choice = schemas_named(source.schema_, shown) if source.schema_ != "auto" else ()
    if len(choice) == 1:
        return choice[0], True
    if not readable:
        problem, origin = next((r, o) for r, o in head if isinstance(r, RowError))
        raise GogptError("DAT303", f"no row can be read; the first: {problem.detail}", where=str(origin),
                         got=f"{len(head)} rows, none of them usable", expected="one JSON object a row, with named fields",
                         fix="see gogpt explain DAT303")
    rows, numbers = [row for row, _ in readable], [number for _, number in readable]
    if choice:
        return detect(rows, shown, numbers, among=choice), True
    return detect(rows, shown, numbers), False
