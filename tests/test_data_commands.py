"""gogpt data inspect, list and convert: what they count is recounted here by other means, and nothing is lost between files."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from conftest import ROOT, SHARED, Ran, needs_shared, rows, write_jsonl
from gogpt.cli.helppages import DOCUMENTS
from gogpt.data.catalogue import MANY, TASKS, catalogue
from gogpt.data.inspect import inspect
from gogpt.data.inspection import MAX_LENGTHS, histogram, spread
from gogpt.data.languages import UNKNOWN, make_identifier, script_of
from gogpt.data.oddities import NOTICES, no_input, notices_in
from gogpt.data.schemas import SCHEMAS
from gogpt.records import Conversation, Message
from gogpt.report.charts import HEIGHT, WIDTH
from gogpt.report.inspect import render_inspection
from gogpt.report.inspect_charts import Bar, BarChart, bar_chart
from gogpt.report.inspect_labels import LABELS

Command = Callable[..., Ran]

EVIL = "<script>alert(1)</script>"


def documented(name: str) -> set[str]:
    return {key for group in DOCUMENTS[name][1] for key in group.split(", ")}


@pytest.fixture
def by_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if py3langid were not installed."""
    monkeypatch.setitem(sys.modules, "py3langid", None)
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)


def turns(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MESSAGES: list[dict[str, Any]] = [
    {"messages": turns("Name a colour.", "Blue.")},
    {"messages": turns("Name a colour.", "Blue.")},
    {"messages": turns("Name a colour.", "Red."), "source": "mine"},
    {"messages": [{"role": "system", "content": "Be kind."}, *turns("Who are you?", "I am <NAME>, made by {{author}}.", "And?")]},
    {"messages": [{"role": "system", "content": "Be kind."}, *turns("北京是哪国的首都？", "北京是中国的首都。")]},
    {"messages": [{"role": "user", "content": "Weather in Rome?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
                  {"role": "tool", "content": "18 C", "tool_call_id": "c1"},
                  {"role": "assistant", "content": "It is 18 degrees.", "reasoning_content": "Just say it."}], "tools": [WEATHER]},
    {"messages": [{"role": "user", "content": "Call it."}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
    {"messages": turns("Say so.", "\nAs an AI language model I end in <|im_end|>", "Again", " ")},
    {"messages": turns(EVIL, "x" * 5000)},
    {"messages": turns("only a prompt")},
    {"nothing": "of use"},
]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "sample.jsonl", MESSAGES)


def usable(items: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [item["messages"] for item in items if any(m["role"] == "assistant" for m in item.get("messages", ()))]


# -- inspect: counts -------------------------------------------------------------------------------


def test_counts_equal_a_recount(sample: Path, gogpt: Command, by_script: None) -> None:
    d = gogpt("data", "inspect", sample, "--format", "json", "-q").json
    kept = usable(MESSAGES)
    assert set(d) == documented("inspected")
    assert d["rows_in"] == len(MESSAGES) == d["conversations"] + sum(d["drops"].values())
    assert d["conversations"] == len(kept)
    assert d["drops"] == {"no_answer": 1, "other_schema": 1}
    assert [p.rpartition(":")[2] for places in d["first"].values() for p in places] == ["10", "11"]
    assert d["messages"] == Counter(m["role"] for c in kept for m in c)
    assert d["turns"] == sum(m["role"] == "user" for c in kept for m in c)
    assert d["multi_turn"] == sum(sum(m["role"] == "user" for m in c) > 1 for c in kept)
    assert d["texts"] == 0
    assert d["system"] == {"conversations": 2, "distinct": 1, "most_frequent": [["Be kind.", 2]]}
    assert d["tools"] == {"conversations": 1, "calls": 2, "results": 1, "names": {"weather": 2}}
    sizes = [sum(len(m["content"]) + len(m.get("reasoning_content", "")) for m in c) for c in kept]
    told = d["characters"]["conversation"]
    assert (told["count"], told["min"], told["max"]) == (len(sizes), min(sizes), max(sizes))
    assert told["median"] == statistics.median(sizes)
    assert told["mean"] == pytest.approx(statistics.fmean(sizes))
    assert told["p95"] == sorted(sizes)[math.ceil(0.95 * len(sizes)) - 1]
    assert d["characters"]["user"]["count"] == d["messages"]["user"]
    assert sum(b["count"] for b in d["histogram"]) == len(kept)
    for b in d["histogram"]:
        assert b["count"] == sum(b["low"] <= s < b["high"] for s in sizes)
    assert d["languages"] == {"method": "script", "counts": {"Latin": len(kept) - 1, "Han": 1}}
    assert d["tokens"] is None
    assert sum(len(s["messages"]) for s in d["samples"]) > 0


def test_what_looks_odd_is_counted_with_its_places(sample: Path, gogpt: Command) -> None:
    d = gogpt("data", "inspect", sample, "--format", "json", "-q").json
    found = {n["name"]: (n["count"], [p.rpartition(":")[2] for p in n["first"]]) for n in d["notices"]}
    assert found == {
        "duplicates": (1, ["1"]), "repeated_prompts": (2, ["2", "3"]), "placeholders": (1, ["4"]), "blank_answers": (1, ["8"]),
        "ends_with_user": (1, ["4"]), "answer_edges": (1, ["8"]), "special_marks": (1, ["8"]), "ai_phrases": (1, ["8"]), "undeclared_calls": (1, ["7"]),
    }
    spelled = {n["name"]: n["spelled"] for n in d["notices"]}
    assert spelled["placeholders"] == {"<NAME>": 1, "{{author}}": 1}
    assert spelled["repeated_prompts"] == {"Name a colour.": 3}
    assert next(n for n in d["notices"] if n["name"] == "duplicates")["first"][0].endswith("sample.jsonl:1")
    assert all(n["share"] == n["count"] / d["conversations"] for n in d["notices"])
    assert {n["name"] for n in d["notices"]} <= set(NOTICES)


def test_identities_and_refusals_are_told(tmp_path: Path, gogpt: Command) -> None:
    """What cleaning would find, by the same rules; what is said of others is not told."""
    items = [{"messages": turns(*said)} for said in (
        ("Who are you?", "I am MOSS, an AI assistant."), ("What is MOSS?", "MOSS is a language model."), ("你是谁？", "我是由OpenAI训练的大型语言模型。"),
        ("Write a poem.", "I'm sorry, but as an AI language model, I cannot write poems."), ("My dog is ill.", "I'm sorry to hear that."))]
    path = write_jsonl(tmp_path / "a.jsonl", items)
    d = gogpt("data", "inspect", path, "--format", "json", "-q").json
    found = {n["name"]: (n["count"], [p.rpartition(":")[2] for p in n["first"]], n["spelled"]) for n in d["notices"]}
    assert set(found) == {"other_identity", "refusal", "ai_phrases"}
    assert found["other_identity"][:2] == (2, ["1", "3"])
    assert any("MOSS" in said for said in found["other_identity"][2])
    assert found["refusal"][:2] == (1, ["4"])
    text = " ".join(gogpt("data", "inspect", path, "-q").out.split())
    assert "answers that refuse" in text
    assert "another assistant" in text


def test_schema_and_evidence(sample: Path, gogpt: Command) -> None:
    (file,) = gogpt("data", "inspect", sample, "--format", "json", "-q").json["files"]
    assert file["schema"] == "openai"
    evidence = file["evidence"]
    assert (evidence["sampled"], evidence["fits"]) == (len(MESSAGES), len(MESSAGES) - 1)
    assert evidence["read"] == {"messages": 10, "messages[].role": 10, "messages[].content": 10, "messages[].tool_calls": 2,
                                "messages[].tool_call_id": 1, "messages[].reasoning_content": 1, "tools": 1, "tools[].type": 1, "tools[].function": 1}
    assert evidence["ignored"] == {"source": 1}
    text = gogpt("data", "inspect", sample, "-q").out
    assert "10 of 11 sampled rows have this schema; 9 of 11 sampled rows have messages (" in " ".join(text.split())
    assert re.search(r"Ignored +source \(1\)", text)


def test_fields_that_are_read_are_told_from_those_that_are_not(tmp_path: Path, gogpt: Command) -> None:
    items = [{"instruction": f"Count to {i}.", "input": "", "output": "1", "id": i, "text": f"Count to {i}. 1"} for i in range(99)] + [{"id": 99, "x": "y"}]
    evidence = gogpt("data", "inspect", write_jsonl(tmp_path / "a.jsonl", items), "--format", "json", "-q").json["files"][0]["evidence"]
    assert evidence["read"] == {"instruction": 99, "input": 99, "output": 99}
    assert evidence["ignored"] == {"id": 99, "text": 99}
    assert evidence["shapes"] == [[["instruction", "input", "output"], 99]]
    assert (evidence["fits"], evidence["sampled"], evidence["others"]) == (99, 100, {})


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.name)
def test_fields_of_every_schema(schema: Any) -> None:
    """A field that a schema reads changes what becomes of its own examples; one that nobody knows does not."""
    from gogpt.data.evidence import evidence_for

    found = evidence_for(schema, [{**row, "not_a_field": 7} for row in schema.examples])
    assert (found.sampled, found.fits) == (len(schema.examples), len(schema.examples))
    if schema.name == "prompt_only":
        assert (found.read, found.ignored) == ({}, {})
        return
    assert found.ignored["not_a_field"] == len(schema.examples)
    assert found.read
    assert {name for name in found.read if "[]" not in name} <= {str(key) for row in schema.examples for key in row}


def test_texts(tmp_path: Path, gogpt: Command) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"text": "Once upon a time. " * n, "url": "x"} for n in (1, 2, 40)])
    d = gogpt("data", "inspect", path, "--format", "json", "-q").json
    assert (d["texts"], d["conversations"], d["turns"], d["messages"]) == (3, 3, 0, {"text": 3})
    assert "3 rows in = 3 documents + 0 dropped" in gogpt("data", "inspect", path, "-q").out


def test_limit_reads_the_first_rows_of_each_file(tmp_path: Path, gogpt: Command) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write_jsonl(tmp_path / "many" / name, rows(30))
    d = gogpt("data", "inspect", tmp_path / "many", "--limit", 7, "--format", "json", "-q").json
    assert [f["rows"] for f in d["files"]] == [7, 7]
    assert d["rows_in"] == 14
    assert len(d["notes"]) == 2
    assert next(n["count"] for n in d["notices"] if n["name"] == "duplicates") == 7


def test_a_file_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path, gogpt: Command) -> None:
    write_jsonl(tmp_path / "some" / "good.jsonl", rows(3))
    (tmp_path / "some" / "strange.jsonl").write_text('{"x": 1}\n', encoding="utf-8")
    ran = gogpt("data", "inspect", tmp_path / "some", "--format", "json", "-q")
    assert ran.code == 2
    good, strange = ran.json["files"]
    assert (good["schema"], good["error"]) == ("openai", None)
    assert (strange["schema"], strange["error"]["code"]) == (None, "DAT306")
    text = gogpt("data", "inspect", tmp_path / "some", "-q")
    assert text.code == 2
    assert "strange.jsonl: not read: DAT306" in text.out
    alone = gogpt("data", "inspect", tmp_path / "some" / "strange.jsonl", "--format", "json", "-q")
    assert (alone.code, alone.out) == (2, "")
    assert alone.err.startswith("DAT306")


def test_bad_questions(sample: Path, gogpt: Command, tmp_path: Path) -> None:
    for words, said in (
        (("data", "inspect", tmp_path / "nowhere.jsonl"), "DAT300"), (("data", "inspect", sample, "--schema", "opanai"), "DAT306"),
        (("data", "inspect", sample, "--template", "chatml"), "--model"), (("data", "inspect", sample, "--model", tmp_path / "no-model"), "MOD500"),
        (("data", "inspect", sample, "--limit", 0), "--limit"), (("data", "inspect", sample, "--html", tmp_path / "sample.jsonl" / "x.html"), "ENV110"),
        (("data", "list", "--task", "nonsense"), "--task"), (("data", "list", "--lang-of", "xx"), "--lang-of"), (("data", "list", "--schema", "nonsense"), "--schema"),
    ):
        ran = gogpt(*words)
        assert ran.code == 2, words
        assert ran.out == ""
        assert said in ran.err


# -- inspect: tokens -------------------------------------------------------------------------------


def test_lengths_in_tokens_are_those_of_training(tmp_path: Path, tiny: Path, gogpt: Command) -> None:
    from gogpt.config import DataConfig
    from gogpt.data.prepare import prepare
    from gogpt.templates import pick_template
    from gogpt.tokenize import Tokenizer

    path = write_jsonl(tmp_path / "a.jsonl", [*rows(20, turns=3), {"messages": turns("long", "word " * 700)}])
    tokens = gogpt("data", "inspect", path, "--model", tiny, "--template", "chatml", "--format", "json", "-q").json["tokens"]
    tokenizer = Tokenizer(tiny)
    config = DataConfig.model_validate({"train": str(path), "max_length": 10**6, "special_text": "keep"})
    examples = prepare(config, tokenizer, pick_template("chatml", tokenizer)).train
    lengths = sorted(int(n) for n in examples.lengths)
    assert (tokens["total"], tokens["trained"], tokens["sequences"]) == (examples.num_tokens, examples.num_trained, len(examples))
    assert (tokens["lengths"]["min"], tokens["lengths"]["max"], tokens["lengths"]["count"]) == (lengths[0], lengths[-1], 21)
    assert [o["max_length"] for o in tokens["over"]] == list(MAX_LENGTHS)
    for o in tokens["over"]:
        assert o["count"] == sum(n > o["max_length"] for n in lengths)
        assert o["share"] == o["count"] / 21
    assert tokens["over"][0]["count"] > 0
    assert sum(b["count"] for b in tokens["histogram"]) == 21


def test_what_a_template_cannot_render_is_counted(tmp_path: Path, tiny: Path, gogpt: Command) -> None:
    odd = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}, {"role": "system", "content": "late"},
                        {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}
    path = write_jsonl(tmp_path / "a.jsonl", [*rows(3), odd])
    d = gogpt("data", "inspect", path, "--model", tiny, "--template", "llama2", "--format", "json", "-q").json
    assert d["conversations"] == 4
    assert d["tokens"]["lengths"]["count"] == 3
    assert next(n for n in d["notices"] if n["name"] == "not_rendered")["first"][0].endswith(":4")


# -- inspect: numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[0], [1], [7, 7, 7], [0, 1, 2, 3], list(range(1000)), [5, 10**6], [2**k for k in range(30)], [2**k - 1 for k in range(1, 30)], [63, 64, 65]])
def test_a_histogram_holds_every_value_once(values: list[int]) -> None:
    bins = histogram(values)
    assert sum(b.count for b in bins) == len(values)
    assert all(a.high == b.low for a, b in itertools.pairwise(bins))
    for b in bins:
        assert b.count == sum(b.low <= v < b.high for v in values)
    assert bins[0].low <= min(values) < bins[0].high
    assert bins[-1].low <= max(values) < bins[-1].high


def test_a_histogram_of_nothing() -> None:
    assert histogram([]) == ()
    assert spread([]) is None


def test_spread() -> None:
    s = spread([4, 1, 2, 3])
    assert s is not None
    assert (s.count, s.min, s.median, s.mean, s.p95, s.max) == (4, 1, 2.5, 2.5, 4, 4)
    hundred = spread(list(range(1, 101)))
    assert hundred is not None
    assert hundred.p95 == 95


# -- inspect: languages and oddities ---------------------------------------------------------------


@pytest.mark.parametrize(("text", "script"), [
    ("Good morning", "Latin"), ("早上好", "Han"), ("おはようございます、先生", "Kana"), ("안녕하세요", "Hangul"), ("Доброе утро", "Cyrillic"), ("صباح الخير", "Arabic"),
    ("写一个 Python 函数", "Han"), ("Translate 早 to English, please, now", "Latin"), ("1 + 1 = 2", UNKNOWN), ("", UNKNOWN), ("ความสงบ", "Thai"),
])
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


def test_languages_by_script_alone(by_script: None) -> None:
    identifier = make_identifier()
    assert identifier.method == "script"
    assert identifier.name("写一个函数\n```python\ndef long_name_of_a_function(first, second): return first\n```") == "Han"


def test_languages_by_the_identifier() -> None:
    pytest.importorskip("py3langid", reason="the extra lang is not installed")
    identifier = make_identifier()
    assert identifier.method.startswith("py3langid ")
    for text, code in (("The weather is fine today and we will go for a walk.", "en"), ("Il fait beau aujourd'hui et nous allons nous promener.", "fr"),
                       ("今天天气很好，我们去散步吧。", "zh"), ("今日はいい天気ですね。", "ja"), ("오늘은 날씨가 좋습니다", "ko"), ("Сегодня хорошая погода, и мы пойдём гулять.", "ru"),
                       ("x = 1", UNKNOWN), ("42", UNKNOWN), ("", UNKNOWN)):
        assert identifier.name(text) == code


def conversation(*texts: str, **changes: Any) -> Conversation:
    return Conversation(messages=tuple(Message(role=m["role"], content=m["content"]) for m in turns(*texts)), **changes)


@pytest.mark.parametrize(("text", "found"), [
    ("I am <NAME>.", ["<NAME>"]), ("{{name}} and {{ author }}", ["{{name}}", "{{ author }}"]), ("about {INPUT}", ["{INPUT}"]), ("<YOUR NAME>", ["<YOUR NAME>"]),
    ("<HTML><BODY>", []), ("List<T> x", []), ("f'{X}'", []), ("${HOME}", []), ("<b>", []), ("a < B and C > d", []),
])
def test_placeholders(text: str, found: list[str]) -> None:
    assert dict(notices_in(conversation("Hi", text))).get("placeholders", []) == found


@pytest.mark.parametrize("word", ["noinput", "Noinput", "No input", "NoInput", "No Input", "No input.", "< noinput >", "`<noinput>`", "N/A", "无"])
def test_words_for_no_input(word: str) -> None:
    assert no_input(Message(role="user", content=f"Do it.\n{word}", input=word)) == word


@pytest.mark.parametrize("text", ["There is no input here.", "none", "无", "What does noinput mean?"])
def test_words_that_are_meant(text: str) -> None:
    assert no_input(Message(role="user", content=f"Do it.\n{text}")) is None


def test_oddities_of_turns() -> None:
    def names(c: Conversation) -> set[str]:
        return {name for name, _ in notices_in(c)}

    assert names(conversation("Hi", "Hello")) == set()
    answers = Message(role="assistant", content="A")
    asks = Message(role="user", content="Q")
    assert names(Conversation(messages=(answers, asks, answers))) == {"begins_with_assistant"}
    assert names(Conversation(messages=(asks, asks, answers))) == {"same_role_twice"}
    assert names(conversation("Human: Hi\nAssistant: Hello\nHuman: And?\nAssistant:", "Fine")) == {"dialogue_marks"}
    assert names(conversation("Say it", "bro\ufffdken")) == {"broken_text"}


# -- inspect: text ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("what", ["one", "several", "texts", "empty"])
def test_text_is_narrow_and_plain(what: str, lang: str, sample: Path, tmp_path: Path, gogpt: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.cells import cell_len

    path: Path = sample
    if what == "several":
        for i in range(14):
            write_jsonl(tmp_path / "several" / f"a-name-that-is-rather-long-for-a-table-of-files-{i}.jsonl", MESSAGES)
        path = tmp_path / "several"
    elif what == "texts":
        path = write_jsonl(tmp_path / "texts.jsonl", [{"text": "一个 text"}, {"text": "another"}])
    elif what == "empty":
        path = write_jsonl(tmp_path / "empty.jsonl", [{"messages": []}, {"messages": turns("only a prompt")}])
    monkeypatch.setenv("COLUMNS", "80")
    ran = gogpt("data", "inspect", path, "--lang", lang, "-q")
    assert ran.code == 0, ran.err
    assert ran.err == ""
    assert "\x1b" not in ran.out
    assert "{" not in re.sub(r"\{\{?author\}?\}", "", ran.out)
    for line in ran.out.splitlines():
        assert cell_len(line) <= 80, line
        assert line == line.rstrip()
    if what == "one":
        assert "█" in ran.out
    if what == "several":
        assert LABELS[lang]["more_files"].format(n=4) in ran.out


def test_bars_in_a_terminal_without_blocks(sample: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "gogpt", "data", "inspect", str(sample), "-q"], capture_output=True, check=True, cwd=ROOT,
                          env={"PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "ascii:replace", "PATH": "/usr/bin:/bin", "LANG": "C"})
    assert b"####" in done.stdout


def test_every_label_is_there_in_both_languages() -> None:
    assert LABELS["en"].keys() == LABELS["zh"].keys()
    assert set(NOTICES) <= set(LABELS["en"])
    for key, text in LABELS["en"].items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", LABELS["zh"][key])) or key == "of_role", key
    assert {f"task_{t}" for t in TASKS} <= set(LABELS["en"])


# -- inspect: the page -----------------------------------------------------------------------------

VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Tags must close in order; nothing is fetched; no script runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name in ("href", "src"):
                self.links.append(str(value))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open[-1] == tag, (self.open, tag, self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_page_is_whole_and_self_contained(sample: Path, tmp_path: Path, tiny: Path, gogpt: Command, lang: str) -> None:
    target = tmp_path / "page.html"
    ran = gogpt("data", "inspect", sample, "--html", target, "--lang", lang, "--model", tiny, "--template", "chatml", "--format", "json", "-q")
    assert ran.code == 0, ran.err
    text = target.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags["script"] == 0
    assert EVIL not in text
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"<title>.*?</title>", "", text))
    assert page.tags["svg"] == 3
    assert {"counts", "files", "lengths", "languages", "notices", "samples"} <= set(page.ids)
    words = " ".join(page.text)
    assert LABELS[lang]["notices"] in words
    for notice in ran.json["notices"]:
        assert LABELS[lang][notice["name"]] in words
    assert "{" not in re.sub(r"\{\{?author\}?\}|\{\s*\"[^}]*\}+\]?", "", words)
    assert not list(tmp_path.glob("*.partial"))
    assert Page(render_inspection(inspect(str(sample)), lang)).tags["svg"] == 1


def test_page_of_nothing_and_of_broken_text(tmp_path: Path) -> None:
    nothing = inspect(str(write_jsonl(tmp_path / "n.jsonl", [{"messages": []}])))
    assert nothing.conversations == 0
    page = Page(render_inspection(nothing))
    assert page.tags["svg"] == 0
    texts = inspect(str(write_jsonl(tmp_path / "t.jsonl", [{"text": "a" * 9000}])))
    assert "3,000" in "".join(Page(render_inspection(texts)).text)


def test_page_has_the_look_of_the_run_report() -> None:
    from gogpt.report.inspect import _style

    assert ".verdict" in _style()
    assert "prefers-color-scheme:dark" in _style()


def test_bars_stay_in_their_frame() -> None:
    bars = [Bar(label=str(i), value=v, hint=f"{v} & more", mark="<") for i, v in enumerate((0, 1, 10**9, 5))]
    svg = bar_chart(BarChart(id="c", title="A & B", desc="<d>", x_label="x", y_label="y", bars=bars))
    Page(svg)
    assert "<d>" not in svg
    for x, y in re.findall(r"M([\d.]+) ([\d.]+)", svg):
        assert 0 <= float(x) <= WIDTH
        assert 0 <= float(y) <= HEIGHT
    assert svg.count('class="fill"') == 4
    Page(bar_chart(BarChart(id="c", title="", desc="", x_label="", y_label="", bars=[])))


# -- list ------------------------------------------------------------------------------------------

SPDX = {"Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC0-1.0", "GPL-3.0", "ODC-By-1.0",
        "CDLA-Sharing-1.0"}
SPECIAL = {"non-commercial", "custom", "mixed", "unknown"}


def test_catalogue_is_large_and_its_ids_are_unique() -> None:
    ids = [d.id for d in catalogue()]
    assert len(ids) >= 60
    assert len({i.lower() for i in ids}) == len(ids)
    assert [i for i in ids if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", i)] == []


@pytest.mark.parametrize("entry", catalogue(), ids=lambda d: d.id)
def test_entry_is_complete(entry: Any) -> None:
    assert entry.name
    assert entry.licence in SPDX | SPECIAL
    assert entry.rows is None or (isinstance(entry.rows, int) and entry.rows > 0)
    assert isinstance(entry.about, bool)
    assert entry.languages
    for code in entry.languages:
        assert re.fullmatch(r"[a-z]{2}", code) or code == MANY
        assert code in LABELS["en"]
    assert entry.tasks
    assert set(entry.tasks) <= set(TASKS)
    assert entry.readable, f"no schema is named {entry.schema!r}"
    for words in (entry.good_for, entry.trap):
        assert set(words) == {"en", "zh"}
        assert all(isinstance(text, str) and 2 <= len(text) <= 160 for text in words.values())
        assert re.search(r"[\u4e00-\u9fff]", words["zh"])
        assert not words["en"].endswith(".")


def test_every_schema_for_data_of_its_own_is_in_the_catalogue_or_known_not_to_be() -> None:
    """A schema that no set of the catalogue has is no mistake, but a set that has one is the better page to read first."""
    without = {s.name for s in SCHEMAS} - {d.schema for d in catalogue()}
    assert not without & {"alpaca", "sharegpt", "openai", "text", "preference", "dolly", "oasst", "moss", "xlam", "lima", "firefly"}


def test_list_document(gogpt: Command) -> None:
    everything = gogpt("data", "list", "--format", "json").json
    assert [d["id"] for d in everything] == [d.id for d in catalogue()]
    assert all(set(d) == documented("listed") for d in everything)
    tools = gogpt("data", "list", "--task", "tools", "--format", "json").json
    assert [d["id"] for d in tools] == [d.id for d in catalogue() if "tools" in d.tasks]
    chosen = gogpt("data", "list", "--lang-of", "zh", "--schema", "alpaca", "--task", "math", "--format", "json").json
    assert [d["id"] for d in chosen] == [d.id for d in catalogue() if "zh" in d.languages and d.schema == "alpaca" and "math" in d.tasks]
    assert len(chosen) > 1


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_list_as_text(gogpt: Command, monkeypatch: pytest.MonkeyPatch, lang: str) -> None:
    from rich.cells import cell_len

    monkeypatch.setenv("COLUMNS", "80")
    ran = gogpt("data", "list", "--lang", lang)
    assert ran.code == 0
    assert all(cell_len(line) <= 80 and line == line.rstrip() for line in ran.out.splitlines())
    assert all(d.id in ran.out for d in catalogue())
    assert "tatsu-lab/alpaca" in ran.out
    assert "52,002" in ran.out


# -- convert ---------------------------------------------------------------------------------------


def read_back(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return [dict(row) for row in pq.read_table(path).to_pylist()]
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


KINDS = ["jsonl", "jsonl.gz", "parquet"]


@pytest.mark.parametrize("kind", KINDS)
def test_converting_twice_is_converting_once(kind: str, sample: Path, tmp_path: Path, gogpt: Command) -> None:
    one, two = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
    assert gogpt("data", "convert", sample, "-o", one, "-q").code == 0
    ran = gogpt("data", "convert", one, "-o", two, "--format", "json", "-q")
    assert ran.code == 0
    assert read_back(one) == read_back(two)
    assert len(read_back(one)) == len(usable(MESSAGES))
    assert ran.json["drops"] == {}
    if kind != "parquet":
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_holds_the_same(kind: str, sample: Path, tmp_path: Path, gogpt: Command) -> None:
    assert gogpt("data", "convert", sample, "-o", tmp_path / "lines.jsonl", "-q").code == 0
    assert gogpt("data", "convert", sample, "-o", tmp_path / f"form.{kind}", "-q").code == 0
    assert gogpt("data", "convert", tmp_path / f"form.{kind}", "-o", tmp_path / "again.jsonl", "-q").code == 0
    lines = read_back(tmp_path / "lines.jsonl")
    assert read_back(tmp_path / "again.jsonl") == lines
    called = next(item for item in lines if "tools" in item)
    assert called == {"messages": MESSAGES[5]["messages"], "tools": [WEATHER]}


def test_flags_stay(tmp_path: Path, gogpt: Command) -> None:
    items = [{"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "weight": 0}, {"role": "user", "content": "Q"},
                           {"role": "assistant", "content": "B", "train": True}]}]
    for kind in KINDS:
        out = tmp_path / f"x.{kind}"
        assert gogpt("data", "convert", write_jsonl(tmp_path / "a.jsonl", items), "-o", out, "-q").code == 0
        assert [m.get("train") for m in read_back(out)[0]["messages"]] == [None, False, None, True]


def test_parquet_types(sample: Path, tmp_path: Path, gogpt: Command) -> None:
    out = tmp_path / "x.parquet"
    assert gogpt("data", "convert", sample, "-o", out, "-q").code == 0
    schema = pq.read_schema(out)
    assert schema.names == ["messages", "tools"]
    assert str(schema.field("messages").type).startswith("list<")
    assert {f.name for f in schema.field("messages").type.value_type} == {"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "train"}
    (tools,) = [json.loads(row["tools"]) for row in read_back(out) if row["tools"]]
    assert tools == [WEATHER]


def test_arguments_are_json_text_in_every_form(tmp_path: Path, gogpt: Command) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"城": "罗马"}}}
    item = {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call, {"name": "g", "arguments": "{}"}]}]}
    source = write_jsonl(tmp_path / "a.jsonl", [item])
    wanted = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"城": "罗马"}'}},
              {"type": "function", "function": {"name": "g", "arguments": "{}"}}]
    for kind in KINDS:
        assert gogpt("data", "convert", source, "-o", tmp_path / f"x.{kind}", "-q").code == 0
        found = read_back(tmp_path / f"x.{kind}")[0]["messages"][1]["tool_calls"]
        assert [{k: v for k, v in c.items() if v is not None} for c in found] == wanted


def test_parquet_has_a_place_for_everything_in_a_message() -> None:
    from gogpt.data.convert import _arrow_schema, document_of

    whole = Message(role="assistant", content="A", train=True, input="A", reasoning="R", tool_calls=(CALL,), tool_call_id="c", name="n")
    (message,) = document_of(Conversation(messages=(whole,)))["messages"]
    struct = _arrow_schema("messages").field("messages").type.value_type
    assert set(message) == {f.name for f in struct} == set(whole.to_dict()) - {"input"}
    assert {f.name for f in struct.field("tool_calls").type.value_type} == set(CALL)


def test_documents(tmp_path: Path, gogpt: Command) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", [{"text": "Once."}, {"text": " "}, {"text": "第一章"}])
    for kind in KINDS:
        ran = gogpt("data", "convert", source, "-o", tmp_path / f"x.{kind}", "--format", "json", "-q")
        assert ran.json["drops"] == {"empty_text": 1}
        assert read_back(tmp_path / f"x.{kind}") == [{"text": "Once."}, {"text": "第一章"}]


def test_parquet_refuses_conversations_beside_documents(tmp_path: Path, gogpt: Command) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", rows(2))
    write_jsonl(tmp_path / "in" / "b.jsonl", [{"text": "Once."}])
    ran = gogpt("data", "convert", tmp_path / "in", "-o", tmp_path / "x.parquet", "-q")
    assert ran.code == 2
    assert ran.err.startswith("DAT307")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert gogpt("data", "convert", tmp_path / "in", "-o", tmp_path / "x.jsonl", "-q").code == 0


def test_a_parquet_file_of_many_rows_and_of_none(tmp_path: Path, gogpt: Command) -> None:
    assert gogpt("data", "convert", write_jsonl(tmp_path / "a.jsonl", rows(2500)), "-o", tmp_path / "x.parquet", "-q").code == 0
    file = pq.ParquetFile(tmp_path / "x.parquet")
    assert file.metadata.num_rows == 2500
    assert file.metadata.num_row_groups == 3
    assert gogpt("data", "convert", write_jsonl(tmp_path / "b.jsonl", [{"messages": []}]), "-o", tmp_path / "y.parquet", "-q").code == 0
    assert pq.read_metadata(tmp_path / "y.parquet").num_rows == 0


def test_ledger_of_a_conversion(sample: Path, tmp_path: Path, gogpt: Command) -> None:
    ran = gogpt("data", "convert", sample, "-o", tmp_path / "x.jsonl", "--format", "json", "-q")
    ledger = json.loads((tmp_path / "x.jsonl.ledger.json").read_text(encoding="utf-8"))
    assert ran.json == ledger
    assert set(ledger) == documented("converted")
    assert ledger["rows_in"] == ledger["conversations"] + sum(ledger["drops"].values())
    assert list(ledger["schema"].values()) == ["openai"]
    assert {reason: len(places) for reason, places in ledger["first"].items()} == ledger["drops"]


def test_what_was_written_into_the_folder_is_not_read_again(tmp_path: Path, gogpt: Command) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", rows(3))
    for _ in range(2):
        ran = gogpt("data", "convert", tmp_path / "in", "-o", tmp_path / "in" / "out.jsonl", "--format", "json", "-q")
        assert (ran.code, ran.json["rows_in"]) == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_that_fails_leaves_what_was_there(kind: str, tmp_path: Path, gogpt: Command) -> None:
    source = tmp_path / "a.json"
    source.write_text(json.dumps(rows(3))[:-20], encoding="utf-8")
    target = tmp_path / f"x.{kind}"
    target.write_bytes(b"before")
    ran = gogpt("data", "convert", source, "-o", target, "-q")
    assert (ran.code, ran.err[:6]) == (2, "DAT301")
    assert target.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["a.json", target.name])


@pytest.mark.parametrize("path", ["same.jsonl", "link.jsonl"])
def test_a_file_is_not_converted_onto_itself(path: str, tmp_path: Path, gogpt: Command) -> None:
    data = write_jsonl(tmp_path / "same.jsonl", rows(2))
    (tmp_path / "link.jsonl").symlink_to(data)
    before = data.read_bytes()
    ran = gogpt("data", "convert", data, "-o", tmp_path / path, "-q")
    assert (ran.code, ran.err[:6]) == (2, "RUN610")
    assert data.read_bytes() == before


# -- the real samples ------------------------------------------------------------------------------


def manifest() -> list[dict[str, Any]]:
    return json.loads((SHARED / "data" / "MANIFEST.json").read_text(encoding="utf-8")) if SHARED.is_dir() else []


def readable(entry: dict[str, Any]) -> bool:
    from gogpt.errors import GogptError

    try:
        inspect(str(SHARED / "data" / entry["path"]), limit=1)
    except GogptError:
        return False
    return True


@needs_shared
@pytest.mark.parametrize("family", sorted({e["family"] for e in manifest()}))
def test_inspections_of_real_files(family: str, tmp_path: Path, gogpt: Command) -> None:
    """What is counted agrees with what the conversion writes, and rows with the manifest; a page can be made of it."""
    for entry in (e for e in manifest() if e["family"] == family):
        if not readable(entry):
            continue
        path = SHARED / "data" / entry["path"]
        ran = gogpt("data", "inspect", path, "--html", tmp_path / "page.html", "--format", "json", "-q")
        if ran.code == 2 and not ran.out:
            continue  # not of a schema that this version has
        d = ran.json
        Page((tmp_path / "page.html").read_text(encoding="utf-8"))
        done = gogpt("data", "convert", path, "-o", tmp_path / "x.jsonl", "--format", "json", "-q")
        if done.code:
            continue
        kept = read_back(tmp_path / "x.jsonl")
        if kept:
            for kind in KINDS:
                assert gogpt("data", "convert", tmp_path / "x.jsonl", "-o", tmp_path / f"y.{kind}", "-q").code == 0
                again = gogpt("data", "convert", tmp_path / f"y.{kind}", "-o", tmp_path / "z.jsonl", "--format", "json", "-q")
                assert again.json["drops"] == {}
                assert read_back(tmp_path / "z.jsonl") == kept
        told = {k: d[k] for k in ("rows_in", "conversations", "drops", "first", "notes")}
        assert told == {k: done.json[k] for k in told}
        assert d["conversations"] == len(kept)
        assert d["texts"] == sum("text" in item for item in kept)
        messages = [m for item in kept for m in item.get("messages", ())]
        assert {k: n for k, n in d["messages"].items() if k != "text"} == Counter(m["role"] for m in messages)
        prompts = Counter(next(m["content"].strip() for m in item["messages"] if m["role"] == "user") for item in kept if "messages" in item)
        repeated = sum(n - 1 for n in prompts.values())
        assert next((n["count"] for n in d["notices"] if n["name"] == "repeated_prompts"), 0) == repeated
        assert sum(d["languages"]["counts"].values()) == len(kept) == sum(b["count"] for b in d["histogram"])


@needs_shared
def test_real_oddities(gogpt: Command) -> None:
    def found(name: str) -> dict[str, Any]:
        d = gogpt("data", "inspect", SHARED / "data" / name, "--format", "json", "-q").json
        return {n["name"]: n for n in d["notices"]} | {"notes": d["notes"]}

    identity = found("alpaca/identity.json")
    text = (SHARED / "data" / "alpaca" / "identity.json").read_text(encoding="utf-8")
    assert identity["placeholders"]["spelled"] == {"{{name}}": text.count("{{name}}"), "{{author}}": text.count("{{author}}")}
    odd = found("alpaca/alpaca_en_demo_odd_inputs.json")
    words = [r["input"] for r in json.loads((SHARED / "data" / "alpaca" / "alpaca_en_demo_odd_inputs.json").read_text(encoding="utf-8"))]
    spelled = [w for w in words if re.sub(r"\W", "", w).lower() == "noinput"]
    counted = odd.get("noinput", {"count": 0})["count"] + sum(n for note, n in odd["notes"].items() if "noinput" in note)
    assert counted == len(spelled) > 0
    belle = found("belle/dev1K.json")
    answers = [json.loads(line)["output"] for line in (SHARED / "data" / "belle" / "dev1K.json").read_text(encoding="utf-8").splitlines()]
    assert belle["answer_edges"]["count"] == sum(a != a.strip() for a in answers)
