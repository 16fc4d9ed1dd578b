"""Whatever stands in a data file: it is refused with one GogptError, or every row of it is accounted for."""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import rows as good_rows
from gogpt.config import DataConfig, SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.prepare import Prepared, prepare
from gogpt.data.read import read_conversations
from gogpt.data.schemas import FAMILIES, SCHEMAS, detect, schema_named
from gogpt.data.schemas.schema import Schema
from gogpt.data.sources import read_rows
from gogpt.errors import GogptError, RowError
from gogpt.records import IGNORE_INDEX, Conversation, Origin
from gogpt.templates import TEMPLATES, pick_template
from gogpt.tokenize import Tokenizer

FEW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
MANY = settings(FEW, max_examples=100)
ORIGIN = Origin(path="a.jsonl", row=1)

BY_SCHEMA: dict[str, list[dict[str, Any]]] = {s.name: [dict(row) for row in s.examples] for s in SCHEMAS}
BY_SCHEMA["openai"] += good_rows(4, turns=3)
VALID = [row for found in BY_SCHEMA.values() for row in found]
KEYS = sorted({key for s in SCHEMAS for key in s.keys} | {
    "role", "content", "from", "value", "tool_calls", "function_call", "train", "weight", "loss_weight", "reasoning_content", "name", "type",
    "human", "assistant", "q", "a", "replies", "turn_1", "Human", "MOSS", "constraints", "arguments", "rank", "score"})

ONE_EACH = {s.name for s in SCHEMAS if s.parts is None and s.join is None}
"""Schemas whose rows hold one conversation each."""
UNANSWERED = "prompt_only"

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=3), max_leaves=12)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [(value, key) for key, _ in inner] + [found for _, v in inner for found in places(v)]


@st.composite
def mutated(draw: st.DrawFn, valid: list[dict[str, Any]] = VALID) -> Any:
    """A valid row with a few of its places replaced, removed or doubled."""
    row = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, 3))):
        found = places(row)
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        kind = draw(st.sampled_from(("replace", "remove", "double", "rename")))
        if kind == "replace":
            holder[key] = draw(values)
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[draw(st.sampled_from(KEYS))] = copy.deepcopy(holder[key])
    return row


def read(data: bytes, name: str, schema: str = "auto") -> tuple[list[Conversation], Ledger] | GogptError:
    """What a file of these bytes gives: its conversations and ledger, or the refusal. Nothing else may be raised."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        ledger = Ledger()
        try:
            return list(read_conversations(SourceConfig.model_validate({"path": str(path), "schema": schema}), ledger)), ledger
        except GogptError as problem:
            return problem


def holds(found: tuple[list[Conversation], Ledger] | GogptError) -> None:
    """A refusal has a code and a place; otherwise the ledger conserves, and every reject says what and where."""
    if isinstance(found, GogptError):
        assert found.code.startswith("DAT")
        assert found.where
        assert found.exit_code == 2
        return
    conversations, ledger = found
    assert ledger.rows_in == len(conversations) + sum(ledger.drops.values())
    assert ledger.conversations == len(conversations)
    assert ledger.conserves
    assert len(ledger.rejects) == sum(ledger.drops.values())
    for reject in ledger.rejects:
        assert reject["reason"] in ledger.drops
        assert reject["origin"]["row"] >= 1
        assert reject["origin"]["path"]
    # The documents that a run writes of it are valid UTF-8.
    json.dumps([ledger.to_dict(), ledger.rejects], ensure_ascii=False, default=str).encode("utf-8")
    seen = [c.origin.row for c in conversations if c.origin] + [r["origin"]["row"] for r in ledger.rejects]
    if set(ledger.schema.values()) <= ONE_EACH or all("=" in name for name in ledger.schema.values()):
        assert sorted(seen) == list(range(1, ledger.rows_in + 1))
    elif not any(schema_named(name).join for name in ledger.schema.values()):
        assert set(seen) == set(range(1, max(seen) + 1)), "a row was lost"


one_schema = st.sampled_from(sorted(BY_SCHEMA)).flatmap(
    lambda name: st.lists(mutated(BY_SCHEMA[name]) | st.sampled_from(BY_SCHEMA[name]), min_size=1, max_size=6))
"""Rows of a file that is mostly of one schema."""


# -- bytes -----------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.txt", "a.parquet", "a.arrow", "a.jsonl.gz", "a.zst", "a"])
BEGINNINGS = st.sampled_from([b"", b"[", b"{", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd",
                              b"PK\x03\x04", b"\n \n", b"text,messages\n", b'{"text": "a"}\n'])


@MANY
@given(begin=BEGINNINGS, data=st.binary(max_size=80), name=NAMES)
def test_any_bytes_are_refused_or_counted(begin: bytes, data: bytes, name: str) -> None:
    holds(read(begin + data, name))


@FEW
@given(text=st.text(st.sampled_from('{}[],:"\\ \n\r\tabutext01eE.-+nulNaI\u00e9\u4eac\ud800'), max_size=60), name=NAMES, encoding=st.sampled_from(["utf-8", "utf-16", "gb18030", "utf-8-sig"]))
def test_any_text_is_refused_or_counted(text: str, name: str, encoding: str) -> None:
    holds(read(text.encode(encoding, "replace"), name))


def valid_file(kind: str) -> tuple[bytes, str]:
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in good_rows(20)).encode()
    if kind == "gz":
        return gzip.compress(lines, mtime=0), "a.jsonl.gz"
    if kind == "zst":
        return zstandard.ZstdCompressor().compress(lines), "a.jsonl.zst"
    if kind == "json":
        return json.dumps(good_rows(20)).encode(), "a.json"
    if kind == "csv":
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["instruction", "output"])
        writer.writerows([f'say "{i}",\n', f"answer {i}"] for i in range(20))
        return out.getvalue().encode(), "a.csv"
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"instruction": f"say {i}", "output": f"answer {i}"} for i in range(20)])
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
        return sink.getvalue(), "a.parquet"
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue(), "a.arrow"


FILES = {kind: valid_file(kind) for kind in ("gz", "zst", "json", "csv", "parquet", "arrow")}


@MANY
@given(kind=st.sampled_from(sorted(FILES)), data=st.data())
def test_a_damaged_file_is_refused_or_counted(kind: str, data: st.DataObject) -> None:
    whole, name = FILES[kind]
    at = data.draw(st.integers(0, len(whole) - 1))
    damage = data.draw(st.sampled_from(("cut", "flip", "zero")))
    broken = whole[:at] if damage == "cut" else whole[:at] + (bytes([whole[at] ^ 0xFF]) if damage == "flip" else b"\0" * 8) + whole[at + 1:]
    holds(read(broken, name))


@pytest.mark.parametrize("kind", sorted(FILES))
def test_no_file_that_ends_early_is_taken_for_whole(kind: str) -> None:
    """Cut anywhere, a compressed or columnar file is refused; none gives fewer rows without a word."""
    whole, name = FILES[kind]
    intact = read(whole, name)
    assert not isinstance(intact, GogptError)
    assert len(intact[0]) == 20
    if kind == "csv":
        return  # a text: its rows before the cut are whole rows
    for at in range(1, len(whole) - 1, max(1, len(whole) // 40)):
        found = read(whole[:at], name)
        assert isinstance(found, GogptError), f"{kind} cut to {at} of {len(whole)} bytes gave {len(found[0])} rows"


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_no_flipped_byte_ends_the_process(kind: str) -> None:
    """An offset that leads outside a memory-mapped file once ended Python with a bus error."""
    whole, name = FILES[kind]
    for at in range(8, len(whole), 3):
        holds(read(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1:], name))


# -- rows ------------------------------------------------------------------------------------------


@MANY
@given(items=st.lists(mutated() | values, min_size=1, max_size=5) | one_schema, array=st.booleans(), ascii_only=st.booleans(), schema=st.sampled_from(["auto", *(s.name for s in SCHEMAS), *FAMILIES, "prompt=text,answer=output"]))
def test_any_rows_are_refused_or_counted(items: list[Any], array: bool, ascii_only: bool, schema: str) -> None:
    if array:
        data = json.dumps(items, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        holds(read(data, "a.json", schema))
    else:
        lines = [json.dumps(item, ensure_ascii=ascii_only) for item in items]
        holds(read("\n".join(lines).encode("utf-8", "surrogatepass"), "a.jsonl", schema))


@FEW
@given(header=st.lists(st.sampled_from(["instruction", "input", "output", "text", "system", "", "x"]) | st.text(max_size=4), min_size=1, max_size=4),
       body=st.lists(st.lists(st.text(max_size=8), max_size=5), max_size=4), kind=st.sampled_from(["csv", "tsv"]))
def test_any_table_is_refused_or_counted(header: list[str], body: list[list[str]], kind: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter="," if kind == "csv" else "\t", escapechar="\\")
    writer.writerow(header)
    writer.writerows(body)
    holds(read(out.getvalue().encode("utf-8", "replace"), f"a.{kind}"))


@FEW
@given(items=st.lists(st.sampled_from(VALID), min_size=1, max_size=4), broken=st.lists(st.sampled_from(["{", "nope", '{"text": "a"', "[1, 2]", "5", "null", '"x"', '{"text": "\\ud800"}', "{" * 200]), max_size=3))
def test_broken_lines_among_good_ones_cost_themselves_alone(items: list[Any], broken: list[str]) -> None:
    name = schema_of(items[0])
    assert name is not None
    schema = schema_named(name)
    items = [row for row in items if schema_of(row) == name]
    if name == UNANSWERED or schema.join is not None:
        return
    lines = [json.dumps(row) for row in items]
    lines[1:1] = broken
    found = read("\n".join(lines).encode(), "a.jsonl")
    assert not isinstance(found, GogptError)
    holds(found)
    assert len(found[0]) == sum(len(schema.parts(row)) if schema.parts else 1 for row in items)
    assert [r["origin"]["row"] for r in found[1].rejects] == list(range(2, 2 + len(broken)))


@FEW
@given(items=st.lists(mutated(), min_size=1, max_size=5))
def test_rows_come_in_order_with_their_numbers(items: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("\n\n".join(json.dumps(item) for item in items), encoding="utf-8")
        found = list(read_rows(path))
    assert [origin.row for _, origin in found] == list(range(1, len(items) + 1))
    for (row, _), item in zip(found, items, strict=True):
        assert isinstance(row, RowError) or json.dumps(row) == json.dumps(item)


# -- schemas ---------------------------------------------------------------------------------------


def schema_of(row: Any) -> str | None:
    found = [s.name for s in SCHEMAS if s.claims(row)]
    assert len(found) <= 1, f"{found} claim {row}"
    return found[0] if found else None


def test_schemas_are_listed_once() -> None:
    names = [s.name for s in SCHEMAS]
    assert len(set(names)) == len(names)
    assert all(schema_named(name).name == name for name in names)
    assert all(s.wants and s.doc and s.examples for s in SCHEMAS)


@pytest.mark.parametrize(("schema", "row"), [(s, row) for s in SCHEMAS for row in s.examples], ids=lambda x: x.name if isinstance(x, Schema) else None)
def test_an_example_is_claimed_by_its_schema_alone_and_converts(schema: Schema, row: Any) -> None:
    assert schema_of(row) == schema.name
    assert detect([row], "a.jsonl").name == schema.name
    if schema.name == UNANSWERED or schema.join is not None:
        return  # no row of these is a conversation by itself: tests/test_schemas.py
    conversation = schema.to_conversation(row, ORIGIN)
    assert conversation.origin == ORIGIN
    assert conversation.messages
    assert conversation == schema.to_conversation(copy.deepcopy(row), ORIGIN)


@pytest.mark.parametrize(("schema", "row"), [(s, row) for s in SCHEMAS for row in s.not_mine], ids=lambda x: x.name if isinstance(x, Schema) else None)
def test_what_is_not_mine_is_not_claimed(schema: Schema, row: Any) -> None:
    assert not schema.claims(row)


@pytest.mark.parametrize("name", sorted(BY_SCHEMA))
@settings(FEW, max_examples=25)
@given(data=st.data())
def test_mutated_rows_of_every_schema_are_refused_or_counted(name: str, data: st.DataObject) -> None:
    """Found by themselves, and read by the schema's name, whatever was done to them."""
    items = data.draw(st.lists(mutated(BY_SCHEMA[name]), min_size=1, max_size=4))
    lines = "\n".join(json.dumps(item) for item in items).encode("utf-8", "surrogatepass")
    holds(read(lines, "a.jsonl"))
    holds(read(lines, "a.jsonl", name))


@MANY
@given(row=mutated() | st.dictionaries(st.sampled_from(KEYS), values, max_size=5))
def test_one_schema_at_most_claims_a_row_and_converts_it_the_same_twice(row: dict[str, Any]) -> None:
    name = schema_of(row)
    if name is None:
        return
    schema = schema_named(name)
    before = json.dumps(row)

    def convert() -> Conversation | tuple[str, str]:
        try:
            return schema.to_conversation(row, ORIGIN)
        except RowError as problem:
            return problem.reason, problem.detail

    first = convert()
    assert first == convert() or "nan" in repr(first).lower()  # NaN is not equal to itself
    assert json.dumps(row) == before, "the row was changed"
    assert isinstance(first, Conversation) or first[0]
    if isinstance(first, Conversation):
        assert first.is_text or any(m.role == "assistant" and (m.content.strip() or m.tool_calls) for m in first.messages)
        assert all(isinstance(m.content, str) for m in first.messages)


# -- examples --------------------------------------------------------------------------------------

POLICY = {"train_on": st.sampled_from(["assistant", "last", "all"]), "overlong": st.sampled_from(["drop", "truncate", "split", "error"]),
          "special_text": st.sampled_from(["error", "drop", "keep"]), "max_length": st.sampled_from([2, 3, 24, 64, 512]), "eval": st.sampled_from([0, 0.3])}


@pytest.fixture(scope="module")
def tokenizers(tiny: Path, tiny_llama: Path) -> tuple[Tokenizer, ...]:
    return Tokenizer(tiny), Tokenizer(tiny_llama)


def prepare_rows(items: list[Any], tokenizer: Tokenizer, template: str, policy: dict[str, Any]) -> Prepared | GogptError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_text("\n".join(json.dumps(item) for item in items), encoding="utf-8")
        config = DataConfig.model_validate({"train": [{"path": str(path)}], **policy})
        try:
            return prepare(config, tokenizer, pick_template(template, tokenizer))
        except GogptError as problem:
            return problem


@MANY
@given(policy=st.fixed_dictionaries(POLICY), which=st.integers(0, 1), template=st.sampled_from(["auto", *(t.name for t in TEMPLATES)]),
       items=one_schema)
def test_every_conversation_kept_trains_something(policy: dict[str, Any], which: int, template: str, items: list[Any],
                                                  tokenizers: tuple[Tokenizer, ...]) -> None:
    tokenizer = tokenizers[which]
    if template == "auto" and not tokenizer.chat_template:
        template = "chatml"
    found = prepare_rows(items, tokenizer, template, policy)
    if isinstance(found, GogptError):
        assert found.code in ("DAT303", "DAT306", "DAT307", "DAT308", "TOK409")
        return
    ledger = found.ledger
    assert ledger.conserves
    assert ledger.rows_in == ledger.conversations + sum(ledger.drops.values())
    kept: set[int] = set()
    for example in (*found.train, *found.eval):
        assert example.input_ids.size == example.labels.size <= policy["max_length"]
        trained = example.labels != IGNORE_INDEX
        assert np.array_equal(example.labels[trained], example.input_ids[trained])
        assert example.num_trained >= 1
        assert not trained[0]
        kept.add(example.origin.row)
    whole = kept | {r["origin"]["row"] for r in ledger.rejects}
    if set(ledger.schema.values()) <= ONE_EACH:
        assert ledger.rows_in == len(items)
        assert len(kept) == ledger.conversations
    if not any(schema_named(name).join for name in ledger.schema.values()):
        assert whole == set(range(1, len(items) + 1))
    assert found.facts.rows_in == ledger.rows_in
    again = prepare_rows(items, tokenizer, template, policy)
    assert not isinstance(again, GogptError)
    assert again.train.digest() == found.train.digest()
