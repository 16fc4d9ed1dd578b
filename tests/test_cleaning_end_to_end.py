"""Cleaning and mixing through the command line: each planted fault is found and counted under exactly its reason, at its place.

Every fault has a healthy twin, in which the words stand and the fault does not: nothing is dropped there, nothing reported.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import write_jsonl
from gogpt.checks.data.cleaning_reported import SETTINGS
from gogpt.data import stretches
from gogpt.data.clean import REASONS
from gogpt.data.prepare import _load
from gogpt.facts import NUM_FIRST
from gogpt.tokenize import Tokenizer

pytest.importorskip("rensa", reason="the extra clean is not installed")
pytest.importorskip("py3langid", reason="the extra clean is not installed")

ENGLISH = ["the", "a", "old", "new", "small", "cold", "bright", "river", "mountain", "garden", "window", "letter", "teacher", "winter", "summer", "music", "paper", "stone", "bridge", "market", "harbour", "walks", "opens", "carries", "finds", "keeps", "follows", "paints", "writes", "leaves", "returns", "slowly", "quickly", "before", "after", "under", "over", "along", "behind"]
CHINESE = "山水花草木石云雨风雪春夏秋冬东西南北高低远近红黄蓝绿书画琴棋茶饭米面鱼鸟马羊城乡路桥河湖海岛门窗桌灯早晚新旧长短大小"


def pair(question: str, answer: str, *more: str) -> dict[str, Any]:
    return {"messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate((question, answer, *more))]}


def english(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Conversations that have nothing in common but their words."""
    pick = random.Random(seed)
    return [pair(f"{' '.join(pick.sample(ENGLISH, 10))}?", f"{' '.join(pick.sample(ENGLISH, 22))}.") for _ in range(count)]


def chinese(count: int, seed: int = 0) -> list[dict[str, Any]]:
    pick = random.Random(seed)
    return [pair("".join(pick.sample(CHINESE, 12)) + "？", "".join(pick.sample(CHINESE, 24)) + "。") for _ in range(count)]


def reworded(row: dict[str, Any], words: int = 1) -> dict[str, Any]:
    """The row with the last words of its answer changed."""
    *before, answer = row["messages"]
    kept = answer["content"].split()[:-words]
    return {"messages": [*before, {**answer, "content": " ".join([*kept, *["otherwise"] * words])}]}


@dataclass
class Made:
    """What a command prepared: its document, and what lies in the folder."""

    document: dict[str, Any]
    folder: Path
    ledger: dict[str, Any]
    rejects: list[dict[str, Any]]

    @property
    def gone(self) -> list[tuple[str, str]]:
        """(reason, file:row) of each row that was dropped, in the order of rejects.jsonl."""
        return [(r["reason"], f"{Path(r['origin']['path']).name}:{r['origin']['row']}") for r in self.rejects]

    def sets(self) -> Any:
        return _load(self.folder, 0.0)

    def texts(self, model: Path) -> list[str]:
        """What the training set says, from its ids."""
        tokenizer = Tokenizer(model)
        return [tokenizer.decode(example.input_ids.tolist()) for example in self.sets().train]


def prepared(gogpt: Any, recipe: Path, *settings: str) -> Made:
    """Through ``gogpt prepare``; whatever was asked for, the ledger conserves, and all documents say the same."""
    ran = gogpt("prepare", recipe, *settings, "--format", "json")
    assert ran.code == 0, ran.err
    document = ran.json
    folder = Path(document["folder"])
    ledger = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    rejects = [json.loads(line) for line in (folder / "rejects.jsonl").read_text(encoding="utf-8").splitlines()]
    assert ledger["rows_in"] == ledger["conversations"] + sum(ledger["drops"].values())
    assert sum(ledger["kept"].values()) == ledger["conversations"]
    assert {key: document[key] for key in ("rows_in", "conversations", "drops", "first", "kept", "notes", "schema")} == {
        key: ledger[key] for key in ("rows_in", "conversations", "drops", "first", "kept", "notes", "schema")}
    for reason, count in ledger["drops"].items():
        places = [f"{r['origin']['path']}:{r['origin']['row']}" for r in rejects if r["reason"] == reason]
        assert len(places) == count
        assert ledger["first"][reason] == places[:NUM_FIRST]
    assert sum(ledger["drops"].values()) == len(rejects)
    assert all(set(r) == {"origin", "reason", "detail", "data"} for r in rejects)
    return Made(document, folder, ledger, rejects)


def healthy(made: Made, count: int) -> None:
    assert made.ledger["drops"] == {}
    assert made.rejects == []
    assert made.document["reports"] == {}
    assert made.document["duplicates"] == 0
    assert made.ledger["conversations"] == made.ledger["rows_in"] == count


# -- what one conversation shows by itself ----------------------------------------------------------


@dataclass
class Fault:
    """``reason`` under which ``row`` goes by ``clean``; ``twin`` stays. ``key``: the setting that reports as well, None where none does."""

    reason: str
    row: dict[str, Any]
    twin: dict[str, Any]
    key: str | None = None
    clean: dict[str, Any] | None = None

    def settings(self, policy: str) -> dict[str, Any]:
        return self.clean or {self.key: policy}


LONG = "the old bridge over the river was painted again before the winter"
FAULTS = {
    "refusal_en": Fault("refusal", pair("Write me a poem about rain.", "I'm sorry, but as an AI language model, I cannot write poems."),
                        pair("My dog is ill.", "I'm sorry to hear that. A vet can tell you what an AI cannot see from here."), "refusals"),
    "refusal_zh": Fault("refusal", pair("写一首关于雨的诗。", "很抱歉，作为一个人工智能语言模型，我无法写诗。"),
                        pair("我的狗病了。", "听到这个消息很难过，建议尽快带它去看兽医。"), "refusals"),
    "identity_en": Fault("other_identity", pair("Who are you?", "I am MOSS, an AI assistant developed by Fudan University."),
                         pair("What is MOSS?", "MOSS is a language model that came out of Fudan University in 2023."), "identities"),
    "identity_zh": Fault("other_identity", pair("你是谁？", "我是由OpenAI训练的大型语言模型。"),
                         pair("谁发布了ChatGPT？", "ChatGPT是OpenAI在2022年发布的。"), "identities"),
    "empty_turn": Fault("empty_turn", pair("What is red?", "A colour.", "  \n", "Is there anything else?"),
                        pair("What is red?", "A colour.", "And?", "It is the colour of some roses."), "empty_turns"),
    "repeated_turn": Fault("repeated_turn", pair("Go on.", LONG, "And then?", LONG), pair("Go on.", LONG, "And then?", "Then it snowed."), "repeated_turns"),
    "answer_repeats_itself": Fault("repeated_turn", pair("Sing.", "We are walking by the river. " * 8), pair("Sing.", "La la la. We are walking by the river."),
                                   "repeated_turns"),
    "too_short": Fault("too_short", pair("Is the river cold in winter?", "Yes."), pair("Is it?", "Yes, it is cold."), clean={"min_chars": 8}),
    "too_long": Fault("too_long_text", pair("Tell me all.", f"{LONG}. " * 6), pair("Tell me all.", LONG), clean={"max_chars": 400}),
    "not_english": Fault("language", pair("北京有什么好吃的东西吗？", "北京的烤鸭很有名，面食也很多。"),
                         pair("What do people eat in Beijing?", "Many people like roast duck, and there are noodles of all kinds."), clean={"languages": ["en"]}),
}


def test_every_reason_has_a_fault() -> None:
    assert {fault.reason for fault in FAULTS.values()} == set(REASONS)
    reported = {fault.reason: f"{fault.key}: drop" for fault in FAULTS.values() if fault.key}
    assert {**reported, "duplicate": "duplicates: exact"} == SETTINGS


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_dropped_told_or_left(name: str, gogpt: Any, recipe: Any) -> None:
    fault = FAULTS[name]
    others = english(12)
    items = [*others[:4], fault.row, *others[4:], fault.row]  # twice: at 5 and at 14
    data = {"eval": 0, "max_length": 512}

    dropped = prepared(gogpt, recipe(items, data={**data, "clean": fault.settings("drop")}))
    assert dropped.ledger["drops"] == {fault.reason: 2}
    assert dropped.gone == [(fault.reason, "data.jsonl:5"), (fault.reason, "data.jsonl:14")]
    assert dropped.rejects[0]["data"] == {"messages": fault.row["messages"]}
    assert dropped.rejects[0]["detail"]
    assert dropped.document["reports"] == {}
    assert [e.origin.row for e in dropped.sets().train] == [*range(1, 5), *range(6, 14)]

    if fault.key is not None:
        told = prepared(gogpt, recipe(items, data={**data, "clean": {**fault.settings("report"), "duplicates": "keep"}}))
        assert told.ledger["drops"] == {}
        assert {reason: found["count"] for reason, found in told.document["reports"].items()} == {fault.reason: 2}
        first = told.document["reports"][fault.reason]["first"]
        assert [Path(place.split(": ")[0]).name for place in first] == ["data.jsonl:5", "data.jsonl:14"]
        assert all(place.endswith(dropped.rejects[0]["detail"]) for place in first)
        assert len(told.sets().train) == 14
        facts = told.sets().facts.reports
        assert {reason: (t.count, list(t.first)) for reason, t in facts.items()} == {fault.reason: (2, first)}

    left = prepared(gogpt, recipe(items, data={**data, "clean": {"duplicates": "keep", "identities": "keep"}}))
    healthy(left, 14)  # nothing is dropped, and nothing looked for where it was not asked for
    if fault.key == "identities":  # which is looked for unless keep is said
        assert prepared(gogpt, recipe(items, data={**data, "clean": {"duplicates": "keep"}})).document["reports"] == told.document["reports"]

    twin = [*others[:4], fault.twin, *others[4:]]
    healthy(prepared(gogpt, recipe(twin, data={**data, "clean": fault.settings("drop")})), 13)
    if fault.key is not None:
        healthy(prepared(gogpt, recipe(twin, data={**data, "clean": fault.settings("report")})), 13)


def test_everything_at_once_each_under_its_own_reason(gogpt: Any, recipe: Any) -> None:
    """All policies together, in one file: one fault does not hide another, and none is counted twice."""
    asked = {"identities": "drop", "refusals": "drop", "empty_turns": "drop", "repeated_turns": "drop", "min_chars": 8, "max_chars": 1000,
             "languages": ["en", "zh"], "duplicates": "near"}
    some = {name: fault for name, fault in FAULTS.items() if name not in ("too_long", "not_english")}
    others = [*english(8), *chinese(4)]
    items = [*others, *(f.row for f in some.values()), reworded(others[1]), others[2]]
    made = prepared(gogpt, recipe(items, data={"eval": 0, "max_length": 512, "clean": asked}))
    expected = [(f.reason, f"data.jsonl:{13 + i}") for i, f in enumerate(some.values())]
    assert sorted(made.gone) == sorted([*expected, ("near_duplicate", f"data.jsonl:{len(items) - 1}"), ("duplicate", f"data.jsonl:{len(items)}")])
    assert [e.origin.row for e in made.sets().train] == list(range(1, 13))


def test_evaluation_sources_are_cleaned_too(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "held.jsonl", [*english(3, seed=1), FAULTS["refusal_en"].row, FAULTS["identity_zh"].row])
    clean = {"refusals": "drop", "identities": "report"}
    made = prepared(gogpt, recipe(english(6), data={"eval": [str(tmp_path / "held.jsonl")], "clean": clean}))
    assert made.gone == [("refusal", "held.jsonl:4")]
    assert made.document["reports"]["other_identity"]["count"] == 1
    assert made.ledger["kept"] == {"train": 6, "eval": 4}
    assert len(made.sets().eval) == 4


def test_a_language_that_cannot_be_told_is_kept_and_told(gogpt: Any, recipe: Any) -> None:
    items = [*english(6), pair("2 + 2 = ?", "4")]
    made = prepared(gogpt, recipe(items, data={"eval": 0, "clean": {"languages": ["en"]}}))
    assert made.ledger["drops"] == {}
    assert {k: v["count"] for k, v in made.document["reports"].items()} == {"language_unknown": 1}
    assert made.document["reports"]["language_unknown"]["first"][0].endswith("data.jsonl:7")


def test_identities_are_rewritten_in_the_ids(gogpt: Any, recipe: Any, tiny: Path) -> None:
    items = [*english(4), FAULTS["identity_en"].row, FAULTS["identity_zh"].row, FAULTS["identity_en"].twin]
    clean = {"identities": "rewrite", "identity": "Lumen", "maker": "Northlight"}
    made = prepared(gogpt, recipe(items, data={"eval": 0, "clean": clean}))
    assert made.ledger["drops"] == {}
    assert {k: v["count"] for k, v in made.document["reports"].items()} == {"identity_rewritten": 2}
    said = made.texts(tiny)
    assert "Lumen" in said[4]
    assert "Northlight" in said[4]
    assert "MOSS" not in said[4]
    assert "Fudan" not in said[4]
    assert "Northlight" in said[5]
    assert "OpenAI" not in said[5]
    assert "MOSS is a language model that came out of Fudan University" in said[6]  # what is said of others stays
    for i in range(4):
        assert items[i]["messages"][1]["content"] in said[i]
    samples = (made.folder / "samples.jsonl").read_text(encoding="utf-8")
    assert "I am Lumen" in samples
    assert "I am MOSS" not in samples


def test_a_rewrite_without_a_name_is_refused(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    made = recipe([*english(4), FAULTS["identity_en"].row], data={"eval": 0, "clean": {"identities": "rewrite"}})
    for settings in ((), ("data.clean.identity=Lumen",)):  # and no maker to put in the place of the one that is named
        ran = gogpt("prepare", made, *settings)
        assert ran.code == 2
        assert "CFG240" in ran.err
        assert not (tmp_path / "prepared").exists()


# -- what only the whole set shows ------------------------------------------------------------------


def test_duplicates(gogpt: Any, recipe: Any) -> None:
    """One row again, word for word, and one with a word changed, among rows that are all different."""
    others = english(30)
    items = [*others, others[3], reworded(others[7])]

    def ask(policy: str, items: list[Any] = items, **more: Any) -> Made:
        return prepared(gogpt, recipe(items, data={"eval": 0, "clean": {"duplicates": policy, **more}}))

    near = ask("near")
    assert near.gone == [("duplicate", "data.jsonl:31"), ("near_duplicate", "data.jsonl:32")]
    assert near.ledger["drops"] == {"duplicate": 1, "near_duplicate": 1}
    exact, alike = near.rejects
    assert exact["detail"].startswith("says the same as ")
    assert exact["detail"].endswith("data.jsonl:4")
    assert alike["detail"].startswith("is like ")
    assert alike["detail"].endswith("data.jsonl:8")
    assert [e.origin.row for e in near.sets().train] == list(range(1, 31))

    exact_only = ask("exact")
    assert exact_only.gone == [("duplicate", "data.jsonl:31")]
    told = ask("report")
    assert told.gone == []
    assert told.document["duplicates"] == 1
    (place,) = told.sets().facts.duplicates.first
    assert [p.rpartition("/")[2] for p in place.split(" = ")] == ["data.jsonl:31", "data.jsonl:4"]
    assert len(told.sets().train) == 32
    healthy(ask("keep"), 32)
    healthy(ask("near", others), 30)
    # Half of the answer in other words is another answer; and so is any rewording where only copies are asked for.
    healthy(ask("near", [*others, reworded(others[7], 11)]), 31)
    healthy(ask("near", [*others, reworded(others[7], 2)], similarity=0.97), 31)


def test_leaks(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    others, held = english(20), english(8, seed=1)
    write_jsonl(tmp_path / "held.jsonl", held)
    items = [*others, held[2], reworded(held[5])]

    def ask(policy: str, items: list[Any] = items) -> Made:
        return prepared(gogpt, recipe(items, data={"eval": [str(tmp_path / "held.jsonl")], "clean": {"leakage": policy}}))

    near = ask("near")
    assert near.gone == [("leak", "data.jsonl:21"), ("near_leak", "data.jsonl:22")]
    exact, alike = near.rejects
    assert exact["detail"].endswith("held.jsonl:3")
    assert "held.jsonl:6" in alike["detail"]
    assert near.ledger["kept"] == {"train": 20, "eval": 8}
    assert near.sets().facts.overlap.count == 0
    assert ask("exact").gone == [("leak", "data.jsonl:21")]
    told = ask("report")
    assert told.gone == []
    assert told.sets().facts.overlap.count == 1  # which DAT310 refuses
    refused = gogpt("check", recipe(items, data={"eval": [str(tmp_path / "held.jsonl")]}), "--format", "json")
    assert [f["code"] for f in refused.json["findings"]] == ["DAT310"]
    for policy in ("report", "exact", "near"):
        healthy(ask(policy, others), 28)


def test_a_held_out_part_leaks_nothing(gogpt: Any, recipe: Any) -> None:
    """By a fraction, equal rows stay on one side; those alike may part, and then the training side goes."""
    others = english(40)
    items = [row for other in others for row in (other, reworded(other))]
    made = prepared(gogpt, recipe(items, data={"eval": 0.2, "clean": {"leakage": "near"}}))
    assert set(made.ledger["drops"]) == {"near_leak"}
    held = {(e.origin.row - 1) // 2 for e in made.sets().eval}
    trained = {(e.origin.row - 1) // 2 for e in made.sets().train}
    assert held
    assert held.isdisjoint(trained)
    assert held | trained == set(range(40))


# -- however it is made, the same -------------------------------------------------------------------


def test_processes_and_a_resumed_prepare_drop_the_same(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stretches, "SMALLEST", 4096)
    monkeypatch.setattr("gogpt.data.prepare.WORTH_PROCESSES", 0)
    others = english(200)
    items = [*others, *(f.row for f in FAULTS.values()), *others[::17], *map(reworded, others[::13])]
    clean = {"duplicates": "near", "leakage": "near", "identities": "drop", "refusals": "report"}
    path = recipe(items, data={"eval": 0.1, "max_length": 512, "clean": clean})

    def ask(name: str, workers: int) -> Made:
        return prepared(gogpt, path, f"data.workers={workers}", f"data.prepared={tmp_path / name}")

    one, two = ask("one", 1), ask("two", 2)
    assert one.ledger["drops"]["duplicate"] == 12
    assert one.ledger["drops"]["near_duplicate"] >= 15
    assert one.ledger["drops"]["other_identity"] == 2
    assert one.document["reports"]["refusal"]["count"] == 2
    assert len(list(one.folder.glob("*.arrow"))) > 4

    from gogpt.data.work import Worker

    real, calls = Worker.make, []

    def make(self: Worker, stretch: Any) -> Any:
        calls.append(stretch.number)
        if stretch.number == 3 and calls.count(3) == 1:
            raise KeyboardInterrupt
        return real(self, stretch)

    monkeypatch.setattr(Worker, "make", make)
    assert gogpt("prepare", path, "data.workers=1", f"data.prepared={tmp_path / 'three'}", "-q").code == 130
    resumed = ask("three", 1)
    assert calls[:4] == [0, 1, 2, 3]
    assert calls[4] == 3  # what was made is not made again
    for other in (two, resumed):
        assert other.ledger == one.ledger
        assert other.rejects == one.rejects
        assert other.document["reports"] == one.document["reports"]
        assert other.sets().train.digest() == one.sets().train.digest()
        assert other.sets().eval.digest() == one.sets().eval.digest()


# -- mixing -----------------------------------------------------------------------------------------


def table_is_true(made: Made) -> dict[str, dict[str, Any]]:
    """The rows of the table by name, each source's numbers counted again over the set that lies in the folder."""
    by_file: dict[str, list[Any]] = {}
    train = list(made.sets().train)
    for example in train:
        by_file.setdefault(example.origin.path, []).append(example)
    rows = {row["name"]: row for row in made.document["mix"]}
    sources = [row for row in made.document["mix"] if row["kind"] == "source"]
    for row in sources:
        own = by_file.get(row["name"], [])
        assert row["used"] == len(own)
        assert row["tokens"] == sum(e.input_ids.size for e in own)
        assert row["trained"] == sum(int((e.labels != -100).sum()) for e in own)
        assert row["repeats"] == row["used"] / row["found"]
    for kind in {row["kind"] for row in made.document["mix"]}:
        own = [row for row in made.document["mix"] if row["kind"] == kind]
        assert sum(row["used"] for row in own) == len(train) == made.document["examples"]
        assert sum(row["tokens"] for row in own) == made.document["tokens"] == sum(e.input_ids.size for e in train)
        assert sum(row["trained"] for row in own) == made.document["trained_tokens"]
        assert sum(row["share"] for row in own) == pytest.approx(1)
    return rows


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Files of 40 English and 10 Chinese conversations."""
    write_jsonl(tmp_path / "en.jsonl", english(40))
    write_jsonl(tmp_path / "zh.jsonl", chinese(10))
    return str(tmp_path / "en.jsonl"), str(tmp_path / "zh.jsonl")


@pytest.mark.parametrize(("sampling", "used"), [("under", 10), ("over", 40)])
def test_languages_are_mixed(sampling: str, used: int, gogpt: Any, recipe: Any, two: tuple[str, str]) -> None:
    path = recipe(data={"train": [*two], "eval": 0, "max_length": 512, "mix": {"languages": {"zh": 1, "en": 1}, "sampling": sampling}})
    made = prepared(gogpt, path)
    rows = table_is_true(made)
    assert (rows["zh"]["used"], rows["en"]["used"]) == (used, used)
    assert (rows["zh"]["found"], rows["en"]["found"]) == (10, 40)
    assert (rows[two[0]]["used"], rows[two[1]]["used"]) == (used, used)
    assert made.ledger["drops"] == {}
    assert made.ledger["conversations"] == 50  # what the mix leaves out is no drop


def test_languages_are_mixed_by_tokens(gogpt: Any, recipe: Any, two: tuple[str, str]) -> None:
    path = recipe(data={"train": [*two], "eval": 0, "max_length": 512, "mix": {"languages": {"zh": 1, "en": 3}, "unit": "tokens"}})
    rows = table_is_true(prepared(gogpt, path))
    longest = max(e.input_ids.size for e in prepared(gogpt, path).sets().train)
    assert abs(rows["en"]["tokens"] - 3 * rows["zh"]["tokens"]) <= 4 * longest


def test_the_table_names_each_source(gogpt: Any, recipe: Any, two: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By as much of its path as tells it from the others."""
    path = recipe(data={"train": [*two], "eval": 0, "max_length": 512})
    shown = gogpt("prepare", path, "--dry-run").out
    assert [line.split()[0] for line in shown.splitlines() if ".jsonl " in line] == ["en.jsonl", "zh.jsonl"]
    twice = gogpt("prepare", path, "--dry-run", f"data.train=[{two[0]}, {two[0]}]", "data.clean.duplicates=keep").out
    assert [line.split()[0] for line in twice.splitlines() if ".jsonl " in line] == ["en.jsonl", "en.jsonl"]
    monkeypatch.chdir(tmp_path)
    alone = gogpt("prepare", path, "--dry-run", f"data.train={two[0]}", "data.mix.languages={en: 1}").out
    assert [line.split()[0] for line in alone.splitlines() if "jsonl" in line] == ["en.jsonl"]


def test_temperature_mixes_sources(gogpt: Any, recipe: Any, two: tuple[str, str]) -> None:
    path = recipe(data={"train": [*two], "eval": 0, "max_length": 512, "mix": {"temperature": 2}})
    rows = table_is_true(prepared(gogpt, path))
    assert (rows[two[0]]["used"], rows[two[1]]["used"]) == (20, 10)  # 40 : 10 becomes sqrt(40) : sqrt(10)


def test_counts_and_weights(gogpt: Any, recipe: Any, two: tuple[str, str]) -> None:
    path = recipe(data={"train": [{"path": two[0], "weight": 0.5}, {"path": two[1], "count": 25}], "eval": 0, "max_length": 512})
    made = prepared(gogpt, path)
    rows = table_is_true(made)
    assert (rows[two[0]]["used"], rows[two[1]]["used"]) == (20, 25)
    repeats = [e.origin.row for e in made.sets().train if e.origin.path == two[1]]
    assert {repeats.count(row) for row in range(1, 11)} == {2, 3}
    assert made.ledger["notes"]["examples of an epoch after weights"] == 45


def test_what_is_dropped_is_not_mixed(gogpt: Any, recipe: Any, two: tuple[str, str], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "en.jsonl", [*english(40), FAULTS["refusal_en"].row, english(1)[0]])
    path = recipe(data={"train": [{"path": two[0], "weight": 2}, two[1]], "eval": 0, "max_length": 512, "clean": {"refusals": "drop", "duplicates": "exact"}})
    made = prepared(gogpt, path)
    assert made.ledger["drops"] == {"refusal": 1, "duplicate": 1}
    rows = table_is_true(made)
    assert (rows[two[0]]["found"], rows[two[0]]["used"]) == (40, 80)
    assert made.sets().facts.duplicates.count == 1  # what repeats by its weight is no duplicate of the data
