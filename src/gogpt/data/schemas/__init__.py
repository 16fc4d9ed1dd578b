"""The schemas, and the choice of one for a file from a sample of its rows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gogpt.data.schemas.alpaca import ALPACA
from gogpt.data.schemas.openai import OPENAI
from gogpt.data.schemas.schema import Schema
from gogpt.data.schemas.sharegpt import SHAREGPT
from gogpt.data.schemas.text import TEXT
from gogpt.errors import GogptError

SCHEMAS: tuple[Schema, ...] = (ALPACA, OPENAI, SHAREGPT, TEXT)

NUM_SAMPLE = 100
"""Rows from the head of a file on which its schema is decided."""


def schema_named(name: str, where: str | None = None) -> Schema:
    """``where``: the file that is to be read with it, for the message. Raises GogptError DAT306."""
    for schema in SCHEMAS:
        if schema.name == name:
            return schema
    near = difflib.get_close_matches(name, [s.name for s in SCHEMAS], n=1)
    raise GogptError("DAT306", f"no schema is named {name!r}", where=where, expected="auto, " + ", ".join(s.name for s in SCHEMAS),
                     fix=f"did you mean {near[0]!r}?" if near else "leave it out, and it is found")


def _wanted() -> str:
    return "one of\n" + "\n".join(f"              {s.name}: {s.wants}" for s in SCHEMAS)


def detect(rows: Sequence[Mapping[str, Any]], shown: str, numbers: Sequence[int] | None = None) -> Schema:
    """The schema of a file. ``rows``: a sample; ``numbers``: their row numbers, for the message.

    A sample in which nearly every row has one shape is decided (the odd ones are counted row by row later);
    one in which shapes mix is refused. Raises GogptError DAT306 (none), DAT307 (mixed).
    """
    numbers = numbers or range(1, len(rows) + 1)
    claims = [next((s.name for s in SCHEMAS if s.claims(row)), None) for row in rows]
    counts = Counter(c for c in claims if c)
    if not counts:
        keys = list(dict.fromkeys(str(k) for row in rows[:20] for k in row))
        wanted = {w.strip("() ,:") for s in SCHEMAS for w in s.wants.split()}
        near = [f"{k!r} is close to {m[0]!r}" for k in keys
                if k not in wanted and (m := difflib.get_close_matches(k, wanted, n=1, cutoff=0.75))]
        raise GogptError(
            "DAT306", "no schema fits the rows", where=f"{shown}:{numbers[0]}",
            got="the keys " + (", ".join(keys[:12]) or "(none)") + (f"  ({'; '.join(near)})" if near else ""),
            expected=_wanted(), fix="rename the columns, or convert the rows to messages",
        )
    name, most = counts.most_common(1)[0]
    if len(counts) > 1 and most < 0.95 * sum(counts.values()):
        places = [f"{s} from row {numbers[claims.index(s)]} on ({n} of {len(rows)})" for s, n in counts.most_common()]
        raise GogptError(
            "DAT307", "the file mixes rows of different schemas", where=shown, got="; ".join(places),
            expected="one schema a file",
            fix="split the file, or name the schema to read (schema: " + name + "): rows of another are then counted and left out",
        )
    return schema_named(name)
