"""The schemas, and the choice of one for a file from a sample of its rows."""

from __future__ import annotations

import difflib
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gogpt.data.schemas.baize import BAIZE
from gogpt.data.schemas.camel_society import CAMEL_SOCIETY
from gogpt.data.schemas.coig import COIG_CHAT, COIG_EXAM
from gogpt.data.schemas.families import FAMILIES
from gogpt.data.schemas.glaive import GLAIVE
from gogpt.data.schemas.kto import KTO
from gogpt.data.schemas.lima import LIMA
from gogpt.data.schemas.marked_text import MARKED_TEXT
from gogpt.data.schemas.moss import MOSS, MOSS_002
from gogpt.data.schemas.oasst import OASST, OASST_TREES
from gogpt.data.schemas.openai import OPENAI
from gogpt.data.schemas.paired_lists import PAIRED_LISTS
from gogpt.data.schemas.pairs import (
    ADGEN,
    AIROBOROS,
    ALPACA,
    CAMEL,
    COIG_TRANSLATED,
    DOLLY,
    FIREFLY,
    GPTEACHER,
    INPUT_OUTPUT,
    OPENORCA,
    PROMPT_COMPLETION,
    QUERY_RESPONSE,
    QUESTION_ANSWER,
    key_map,
)
from gogpt.data.schemas.preference import PREFERENCE
from gogpt.data.schemas.prompt_messages import PROMPT_MESSAGES
from gogpt.data.schemas.prompt_only import PROMPT_ONLY
from gogpt.data.schemas.ranked import RANKED
from gogpt.data.schemas.schema import Row, Schema
from gogpt.data.schemas.sharegpt import SHAREGPT
from gogpt.data.schemas.text import TEXT
from gogpt.data.schemas.turn_pairs import TURN_PAIRS
from gogpt.data.schemas.ultrachat import ULTRACHAT
from gogpt.data.schemas.unnatural import UNNATURAL
from gogpt.data.schemas.xlam import XLAM
from gogpt.data.shapes.turns import PAIR_KEYS
from gogpt.errors import GogptError, RowError


def in_order(schemas: Sequence[Schema]) -> tuple[Schema, ...]:
    """The same schemas, each of which claims what it fits and none before it does."""
    return tuple(replace(schema, before=tuple(schemas[:i])) for i, schema in enumerate(schemas))


SCHEMAS: tuple[Schema, ...] = in_order((
    PREFERENCE, KTO, RANKED,  # first: they hold conversations or pairs too, and what is wrong beside them
    MOSS, MOSS_002, GLAIVE,
    OPENAI, SHAREGPT, TURN_PAIRS, ULTRACHAT, LIMA, CAMEL_SOCIETY, COIG_CHAT,  # turns, which often stand beside a copy of the first
    UNNATURAL, OASST, OASST_TREES, PROMPT_MESSAGES, XLAM, BAIZE, COIG_EXAM, COIG_TRANSLATED, PAIRED_LISTS,
    ALPACA, DOLLY, AIROBOROS, GPTEACHER, OPENORCA, QUERY_RESPONSE, QUESTION_ANSWER, PROMPT_COMPLETION, CAMEL,  # pairs, longest key set first
    FIREFLY, INPUT_OUTPUT, ADGEN,
    MARKED_TEXT, TEXT,
    PROMPT_ONLY,
))
"""The richer form of a row comes first: what says more of the same wins."""

BY_NAME = {schema.name: schema for schema in SCHEMAS}

NUM_SAMPLE = 100
"""Rows from the head of a file on which its schema is decided."""
MOSTLY = 0.95
"""Share of the rows claimed that must have one schema."""
NUM_NEAREST = 5
INNER = ("role", "content", *dict.fromkeys(key for pair in PAIR_KEYS for key in pair), "from", "value")
"""Keys of a turn."""
PLAIN = ("openai", "sharegpt", "alpaca", "text")
"""The forms to which data are converted most easily."""


def schema_named(name: str, where: str | None = None) -> Schema:
    """``where``: the file that is to be read with it, for the message. Raises GogptError DAT306."""
    if name in BY_NAME:
        return BY_NAME[name]
    return schemas_named(name, where)[0]


def schemas_named(name: str, where: str | None = None) -> tuple[Schema, ...]:
    """The schemas of a name: of one, of a family, or of keys that the user names (``prompt=KEY,answer=KEY``).

    Raises GogptError DAT306.
    """
    if "=" in name:
        return (key_map(name, where),)
    if name in FAMILIES:
        return tuple(BY_NAME[inner] for inner in FAMILIES[name])
    if name in BY_NAME:
        return (BY_NAME[name],)
    known = [*BY_NAME, *(family for family in FAMILIES if family not in BY_NAME)]
    near = difflib.get_close_matches(name, known, n=1)
    raise GogptError("DAT306", f"no schema is named {name!r}", where=where, expected="auto, " + ", ".join(known),
                     fix=f"did you mean {near[0]!r}?" if near else "leave it out, and it is found")


def detect(rows: Sequence[Row], shown: str, numbers: Sequence[int] | None = None, among: Sequence[Schema] = SCHEMAS) -> Schema:
    """The schema of a file. ``rows``: a sample; ``numbers``: their row numbers, for the message; ``among``: the choice.

    A sample in which nearly every row has one shape is decided (the odd ones are counted row by row later);
    one in which shapes mix is refused. Raises GogptError DAT306 (none), DAT307 (mixed).
    """
    numbers = numbers or range(1, len(rows) + 1)
    claims = [_claimant(row, among) for row in rows]
    counts = Counter(c for c in claims if c)
    if set(counts) > {PROMPT_ONLY.name}:
        del counts[PROMPT_ONLY.name]  # rows that lack the answer: unusable, not another schema
    if not counts:
        raise _no_schema(rows, f"{shown}:{numbers[0]}", among)
    name, most = counts.most_common(1)[0]
    if len(counts) > 1 and most < MOSTLY * sum(counts.values()):
        places = [f"{s} from row {numbers[claims.index(s)]} on ({n} of {len(rows)})" for s, n in counts.most_common()]
        raise GogptError(
            "DAT307", "the file mixes rows of different schemas", where=shown, got="; ".join(places),
            expected="one schema a file",
            fix="split the file, or name the schema to read (schema: " + name + "): rows of another are then counted and left out",
        )
    return BY_NAME[name]


def _claimant(row: Row, among: Sequence[Schema]) -> str | None:
    if among is SCHEMAS:
        return next((s.name for s in among if s.fits(row)), None)  # in order: the first that fits claims
    chosen = {s.name for s in among}
    return next((s.name for s in SCHEMAS if s.name in chosen and s.fits(row)), None)


def unclaimed(schema: Schema, row: Row) -> RowError:
    """Why a row of a file of this schema is not one of its rows."""
    if PROMPT_ONLY.fits(row):
        return RowError("no_answer", f"the row has no key of an answer; {schema.name} wants {schema.wants}")
    return RowError("other_schema", f"not of schema {schema.name}, which wants {schema.wants}")


# -- what to say when none fits --------------------------------------------------------------------


def _no_schema(rows: Sequence[Row], where: str, among: Sequence[Schema]) -> GogptError:
    keys = list(dict.fromkeys(str(k) for row in rows[:20] for k in row))
    known = list(dict.fromkeys(key for s in among for key in s.keys))
    inner = list(dict.fromkeys(str(k) for row in rows[:20] for v in row.values() if isinstance(v, list) for item in v[:20] if isinstance(item, Mapping) for k in item))
    near = {key: word for key in keys if key not in known and (word := _close(key, known))}
    close = {**near, **{key: word for key in inner if key not in INNER and (word := _close(key, INNER))}}
    hints = "; ".join([f"in lists, objects of {', '.join(inner[:12])}"] * bool(inner) + [f"{key!r} is close to {word!r}" for key, word in close.items()])
    nearest = _nearest([{near.get(str(k), str(k)): v for k, v in row.items()} for row in rows[:20]], among)
    rest = ", ".join(s.name for s in among if s not in nearest and s.name != PROMPT_ONLY.name)
    lines = [f"{s.name}: {s.wants}" for s in nearest] + (textwrap.wrap(f"(or another: {rest})", 100) if rest else [])
    return GogptError(
        "DAT306", "no schema fits the rows", where=where,
        got="the keys " + (", ".join(keys[:12]) or "(none)") + (f"  ({hints})" if hints else ""),
        expected="one of\n" + "\n".join("              " + line for line in lines),
        fix="rename the columns, or name them in the recipe (schema: prompt=KEY,answer=KEY); gogpt data inspect shows what a file holds",
    )


def _close(key: str, known: Sequence[str]) -> str | None:
    """A known key of nearly this spelling, or at the end of this one (``my_input``)."""
    match = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    ends = [word for word in known if len(word) > 2 and key.lower().endswith(("_" + word, "-" + word))]
    return match[0] if match else max(ends, key=len, default=None)


def _nearest(rows: Sequence[Row], among: Sequence[Schema]) -> list[Schema]:
    """``rows``: with their keys spelled as the nearest known ones. What would then read them, what reads most of
    their keys, and the plain forms."""
    said = {str(key) for row in rows for key in row}
    fitting = [s for s in among if any(s.fits(row) for row in rows)]
    sharing = sorted((s for s in among if said & set(s.keys)), key=lambda s: (-len(said & set(s.keys)), s.name not in PLAIN, len(s.keys)))
    best = list(dict.fromkeys(s.name for s in (*fitting, *sharing) if s.name != PROMPT_ONLY.name))[:NUM_NEAREST]
    allowed = {s.name: s for s in among}
    return [allowed[name] for name in dict.fromkeys((*best, *PLAIN)) if name in allowed] or list(among)
