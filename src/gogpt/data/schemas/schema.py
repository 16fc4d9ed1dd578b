"""What a schema is: one shape in which instruction data is found, and how it becomes a conversation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gogpt.data.shapes.fields import Note, Row, silent
from gogpt.errors import RowError
from gogpt.records import Conversation, Origin

__all__ = ["Convert", "Note", "Row", "Schema", "silent"]


class Convert(Protocol):
    """Raises RowError for a row that has the shape but cannot be used. ``note`` counts what was done to it."""

    def __call__(self, row: Row, origin: Origin, note: Note = ..., /) -> Conversation: ...


Join = Callable[[Iterable[tuple[Row | RowError, Origin]], Note], Iterator[tuple[Row | RowError, Origin]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """``fits(row)``: the row has this shape, by its keys and the kind of value they hold, judged alone.
    ``claims(row)``: it fits, and none of the schemas ``before`` it does, which say more of the same (the messages of
    a row that repeats its first question under ``prompt``). So no two schemas claim one row."""

    name: str
    wants: str
    """the keys wanted, as a person reads them"""
    doc: str
    keys: tuple[str, ...]
    """every key that is read"""
    fits: Callable[[Row], bool]
    to_conversation: Convert
    examples: tuple[Row, ...]
    not_mine: tuple[Row, ...] = ()
    parts: Callable[[Row], Sequence[Row]] | None = None
    """for rows that hold several conversations: rows of the same schema that hold one each"""
    join: Join | None = None
    """for rows that are single messages: the rows of a file -> rows that hold a conversation each"""
    before: tuple[Schema, ...] = field(default=(), repr=False, compare=False)

    def claims(self, row: Row) -> bool:
        return self.fits(row) and not any(schema.fits(row) for schema in self.before)
