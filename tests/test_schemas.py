"""Every schema reads what it should and says what it did; real files give the counts that were made without this code."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED, needs_shared, write_jsonl
from gogpt.config import SourceConfig
from gogpt.data.ledger import Ledger
from gogpt.data.read import SEVERAL, read_conversations
from gogpt.data.schemas import (
    BY_NAME,
    FAMILIES,
    NUM_NEAREST,
    PLAIN,
    SCHEMAS,
    detect,
    schema_named,
    schemas_named,
)
from gogpt.data.schemas.schema import Schema
from gogpt.data.shapes.fields import NO_INPUT
from gogpt.data.shapes.marks import HH, MOSS_002, turns_of_prompt, turns_of_text
from gogpt.errors import GogptError, RowError
from gogpt.records import Conversation, Message, Origin

ORIGIN = Origin(path="a.jsonl", row=1)


def read(path: Path, schema: str = "auto", **more: Any) -> tuple[list[Conversation], Ledger]:
    ledger = Ledger()
    found = list(read_conversations(SourceConfig.model_validate({"path": str(path), "schema": schema, **more}), ledger))
    assert ledger.conserves
    assert ledger.conversations == len(found)
    return found, ledger


def only(tmp_path: Path, rows: Sequence[Any], schema: str = "auto") -> tuple[list[Conversation], Ledger]:
    return read(write_jsonl(tmp_path / "a.jsonl", list(rows)), schema)


def said(conversation: Conversation) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in conversation.messages]


def converted(row: Any) -> tuple[Conversation, list[str]]:
    """The conversation of a row, by the schema that claims it, and what was noted."""
    (schema,) = [s for s in SCHEMAS if s.claims(row)]
    notes: list[str] = []
    return schema.to_conversation(row, ORIGIN, notes.append), notes


# -- real files ------------------------------------------------------------------------------------

DISPUTED = {
    "custom_keys/single_turn.json": "keys of the user's own (toy_input, toy_output): refused by itself, with the near keys named, as datasets.md "
    "asks; the counts are reached when the recipe names the keys",
}
"""Files whose counts are not reached by detection alone, and why."""
NAMED = {"custom_keys/single_turn.json": "system=toy_system,prompt=toy_input,answer=toy_output"}
REASONS = {"blank answer": "empty_answer", "no answer (prompt only)": "no_answer", "line is not JSON": "unreadable"}
"""The manifest's words, and the ledger's."""

MANIFEST: list[dict[str, Any]] = json.loads((SHARED / "data" / "MANIFEST.json").read_text(encoding="utf-8")) if SHARED.is_dir() else []


@needs_shared
@pytest.mark.parametrize("entry", MANIFEST, ids=lambda e: e["path"])
def test_a_real_file_gives_its_counts(entry: dict[str, Any]) -> None:
    path = entry["path"]
    found, ledger = read(SHARED / "data" / path, NAMED.get(path, "auto"))
    texts = sum(c.is_text for c in found)
    messages = [m for c in found for m in c.messages]
    assert {
        "conversations": len(found) - texts, "texts": texts,
        "turns": sum(m.role == "user" for m in messages),
        "assistant_messages": sum(m.role == "assistant" and bool(m.content.strip() or m.tool_calls) for m in messages),
    } == {"texts": 0, **entry["expected"]}
    assert ledger.drops == {REASONS[reason]: count for reason, count in entry["unusable"].items()}
    assert all(len(ledger.first[reason]) for reason in ledger.drops)
    assert ledger.rows_in == entry["rows"]
    assert not any(m.train for m in messages if m.role in ("user", "tool", "system"))


@needs_shared
@pytest.mark.parametrize("path", DISPUTED)
def test_what_is_disputed_is_refused(path: str) -> None:
    with pytest.raises(GogptError, match="no schema fits") as caught:
        read(SHARED / "data" / path)
    assert caught.value.code == "DAT306"
    assert "'toy_input' is close to 'input'" in str(caught.value)
    assert "prompt=KEY,answer=KEY" in str(caught.value.fix)
    assert str(caught.value.expected).splitlines()[1].strip().startswith("input_output: input, output")


@needs_shared
@pytest.mark.parametrize(("path", "count"), [("alpaca/alpaca_en_demo_odd_inputs.json", 8), ("codealpaca/code_alpaca_2k_odd_rows.json", 1), ("gpteacher/roleplay_0.6_odd_rows.json", 3)])
def test_real_inputs_that_say_there_is_none(path: str, count: int) -> None:
    found, ledger = read(SHARED / "data" / path)
    assert ledger.notes == {"inputs that only say that there is none (noinput, ...): read as empty": count}
    assert not any("input" in m.content[-14:].lower() for c in found for m in c.messages if m.role == "user")


@needs_shared
@pytest.mark.parametrize(("path", "roles"), [
    ("tool_calls/glaive_toolcall_en_demo.json", {"user", "assistant", "tool"}),
    ("tool_calls/reason_tool_use_demo_50.jsonl", {"system", "user", "assistant", "tool"}),
    ("tool_calls/xlam_row1234.jsonl", {"user", "assistant"}),
])
def test_real_tool_calls_are_in_openais_form(path: str, roles: set[str]) -> None:
    found, _ = read(SHARED / "data" / path)
    assert {m.role for c in found for m in c.messages} == roles
    calls = [call for c in found for m in c.messages for call in m.tool_calls]
    assert calls
    for call in calls:
        assert call["type"] == "function"
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    assert all(tool["type"] == "function" and tool["function"]["name"] for c in found for tool in c.tools)
    if "reason" in path:
        assert any(m.reasoning for c in found for m in c.messages)


@needs_shared
def test_no_mark_of_another_template_is_left_in_real_texts() -> None:
    for path, mark in (("sharegpt/dev_sft.csv", "<s>"), ("preference/hh_harmless-base_test.jsonl.gz", "\n\nHuman:"), ("prompt_completion/yi_eval.jsonl", "Human:"),
                       ("moss/honest_conversations", "<|Human|>"), ("moss/honest_conversations", "<eom>"), ("preference/dummy-dpo.jsonl", "<extra_id_1>")):
        for conversation in read(SHARED / "data" / path)[0]:
            assert not any(mark in m.content for m in conversation.messages), (path, mark)


# -- which schema ----------------------------------------------------------------------------------

EARLIER_WINS = {
    "preference": {"openai", "sharegpt"}, "kto": {"alpaca", "openai", "prompt_completion"}, "moss_002": {"text"}, "oasst": {"text"},
    "coig_translated": {"alpaca", "input_output"}, "alpaca": {"input_output"}, "dolly": {"airoboros", "gpteacher"}, "airoboros": {"gpteacher"},
    "marked_text": {"text"},
}
"""Schemas whose rows a later one would fit as well. Whatever is not here is told apart by keys and kinds of value alone."""


def test_the_order_decides_only_where_it_is_said() -> None:
    found: dict[str, set[str]] = {}
    for schema in SCHEMAS:
        for row in schema.examples:
            found.setdefault(schema.name, set()).update(s.name for s in SCHEMAS if s is not schema and s.fits(row))
    assert {name: others for name, others in found.items() if others} == EARLIER_WINS


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_examples_of_a_schema_are_a_file_of_it(schema: Schema, tmp_path: Path) -> None:
    found, ledger = only(tmp_path, schema.examples)
    assert list(ledger.schema.values()) == [schema.name]
    if schema.name == "prompt_only":
        assert found == []
        assert ledger.drops == {"no_answer": len(schema.examples)}
        return
    assert not ledger.drops
    assert len(found) >= (1 if schema.join else len(schema.examples))
    assert only(tmp_path, schema.examples, schema.name)[0] == found
    assert len(schema.examples) >= 2
    assert set().union(*map(set, schema.examples)) & set(schema.keys)


@pytest.mark.parametrize(("rows", "name"), [
    ([{"instruction": "a", "input": "", "output": "b", "text": "a b"}], "alpaca"),
    ([{"instruction": "a", "input": "", "response": "b", "output": "b"}], "alpaca"),
    ([{"instruction": "a", "output": "b", "text": None, "messages": None}], "alpaca"),
    ([{"text": "a", "instruction": None, "output": None}], "text"),
    ([{"prompt": "a", "completion": "b", "text": "a b"}], "prompt_completion"),
    ([{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "instruction": "a", "response": "b"}], "sharegpt"),
    ([{"problem": "a", "solution": "b", "answer": "c", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "openai"),
    ([{"id": 1, "conversation": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "openai"),
    ([{"conversations": [], "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}], "openai"),
    ([{"system": "a", "question": "b", "chosen": "c", "rejected": "d"}], "preference"),
    ([{"chosen_messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "rejected_messages": []}], "preference"),
    ([{"input": "a", "target": "b", "answer_choices": None, "task_type": "x", "task_dataset": "y", "sample_id": "z"}], "firefly"),
    ([{"input": "a", "output": "b", "source": "c", "subset": "d"}], "input_output"),
])
def test_rows_that_could_be_read_in_two_ways(rows: list[Any], name: str) -> None:
    assert detect(rows, "a.jsonl").name == name


@pytest.mark.parametrize("row", [
    {"text": "a", "prompt": "b"}, {"promt": "a", "response": "b"}, {"instruction": "a", "ouput": "b"}, {"role": "user", "content": "a"},
    {"question": "a", "answer": ["b"]}, {"messages": [{"toy_input": "a", "toy_output": "b"}]}, {"output": ["a", "b"]}, {"title": "a"},
    {"source_text": "a", "target_text": "b"}, {"instruction": None, "output": None},
])
def test_what_no_schema_may_guess_at(row: dict[str, Any]) -> None:
    assert [s.name for s in SCHEMAS if s.claims(row)] == []


def test_keys_that_come_and_go_do_not_make_another_schema(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"instruction": f"a{i}", "input": "", "response": "b"} for i in range(40)]
    rows[0] = {**rows[0], "example_input": "x"}
    rows[7] = {**rows[7], "system": "s"}
    rows[9] = {"instruction": "no answer", "input": ""}
    found, ledger = only(tmp_path, rows)
    assert list(ledger.schema.values()) == ["gpteacher"]
    assert ledger.drops == {"no_answer": 1}
    assert len(found) == 39


def test_mixed_schemas_are_refused_and_can_be_named(tmp_path: Path) -> None:
    rows: list[Any] = [{"question": "a", "answer": "b"}, {"query": "c", "response": "d"}] * 3
    with pytest.raises(GogptError, match="mixes rows") as caught:
        only(tmp_path, rows)
    assert caught.value.code == "DAT307"
    found, ledger = only(tmp_path, rows, "query_response")
    assert len(found) == 3
    assert ledger.drops == {"other_schema": 3}


def test_an_unknown_shape_names_the_nearest_schemas_and_the_rest() -> None:
    with pytest.raises(GogptError) as caught:
        detect([{"questions": "a", "responce": "b", "system_promt": ""}], "a.jsonl")
    problem = caught.value
    assert problem.code == "DAT306"
    assert "'questions' is close to 'question'" in str(problem.got)
    lines = [line.strip() for line in str(problem.expected).splitlines()[1:]]
    listed = [line.partition(":")[0] for line in lines if not line.startswith("(or another")][: NUM_NEAREST + len(PLAIN)]
    assert listed[0] == "openorca"
    assert set(PLAIN) <= set(listed)
    assert all(s.name in str(problem.expected) for s in SCHEMAS if s.name != "prompt_only")
    assert len(lines) <= NUM_NEAREST + len(PLAIN) + 5
    assert max(map(len, lines)) < 140
    assert "gogpt data inspect" in str(problem.fix)


def test_keys_inside_a_list_that_are_nearly_known_are_named() -> None:
    with pytest.raises(GogptError) as caught:
        detect([{"messages": [{"toy_input": "a", "toy_output": "b"}]}], "a.jsonl")
    assert caught.value.got == "the keys messages  (in lists, objects of toy_input, toy_output; 'toy_input' is close to 'input'; 'toy_output' is close to 'output')"


# -- schemas by name -------------------------------------------------------------------------------


def test_families_name_schemas_that_exist() -> None:
    for name, inner in FAMILIES.items():
        assert schemas_named(name) == tuple(BY_NAME[n] for n in inner)
    assert all(schemas_named(s.name)[0].name in (s.name, FAMILIES.get(s.name, ("",))[0]) for s in SCHEMAS)
    assert schema_named("firefly").name == "firefly"


@pytest.mark.parametrize(("family", "row", "name"), [
    ("firefly", {"kind": "a", "input": "b", "target": "c"}, "firefly"),
    ("firefly", {"conversation_id": 1, "conversation": [{"human": "a", "assistant": "b"}]}, "turn_pairs"),
    ("wizardlm", {"instruction": "a", "output": "b"}, "alpaca"),
    ("wizardlm", {"idx": "a", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sharegpt"),
    ("code_alpaca", {"instruction": "a", "input": "", "output": "b"}, "alpaca"),
    ("guanaco", {"text": "### Human: a### Assistant: b"}, "marked_text"),
    ("camel", {"message_1": {"content": "a"}, "message_2": {"content": "b"}}, "camel_society"),
])
def test_a_family_is_read_in_each_of_its_forms(family: str, row: Any, name: str, tmp_path: Path) -> None:
    found, ledger = only(tmp_path, [row], family)
    assert list(ledger.schema.values()) == [name]
    assert len(found) == 1


def test_a_family_is_not_read_in_another_form(tmp_path: Path) -> None:
    with pytest.raises(GogptError) as caught:
        only(tmp_path, [{"instruction": "a", "output": "b"}], "moss")
    assert caught.value.code == "DAT306"
    assert "moss: chat" in str(caught.value.expected)
    assert "alpaca" not in str(caught.value.expected)


def test_a_schema_named_by_the_user_is_read_also_where_another_would_claim_the_row(tmp_path: Path) -> None:
    row = {"problem": "a", "solution": "b", "messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}
    assert said(only(tmp_path, [row])[0][0]) == [("user", "c"), ("assistant", "d")]
    assert said(only(tmp_path, [row], "question_answer")[0][0]) == [("user", "a"), ("assistant", "b")]


def test_keys_of_the_users_own(tmp_path: Path) -> None:
    rows = [{"frage": "Hi", "antwort": "Hello", "regel": "Be kind.", "davor": [["a", "b"]], "daten": "x"}]
    found, ledger = only(tmp_path, rows, "prompt=frage, answer=antwort, system=regel, history=davor, input=daten")
    assert said(found[0]) == [("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "Hi\nx"), ("assistant", "Hello")]
    (name,) = ledger.schema.values()
    assert schema_named(name).fits(rows[0])
    assert only(tmp_path, [{"x": 1}, *rows], "prompt=frage,answer=antwort")[1].drops == {"other_schema": 1}


@pytest.mark.parametrize("spec", ["prompt=a", "answer=b", "prompt=a,answer=", "prompt=a,anwser=b", "prompt=a,answer=b,prompt=c", "=", "prompt=a,answer=b,"])
def test_keys_that_cannot_be_read_are_refused(spec: str, tmp_path: Path) -> None:
    with pytest.raises(GogptError, match="keys of the schema") as caught:
        only(tmp_path, [{"a": "x", "b": "y"}], spec)
    assert caught.value.code == "DAT306"
    assert str(caught.value.where).endswith("a.jsonl")


def test_a_name_that_is_nearly_one(tmp_path: Path) -> None:
    for name, near in (("opnai", "openai"), ("wizard_lm", "wizardlm"), ("fireflies", "firefly")):
        with pytest.raises(GogptError, match="no schema is named") as caught:
            only(tmp_path, [{"text": "a"}], name)
        assert caught.value.fix == f"did you mean {near!r}?"


# -- rows of several conversations, and messages that are one --------------------------------------

UNNATURAL = {"instruction": "Is it warm? {INPUT}", "instances": [
    {"instruction_with_input": "Is it warm? 30 C", "input": "30 C", "constraints": "Say yes or no.", "output": "yes"},
    {"instruction_with_input": "Is it warm? -5 C", "input": "-5 C", "constraints": "None.", "output": " "}],
    "reformulations": [{"instruction": "Warm: {INPUT}", "instruction_with_input": "Warm: 30 C", "input": "30 C", "output": "yes"}]}


def test_every_instance_is_counted(tmp_path: Path) -> None:
    found, ledger = only(tmp_path, [UNNATURAL, {"instruction": "Say hi.", "instances": [{"input": "", "output": "Hi."}]}, {"instruction": "None.", "instances": []}])
    assert [said(c)[0][1] for c in found] == ["Is it warm? 30 C\nSay yes or no.", "Warm: 30 C", "Say hi."]
    assert [str(c.origin).rpartition(":")[2] for c in found] == ["1", "1", "2"]
    assert ledger.rows_in == 5
    assert ledger.drops == {"empty_answer": 1, "no_answer": 1}
    assert ledger.notes[SEVERAL] == 1
    assert [r["origin"]["row"] for r in ledger.rejects] == [1, 3]
    assert ledger.rejects[0]["data"]["instances"][0]["output"] == " "


def test_a_placeholder_without_the_whole_prompt_is_filled() -> None:
    conversation, _ = converted({"instruction": "Warm: {INPUT}?", "instances": [{"input": "30 C", "output": "yes"}]})
    assert said(conversation)[0] == ("user", "Warm: 30 C?")


def oasst(number: str, parent: str | None, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": number, "parent_id": parent, "text": text, "role": more.pop("role", "assistant" if text.islower() else "prompter"), "deleted": False,
            "review_result": True, "rank": None, **more}


def test_messages_of_a_flat_export_are_joined(tmp_path: Path) -> None:
    found, ledger = only(tmp_path, [
        oasst("b", "a", "hello"), oasst("a", None, "HI"), oasst("c", "a", "good day"), oasst("d", "c", "AND?"), oasst("e", "d", "fine"),
        oasst("f", "d", "deleted", deleted=True), oasst("g", "nowhere", "lost"), oasst("h", None, "ALONE"), oasst("e", "d", "again"),
        {"text": "no message"}, oasst("i", "a", "spam", review_result=False)], "oasst")
    assert [[text for _, text in said(c)] for c in found] == [["HI", "hello"], ["HI", "good day", "AND?", "fine"]]
    assert [c.origin.row for c in found if c.origin] == [1, 5]
    assert ledger.drops == {"deleted": 1, "failed_review": 1, "orphan": 1, "no_answer": 1, "duplicate_id": 1, "other_schema": 1}
    assert ledger.rows_in == 8
    assert ledger.notes["rows that are single messages: joined into conversations by parent_id"] == 9


def test_messages_that_answer_each_other_in_a_circle_are_not_lost(tmp_path: Path) -> None:
    _, ledger = only(tmp_path, [oasst("a", "b", "hi"), oasst("b", "a", "hello"), oasst("c", None, "HI"), oasst("d", "c", "hello")])
    assert ledger.drops == {"cycle": 2}
    assert ledger.rows_in == 3


def test_a_tree_of_replies_gives_every_path(tmp_path: Path) -> None:
    tree = {"message_tree_id": "a", "prompt": {"text": "HI", "role": "prompter", "replies": [
        {"text": "hello", "role": "assistant", "replies": []},
        {"text": "bad", "role": "assistant", "deleted": True, "replies": [{"text": "AND?", "role": "prompter"}]},
        {"text": "good day", "role": "assistant", "replies": [{"text": "AND?", "role": "prompter", "replies": [{"text": "fine", "role": "assistant"}]}]}]}}
    found, ledger = only(tmp_path, [tree])
    assert [[text for _, text in said(c)] for c in found] == [["HI", "hello"], ["HI", "good day", "AND?", "fine"]]
    assert ledger.drops == {"deleted": 1}
    assert ledger.rows_in == 3


# -- turns -----------------------------------------------------------------------------------------


def turns(*pairs: tuple[str, str | None], **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": who, "value": text} for who, text in pairs], **more}


def test_who_speaks_is_known_in_many_spellings() -> None:
    conversation, _ = converted(turns(("Human", "a"), ("GPT", "b"), ("User", "c"), ("yayi", "d"), ("user", "e"), ("chatgpt", "f"), ("function", "g"), ("bing", "h")))
    assert [m.role for m in conversation.messages] == ["user", "assistant"] * 3 + ["tool", "assistant"]
    with pytest.raises(RowError, match=r"message 2 has the role 'alien'"):
        converted(turns(("human", "a"), ("alien", "b")))


def test_unusual_turns_are_kept_and_counted(tmp_path: Path) -> None:
    found, ledger = only(tmp_path, [
        turns(("gpt", "a"), ("human", "b"), ("gpt", "c")), turns(("human", "a"), ("human", "b"), ("gpt", "c")), turns(("human", "a"), ("gpt", "b"), ("human", "c")),
        turns(("human", "a"), ("system", "s"), ("gpt", "b")), turns(("human", "a"), ("gpt", None), ("human", "b"), ("gpt", "c"))])
    assert [len(c.messages) for c in found] == [3, 3, 3, 3, 4]
    assert found[4].messages[1] == Message(role="assistant", content="", train=False)
    assert ledger.notes == {
        "conversations that begin with the assistant: kept": 1, "conversations with two turns of one role in a row: kept": 1,
        "conversations that end with the user: kept, the last turn has no answer": 1,
        "conversations with a system message after the first message: kept": 1,
        "conversations with a blank answer inside: kept, that answer is not trained": 1}


def test_a_system_message_stands_once() -> None:
    assert [r for r, _ in said(converted(turns(("system", "s "), ("human", "a"), ("gpt", "b"), system="s"))[0])] == ["system", "user", "assistant"]
    assert said(converted(turns(("human", "a"), ("gpt", "b"), system_prompt="s", system=""))[0])[0] == ("system", "s")
    assert [r for r, _ in said(converted(turns(("human", "a"), ("gpt", "b"), system=None, system_prompt=" "))[0])] == ["user", "assistant"]


@pytest.mark.parametrize(("flags", "train"), [
    ({}, None), ({"weight": None}, None), ({"weight": 0}, False), ({"weight": 1.0}, True), ({"loss_weight": 0.0}, False), ({"loss_weight": 1}, True),
    ({"train": False, "weight": 1}, False), ({"train": True}, True), ({"loss": False}, False),
])
def test_a_flag_of_an_answer_is_carried(flags: dict[str, Any], train: bool | None) -> None:
    for row in ({"messages": [{"role": "user", "content": "a", "loss_weight": 0.0}, {"role": "assistant", "content": "b", **flags}]},
                {"conversations": [{"from": "human", "value": "a", "weight": 0.0}, {"from": "gpt", "value": "b", **flags}]}):
        conversation, notes = converted(row)
        assert [m.train for m in conversation.messages] == [None, train]
        assert notes == []


def test_a_flag_that_cannot_be_followed() -> None:
    with pytest.raises(RowError, match="weight is 7"):
        converted({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 7}]})
    conversation, notes = converted({"messages": [{"role": "user", "content": "a", "loss_weight": 1.0}, {"role": "assistant", "content": "b"}]})
    assert conversation.messages[0].train is None
    assert notes == ["messages marked for training that are no answers: not trained"]
    with pytest.raises(RowError, match="some trained and some not"):
        converted({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [
            {"type": "text", "value": "b", "loss_weight": 0}, {"type": "text", "value": "c", "loss_weight": 1}]}]})


def test_the_mask_names_who_is_not_trained() -> None:
    for mask, train in (("User", None), ("Assistant", False), ("", None), (None, None)):
        conversation, notes = converted(turns(("User", "a"), ("Assistant", "b"), mask=mask))
        assert [m.train for m in conversation.messages] == [None, train]
        assert bool(notes) == (train is False)
    with pytest.raises(RowError, match="mask names 'Nobody'"):
        converted(turns(("User", "a"), ("Assistant", "b"), mask="Nobody"))


# -- tools -----------------------------------------------------------------------------------------

CLOCK = {"type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}


@pytest.mark.parametrize("answer", [
    {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}]},
    {"tool_calls": [{"function": {"name": "clock", "arguments": {"zone": "UTC"}}}]},
    {"tool_calls": [{"name": "clock", "arguments": {"zone": "UTC"}}]},
    {"tool_calls": '[{"name": "clock", "arguments": {"zone": "UTC"}}]'},
    {"function_call": {"name": "clock", "arguments": '{"zone": "UTC"}'}},
    {"content": [{"type": "tool_call", "value": '{"name": "clock", "arguments": {"zone": "UTC"}}'}]},
    {"content": [{"type": "tool_call", "value": {"name": "clock", "parameters": {"zone": "UTC"}}}], "tool_calls": None},
])
def test_tool_calls_get_one_form(answer: dict[str, Any]) -> None:
    conversation, _ = converted({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", **answer}, {"role": "tool", "content": "noon", "tool_call_id": "1"},
                                              {"role": "assistant", "content": "Noon."}]})
    (call,) = conversation.messages[1].tool_calls
    assert {k: v for k, v in call.items() if k != "id"} == CLOCK
    assert ("id" in call) == ("id" in (answer.get("tool_calls") or [{}])[0])
    assert conversation.messages[2].to_dict() == {"role": "tool", "content": "noon", "tool_call_id": "1"}


def test_function_calls_of_sharegpt() -> None:
    conversation, _ = converted(turns(("human", "a"), ("function_call", '[{"name": "clock", "arguments": {"zone": "UTC"}}, {"name": "b"}]'), ("observation", "x"), ("gpt", "y"),
                                      tools='[{"name": "clock", "parameters": {}}]'))
    assert [m.role for m in conversation.messages] == ["user", "assistant", "tool", "assistant"]
    assert conversation.messages[1].tool_calls[0] == CLOCK
    assert conversation.messages[1].tool_calls[1]["function"] == {"name": "b", "arguments": "{}"}
    assert conversation.tools == ({"type": "function", "function": {"name": "clock", "parameters": {}}},)
    for bad in ("no JSON", "[]", '{"arguments": {}}', "5"):
        with pytest.raises(RowError):
            converted(turns(("human", "a"), ("function_call", bad), ("gpt", "y")))
    for none in ("", "[]", None, []):
        assert converted(turns(("human", "a"), ("gpt", "b"), tools=none))[0].tools == ()


def test_reasoning_is_apart_from_the_answer() -> None:
    parts = [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "b"}]
    for answer in ({"content": "b", "reasoning_content": "hm"}, {"content": "b", "reasoning": "hm"}, {"content": parts}):
        conversation, _ = converted({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", **answer}]})
        assert (conversation.messages[1].content, conversation.messages[1].reasoning) == ("b", "hm")
    with pytest.raises(RowError, match="only an answer"):
        converted({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "b"}]})


@pytest.mark.parametrize(("text", "wanted"), [
    ('Search("a (b), c")', [("Search", {"query": "a (b), c"})]), ("Calculate(f(1)+1), Solve(x=1)", [("Calculate", {"expression": "f(1)+1"}), ("Solve", {"equation": "x=1"})]),
    ('Search("a")\nSearch("b"),', [("Search", {"query": "a"}), ("Search", {"query": "b"})]), ("Own(1)", [("Own", {"input": "1"})]), ("look it up", None), ("Search(", None),
])
def test_commands_of_moss(text: str, wanted: list[tuple[str, dict[str, str]]] | None) -> None:
    row = {"chat": {"turn_1": {"Human": "<|Human|>: a<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: hm<eot>\n", "Commands": f"<|Commands|>: {text}<eoc>\n",
                               "Tool Responses": "<|Results|>:\nx\n<eor>\n", "MOSS": "<|MOSS|>: b<eom>\n"}}}
    if wanted is None:
        with pytest.raises(RowError, match="bad_tool_call"):
            converted(row)
        return
    messages = converted(row)[0].messages
    assert [(m.role, m.content, m.reasoning) for m in messages] == [("user", "a", None), ("assistant", "", "hm"), ("tool", "x", None), ("assistant", "b", None)]
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in messages[1].tool_calls] == wanted


def test_turns_of_moss_come_by_their_number() -> None:
    chat = {f"turn_{i}": {"Human": f"<|Human|>: q{i}<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n", "Commands": "<|Commands|>: None<eoc>\n",
                          "Tool Responses": "<|Results|>: \nNone\n<eor>\n", "MOSS": f"<|MOSS|>: a{i}<eom>\n"} for i in (10, 1, 2)}
    assert [text for _, text in said(converted({"chat": chat})[0])] == ["q1", "a1", "q2", "a2", "q10", "a10"]


# -- pairs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*sorted(NO_INPUT), "Noinput", " NoInput \n", "No Input.", "NO INPUT"])
def test_an_input_that_says_there_is_none(word: str) -> None:
    for row in ({"instruction": "a", "input": word, "output": "b"}, {"instruction": "a", "input": word, "response": "b"},
                {"instruction": "a", "context": word, "response": "b"}, {"instruction": "a", "instances": [{"input": word, "output": "b"}]}):
        conversation, notes = converted(row)
        assert said(conversation)[0] == ("user", "a")
        assert conversation.messages[0].input is None
        assert notes == ["inputs that only say that there is none (noinput, ...): read as empty"]


@pytest.mark.parametrize("text", ["none", "None", "no input field is given here", "noinputs", "n/a", "input", "0", "无法"])
def test_an_input_that_is_one(text: str) -> None:
    conversation, notes = converted({"instruction": "a", "input": text, "output": "b"})
    assert conversation.messages[0] == Message(role="user", content=f"a\n{text}", input=text)
    assert notes == []


def test_null_and_blank_inputs_are_none() -> None:
    for value in (None, "", "  \n"):
        assert said(converted({"instruction": "a", "input": value, "output": "b"})[0])[0] == ("user", "a")
    assert said(converted({"instruction": " ", "input": "x", "output": "b"})[0])[0] == ("user", "x")


@pytest.mark.parametrize("history", [None, "", [], "[]", [["x", "y"]], '[["x", "y"]]'])
def test_history_also_as_a_table_writes_it(history: Any) -> None:
    conversation, _ = converted({"query": "a", "response": "b", "history": history})
    assert said(conversation) == ([("user", "x"), ("assistant", "y")] if history not in (None, "", [], "[]") else []) + [("user", "a"), ("assistant", "b")]


@pytest.mark.parametrize(("prompt", "wanted"), [
    ("Human:你好\nAssistant:你好！\nHuman:再见\nAssistant:", ["你好", "你好！", "再见"]),
    ("Human：你好\nAssistant：", ["你好"]), ("Human: Hi Assistant:", ["Hi"]), ("Human: a\nAssistant: b\nHuman: c\nAssistant:\n", ["a", "b", "c"]),
    (" <user>: a <bot>: b <user>: c", ["a", "b", "c"]), ("<user>: a", ["a"]),
    ("A chat between two.\nUSER: a\nASSISTANT: b</s>USER: c\nASSISTANT:", None), ("A chat.\nUSER: a ASSISTANT: b</s> USER: c ASSISTANT:", ["A chat.", "a", "b", "c"]),
    ("<extra_id_0>System\nbe kind\n<extra_id_1>User\na\n<extra_id_1>Assistant\n", ["be kind", "a"]),
    ("Human: who said 'Assistant:'? Assistant: me Assistant:", None), ("Name a Human: quickly", None), ("Human: a", None), ("Tell me about the Assistant:", None),
    ("Human: a\nHuman: b\nAssistant:", None), ("x <user>: a", None), ("", None),
])
def test_a_prompt_that_is_a_dialogue_is_taken_apart(prompt: str, wanted: list[str] | None) -> None:
    found = turns_of_prompt(prompt)
    assert ([m.content for m in found[0]] if found else None) == wanted
    conversation, notes = converted({"instruction": prompt or "x", "input": "", "output": "z"})
    assert said(conversation)[-1] == ("assistant", "z")
    assert bool(notes) == (wanted is not None)
    assert len(conversation.messages) == (len(wanted) + 1 if wanted else 2)


def test_dialogues_under_text() -> None:
    assert [m.content for m in turns_of_text("### Human: a### Assistant: b### Human:") or []] == ["a", "b"]
    assert [m.content for m in turns_of_text("<s>Human: a\n</s><s>Assistant: b\n</s>") or []] == ["a", "b"]
    assert [m.content for m in turns_of_text("<extra_id_0>System\n\n<extra_id_1>User\na\n<extra_id_1>Assistant\nb\n<extra_id_1>") or []] == ["a", "b"]
    assert turns_of_text("Once. ### Human: a") is None
    assert said(converted({"text": "### Human: a### Assistant: b### Human: c"})[0])[-1] == ("user", "c")


@pytest.mark.parametrize("text", ["\n" * 500_000 + "Assistant:", "Human: a\n" * 50_000 + "Assistant:", "\n\nHuman: x" * 50_000, "<user>:" + "\n" * 500_000, "### Human:" * 50_000,
                                  "<user>: a <bot>: b" * 20_000, "<s>Human:" * 50_000, "[Human]:" * 50_000])
def test_long_texts_cost_little(text: str) -> None:
    started = time.process_time()
    turns_of_prompt(text)
    turns_of_text(text)
    HH.turns(text)
    MOSS_002.turns(text)
    assert time.process_time() - started < 5


def test_formatted_prompts_are_told() -> None:
    _, notes = converted({"instruction": "Anna:", "response": "b", "category": "rp", "skip_prompt_formatting": True})
    assert notes == ["prompts that are formatted already (skip_prompt_formatting): read as the user's message"]
    assert converted({"instruction": "a", "response": "b", "category": "rp", "skip_prompt_formatting": False})[1] == []


# -- preference ------------------------------------------------------------------------------------


def test_the_rejected_side_is_never_read(tmp_path: Path) -> None:
    for schema in (BY_NAME["preference"], BY_NAME["ranked"]):
        found, ledger = only(tmp_path, schema.examples)
        assert "What?" not in json.dumps([[m.to_dict() for m in c.messages] for c in found])
        (note,) = [n for n in ledger.notes if "left out" in n]
        assert ledger.notes[note] == len(schema.examples)


def test_bad_answers_of_kto_are_kept_untrained(tmp_path: Path) -> None:
    found, ledger = only(tmp_path, BY_NAME["kto"].examples)
    assert [c.messages[-1].train for c in found] == [None, False, None, False]
    assert ledger.notes["rows labelled as a bad answer (KTO): kept in their place, their answers not trained"] == 2


def test_the_best_of_ranked_answers() -> None:
    answers = [{"answer": "c", "rank": 3}, {"answer": "a", "rank": 1}, {"answer": "b", "rank": 2}]
    assert said(converted({"prompt": "q", "answers": answers})[0])[-1] == ("assistant", "a")
    scored = [{"response": "a", "score": 1}, {"response": "b", "score": 9.5}]
    assert said(converted({"user_input": "q", "responses_and_scores": scored})[0])[-1] == ("assistant", "b")
    assert said(converted({"prompt": "\n\nHuman: p\n\nAssistant: q\n\nHuman: r\n\nAssistant: ", "answers": answers})[0]) == [
        ("user", "p"), ("assistant", "q"), ("user", "r"), ("assistant", "a")]
    with pytest.raises(RowError, match="no number"):
        converted({"prompt": "q", "answers": [{"answer": "a", "rank": "x"}, {"answer": "b", "rank": 1}]})


def test_a_preference_without_a_prompt_is_told() -> None:
    with pytest.raises(RowError, match="no prompt beside chosen"):
        converted({"chosen": "a", "rejected": "b"})


# -- containers ------------------------------------------------------------------------------------

LIST = [{"content": "a", "role": "user"}, {"content": "b", "role": "assistant"}]


@pytest.mark.parametrize(("name", "text", "count"), [
    ("a.jsonl", f"{json.dumps(LIST)}\n" * 3, 3), ("a.jsonl", json.dumps(LIST), 1), ("a.json", json.dumps(LIST, indent=1), 1), ("a.json", json.dumps([LIST, LIST]), 2),
    ("a.json", json.dumps([turns(("human", "a"), ("gpt", "b"))["conversations"]] * 2), 2), ("a.jsonl.gz", f"{json.dumps(LIST)}\n" * 3, 3),
    ("a.jsonl", f"{json.dumps({'messages': LIST})}\n{json.dumps(LIST)}\n", 2),
])
def test_a_bare_list_of_turns_is_a_row(name: str, text: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found, ledger = read(path)
    assert [said(c) for c in found] == [[("user", "a"), ("assistant", "b")]] * count
    assert ledger.rows_in == count


def test_other_lists_are_no_rows(tmp_path: Path) -> None:
    _, ledger = only(tmp_path, [{"messages": LIST}, [1, 2], LIST[:1], [{"role": "user"}, {"role": "assistant"}], ["a", "b"], []])
    assert ledger.drops == {"not_an_object": 5}


def saved(folder: Path, rows: list[Any], *, cache: bool = False) -> None:
    import pyarrow as pa

    folder.mkdir(parents=True)
    for name in ("data-00000-of-00001.arrow", *(["cache-1a2b.arrow"] if cache else [])):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}), encoding="utf-8")
    (folder / "dataset_info.json").write_text("{}", encoding="utf-8")


def test_a_saved_data_set_is_read_without_its_caches(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "b", "history": None}, {"question": "c", "answer": None, "history": None}]
    saved(tmp_path / "one", rows, cache=True)
    found, ledger = read(tmp_path / "one")
    assert [said(c) for c in found] == [[("user", "a"), ("assistant", "b")]]
    assert (ledger.rows_in, ledger.drops) == (2, {"empty_answer": 1})
    (tmp_path / "one" / "state.json").write_text("no JSON", encoding="utf-8")
    assert read(tmp_path / "one")[1].rows_in == 4, "without a list of its files, all of them are read"


def test_one_split_of_a_saved_dict_is_read(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        saved(tmp_path / "both" / split, [{"text": f"{split} {i}"} for i in range(count)])
    (tmp_path / "both" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}), encoding="utf-8")
    assert read(tmp_path / "both")[1].rows_in == 3
    assert read(tmp_path / "both", split="test")[1].rows_in == 2


def test_structs_of_a_table_have_null_for_what_is_missing(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"id": None, "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "content": "x"}, {"role": "assistant", "content": "b", "weight": 0}]
    saved(tmp_path / "one", [{"messages": messages, "tools": None, "text": None}, {"messages": LIST, "tools": None, "text": None}])
    found, ledger = read(tmp_path / "one")
    assert not ledger.drops
    assert [m.role for m in found[0].messages] == ["user", "assistant", "tool", "assistant"]
    assert found[0].messages[1].tool_calls == ({"type": "function", "function": {"name": "f", "arguments": "{}"}},)
    assert [m.train for m in found[0].messages] == [None, None, None, False]
