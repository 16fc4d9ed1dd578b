"""Why a file has its schema, and which of its fields are read: they are changed, one by one, in a sample of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gogpt.data.inspection import Evidence
from gogpt.data.schemas import SCHEMAS
from gogpt.data.schemas.schema import Row, Schema, silent
from gogpt.errors import RowError
from gogpt.records import Conversation, Origin

PROBE = "\ue000a text that no data set holds\ue000"


def evidence_for(schema: Schema, rows: Sequence[Mapping[str, Any]], *, named: bool = False) -> Evidence:
    """``rows``: the readable ones of a file's head. ``named``: the user chose the schema, and no other may claim a row."""
    mine = [row for row in rows if (schema.fits if named else schema.claims)(row)]
    present = Counter(name for row in mine for name in _fields(row))
    before = _outcomes(schema, mine)
    read: dict[str, int] = {}
    ignored: dict[str, int] = {}
    # Of rows that are all dropped it cannot be told what was read.
    for name in present if any(isinstance(x, Conversation) for x in before) else ():  # a list comes before the fields of its objects
        outer, _, inner = name.partition("[].")
        if not inner or outer in read:
            (read if _outcomes(schema, [_probed(row, name) for row in mine]) != before else ignored)[name] = present[name]
    shapes = Counter(tuple(name for name in read if name in row) for row in mine)
    others = Counter(other.name for row in rows if not schema.fits(row) for other in SCHEMAS if other.claims(row))
    return Evidence(sampled=len(rows), fits=len(mine), shapes=tuple(shapes.most_common(3)), read=read, ignored=ignored, others=dict(others))


def _fields(row: Mapping[str, Any]) -> list[str]:
    """The keys of a row, and those of the objects in its lists."""
    out = [str(key) for key in row]
    for key, value in row.items():
        if isinstance(value, list):
            out += dict.fromkeys(f"{key}[].{inner}" for item in value if isinstance(item, Mapping) for inner in item)
    return out


def _probed(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The row with something else of the same kind in a field that it has."""
    outer, _, inner = name.partition("[].")
    if not inner:
        return {**row, outer: _other(row[outer])} if outer in row else row
    if not isinstance(row.get(outer), list):
        return row
    return {**row, outer: [{**item, inner: _other(item[inner])} if isinstance(item, Mapping) and inner in item else item for item in row[outer]]}


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return -7_654_321
    if isinstance(value, list):
        return [PROBE]
    return {PROBE: PROBE} if isinstance(value, Mapping) else PROBE


def _outcomes(schema: Schema, rows: Sequence[Mapping[str, Any]]) -> list[object]:
    """What becomes of rows: conversations, and why there is none."""
    numbered: Iterable[tuple[Row | RowError, Origin]] = [(row, Origin(path="", row=i + 1)) for i, row in enumerate(rows)]
    out: list[object] = []
    try:
        for row, origin in schema.join(numbered, silent) if schema.join is not None else numbered:
            if isinstance(row, RowError):
                out.append((row.reason, row.detail))
            else:
                out += _conversations(schema, row, origin)
    except Exception as problem:  # a probe took the rows their shape
        out.append(type(problem))
    return out


def _conversations(schema: Schema, row: Row, origin: Origin) -> Iterator[object]:
    try:
        parts = schema.parts(row) if schema.parts is not None else (row,)
    except Exception as problem:  # as above
        yield type(problem)
        return
    for part in parts:
        try:
            yield schema.to_conversation(part, origin)
        except RowError as problem:
            yield problem.reason, problem.detail
        except Exception as problem:  # as above
            yield type(problem)
