"""A prepared set is the same set however it was made, is never stale, and holds what the exact way makes of each row."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SHARED, rows, write_jsonl
from gogpt.config import DataConfig
from gogpt.data import fingerprint, lane, stretches
from gogpt.data.prepare import Prepared, prepare
from gogpt.data.store import block_bytes, read_block
from gogpt.errors import GogptError
from gogpt.templates import TEMPLATES, pick_template
from gogpt.tokenize import Tokenizer
from gogpt.tokenize import engines as engines_module
from templates_cases import PIECES

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran", "far", "away", "to", "see", "what", "was", "there", "night", "came", "down"]


def chats(count: int, seed: int = 0) -> list[dict[str, Any]]:
    pick = random.Random(seed)

    def text() -> str:
        return " ".join(pick.choices(WORDS, k=pick.randint(3, 30)))

    return [{"messages": [{"role": ("user", "assistant")[i % 2], "content": f"{n} {text()}"} for i in range(2 * pick.randint(1, 4))]} for n in range(count)]


def config(path: Path, **more: Any) -> DataConfig:
    return DataConfig.model_validate({"train": [str(path)], "template": "chatml", "max_length": 512, **more})


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every conversation goes the exact way."""
    monkeypatch.setattr(lane.Planner, "of", lambda self, shape: None)


def same(a: Prepared, b: Prepared) -> None:
    for x, y in ((a.train, b.train), (a.eval, b.eval)):
        assert len(x) == len(y)
        for p, q in zip(x, y, strict=True):
            assert p.origin == q.origin
            assert np.array_equal(p.input_ids, q.input_ids)
            assert np.array_equal(p.labels, q.labels)
        assert np.array_equal(x.content_keys, y.content_keys)
        assert np.array_equal(x.conversations, y.conversations)
        assert x.digest() == y.digest()
    assert a.facts == b.facts
    assert a.ledger.to_dict() == b.ledger.to_dict()
    assert list(a.rejects()) == list(b.rejects())
    assert a.sampled == b.sampled


# -- the fast lane is the exact way -----------------------------------------------------------------

text = st.lists(st.sampled_from([*PIECES, "<|im_end|>", "<s>", "</s>", "### Response:", "hello", "你好"]), max_size=4).map("".join)
turns = st.lists(text, min_size=1, max_size=6)
TURN_TEMPLATES = [t.name for t in TEMPLATES]


@st.composite
def any_row(draw: st.DrawFn) -> dict[str, Any]:
    said = draw(turns)
    kind = draw(st.sampled_from(["messages", "conversations", "system", "odd"]))
    if kind == "conversations":
        return {"messages": [{"from": ("human", "gpt")[i % 2], "value": t} for i, t in enumerate(said)]}
    out: list[dict[str, Any]] = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(said)]
    if kind == "system":
        out.insert(0, {"role": "system", "content": draw(text)})
    if kind == "odd":
        out[draw(st.integers(0, len(out) - 1))][draw(st.sampled_from(["train", "name", "reasoning_content"]))] = draw(st.sampled_from([True, False, "x"]))
    return {"messages": out}


@settings(max_examples=150, deadline=None)
@given(items=st.lists(any_row(), min_size=1, max_size=5), template=st.sampled_from(TURN_TEMPLATES), which=st.integers(0, 1),
       train_on=st.sampled_from(["assistant", "last", "all"]), special=st.sampled_from(["error", "drop", "keep"]), limit=st.sampled_from([24, 512]))
def test_the_fast_lane_makes_what_the_exact_way_makes(items: list[Any], template: str, which: int, train_on: str, special: str, limit: int,
                                                       tiny: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    tokenizer = Tokenizer((tiny, tiny_llama)[which])
    path = tmp_path_factory.mktemp("lane") / "a.jsonl"
    write_jsonl(path, [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}, *items])
    made = config(path, template=template, train_on=train_on, special_text=special, max_length=limit)

    def attempt() -> Prepared | str:
        try:
            return prepare(made, tokenizer, pick_template(template, tokenizer))
        except GogptError as problem:
            return str(problem)

    fast = attempt()
    with pytest.MonkeyPatch.context() as patch:
        exactly(patch)
        slow = attempt()
    if isinstance(fast, str) or isinstance(slow, str):
        assert fast == slow
    else:
        same(fast, slow)


def test_most_conversations_take_the_fast_lane(tiny: Path, tmp_path: Path) -> None:
    """The property above would hold for a lane that nobody takes."""
    from gogpt.data.examples import Preparer

    path = tmp_path / "a.jsonl"
    write_jsonl(path, chats(200))
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        real = Preparer.examples
        patch.setattr(Preparer, "examples", lambda self, conversation, ledger: asked.append(1) or real(self, conversation, ledger))
        for template in ("chatml", "llama2", "alpaca", "llama3"):
            prepared = prepare(config(path, template=template), Tokenizer(tiny), pick_template(template, Tokenizer(tiny)))
            assert prepared.ledger.conversations >= 150
    assert len(asked) <= 200  # those of one template at most: alpaca takes no dialogues


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared")
@pytest.mark.parametrize(("folder", "template"), [("smollm2-bpe-49k", "chatml"), ("llama2-spm-32k", "llama2"), ("llama3-bpe-128k", "llama3"), ("qwen3-bpe-151k", "alpaca")])
def test_real_data_take_both_ways_alike(folder: str, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(SHARED / "tokenizers" / folder)
    form = pick_template(template, tokenizer)
    names = ("alpaca/alpaca_zh_demo.json", "sharegpt/dummy_conversation.json", "openai_messages/v1_sft_demo.jsonl", "belle/dev1K.json")
    for name in names:
        made = config(SHARED / "data" / name, template=template, special_text="keep", eval=0.1)
        fast = prepare(made, tokenizer, form)
        with monkeypatch.context() as patch:
            exactly(patch)
            same(fast, prepare(made, tokenizer, form))


# -- one set, however it was made -------------------------------------------------------------------


@pytest.fixture
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stretches from little data, and processes for it."""
    monkeypatch.setattr(stretches, "SMALLEST", 4096)
    monkeypatch.setattr("gogpt.data.prepare.WORTH_PROCESSES", 0)


def test_processes_change_nothing(tiny: Path, tmp_path: Path, small_stretches: None) -> None:
    write_jsonl(tmp_path / "a.jsonl", chats(300))
    (tmp_path / "b.json").write_text(json.dumps(rows(40)))
    tokenizer = Tokenizer(tiny)
    template = pick_template("chatml", tokenizer)
    sources = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.json")]
    made = [prepare(config(Path(), train=sources, eval=0.1, workers=n), tokenizer, template, folder=tmp_path / f"sets{n}") for n in (1, 2, 3)]
    assert all(m.folder is not None for m in made)
    first = files(made[0].folder)  # type: ignore[arg-type]
    assert sum(name.endswith(".arrow") for name in first) > 10
    assert all(files(m.folder) == first for m in made[1:])  # type: ignore[arg-type]
    same(made[0], prepare(config(Path(), train=sources, eval=0.1), tokenizer, template))
    again = prepare(config(Path(), train=sources, eval=0.1), tokenizer, template, folder=tmp_path / "sets1")
    assert (again.made, again.folder) == (False, made[0].folder)
    same(made[0], again)


@pytest.mark.parametrize("template", ["chatml", "auto"])
def test_processes_that_are_not_forked_change_nothing(template: str, tiny: Path, tmp_path: Path, small_stretches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there is no fork (macOS, Windows): everything a process needs is handed to it."""
    write_jsonl(tmp_path / "a.jsonl", chats(60))
    tokenizer = Tokenizer(tiny)
    form = pick_template(template, tokenizer)
    one = prepare(config(tmp_path / "a.jsonl", workers=1), tokenizer, form, folder=tmp_path / "one")
    monkeypatch.setattr("gogpt.data.pool.START", "spawn")
    many = prepare(config(tmp_path / "a.jsonl", workers=2), tokenizer, form, folder=tmp_path / "many")
    assert one.folder is not None
    assert many.folder is not None
    assert files(one.folder) == files(many.folder)


def test_a_process_that_is_ended_is_told_and_what_was_made_stays(tiny: Path, tmp_path: Path, small_stretches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from gogpt.data.work import Worker

    write_jsonl(tmp_path / "a.jsonl", chats(200))
    tokenizer = Tokenizer(tiny)
    template = pick_template("chatml", tokenizer)
    real = Worker.make

    def make(self: Worker, stretch: Any) -> Any:
        if stretch.number == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, stretch)

    with monkeypatch.context() as patch:
        patch.setattr(Worker, "make", make)
        with pytest.raises(GogptError) as caught:
            prepare(config(tmp_path / "a.jsonl", workers=2), tokenizer, template, folder=tmp_path / "sets")
    assert caught.value.code == "ENV114"
    partial = next((tmp_path / "sets").glob("*.partial"))
    before = {p.name: p.stat().st_mtime_ns for p in partial.glob("block-*.json")}
    made = prepare(config(tmp_path / "a.jsonl", workers=2), tokenizer, template, folder=tmp_path / "sets")
    assert len(before) >= 1
    same(made, prepare(config(tmp_path / "a.jsonl"), tokenizer, template))


def test_a_mistake_found_in_another_process_is_told_as_in_this_one(tiny: Path, tmp_path: Path, small_stretches: None) -> None:
    items = chats(120)
    items[70]["messages"][1]["content"] = "far too long " * 4000
    write_jsonl(tmp_path / "a.jsonl", items)
    tokenizer = Tokenizer(tiny)
    said = []
    for workers in (1, 2):
        with pytest.raises(GogptError) as caught:
            prepare(config(tmp_path / "a.jsonl", workers=workers, overlong="error", max_length=6000), tokenizer, pick_template("chatml", tokenizer),
                    folder=tmp_path / f"sets{workers}")
        assert (caught.value.code, caught.value.exit_code) == ("TOK409", 2)
        assert str(caught.value.where).endswith("a.jsonl:71")
        assert not (tmp_path / f"sets{workers}").exists()
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_set_opens_as_a_data_set(tiny: Path, tmp_path: Path) -> None:
    """The blocks are plain Arrow streams: what GoGPT trains on can be looked at with ``datasets``."""
    import datasets

    write_jsonl(tmp_path / "a.jsonl", chats(20))
    tokenizer = Tokenizer(tiny)
    made = prepare(config(tmp_path / "a.jsonl"), tokenizer, pick_template("chatml", tokenizer), folder=tmp_path / "sets")
    assert made.folder is not None
    table = datasets.Dataset.from_file(str(made.folder / "block-00000.arrow"))
    assert len(table) == len(made.train)
    for i, example in enumerate(made.train):
        assert table[i]["input_ids"] == example.input_ids.tolist()
        assert table[i]["row"] == example.origin.row


SLOW = """
import os, sys, time
from gogpt.data import pool, stretches
from gogpt.data.work import Worker
import gogpt.data.prepare as prepare
stretches.SMALLEST = 4096
real = Worker.make
def make(self, stretch):
    time.sleep(0.15)
    return real(self, stretch)
Worker.make = make
from gogpt.cli import main
main(sys.argv[1:])
"""


def test_a_killed_prepare_goes_on_to_the_same_bytes(recipe: Any, tmp_path: Path, gogpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(chats(200), data={"eval": 0.1, "template": "chatml", "max_length": 512})
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    sets = tmp_path / "prepared"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, str(script), "prepare", str(made), "-q"], env=environment, stdout=subprocess.DEVNULL)
    waited = time.monotonic() + 60
    while len(list(sets.glob("*.partial/block-*.json"))) < 3:
        assert time.monotonic() < waited
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = next(sets.glob("*.partial"))
    before = {p.name: p.stat().st_mtime_ns for p in partial.glob("block-*.arrow")}
    (partial / "block-99999.arrow.tmp").write_bytes(b"half")
    monkeypatch.setattr(stretches, "SMALLEST", 4096)
    ran = gogpt("prepare", made, "--format", "json")
    assert ran.code == 0
    folder = Path(ran.json["folder"])
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("block-*.arrow")}
    assert before.items() <= kept.items()  # nothing was made twice
    resumed = files(folder)
    straight = gogpt("prepare", made, f"data.prepared={tmp_path / 'elsewhere'}", "--format", "json")
    assert Path(straight.json["folder"]).name == folder.name
    assert files(Path(straight.json["folder"])) == resumed


# -- never stale ------------------------------------------------------------------------------------


def test_every_part_makes_another_set(tiny: Path, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, chats(10))

    def name(tokenizer: Path = tiny, template: str = "chatml", seed: int = 0, **more: Any) -> str:
        loaded = Tokenizer(tokenizer)
        made = prepare(config(path, **more), loaded, pick_template(template, loaded), seed=seed, folder=tmp_path / "sets")
        assert made.folder is not None
        return made.folder.name

    first = name()
    assert name() == first
    assert name(packing=False, workers=2) == first
    others = [name(tokenizer=tiny_llama), name(template="alpaca"), name(seed=1), name(max_length=100), name(train_on="last"), name(eval=0.2),
              name(clean={"refusals": "drop"}), name(train=[{"path": str(path), "weight": 2}])]
    stat = path.stat()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"cat", b"dog"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    others.append(name())
    path.write_bytes(data)
    monkeypatch.setattr(fingerprint, "code_digest", lambda: "another version")
    others.append(name())
    assert len({first, *others}) == 1 + len(others)


def test_code_is_part_of_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``code_digest`` reads the files that decide what is in a set, and a change to any of them changes it."""
    import shutil

    package = Path(fingerprint.__file__).resolve().parent.parent
    for part in fingerprint.CODE:
        copy = tmp_path / "gogpt" / part
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (package / part).is_dir() else shutil.copy)(package / part, copy)
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "gogpt" / "data" / "fingerprint.py"))
    seen = set()
    for changed in (None, "data/lane.py", "templates/turns.py", "tokenize/encoding.py", "data/identities.yaml", "records.py"):
        if changed:
            with (tmp_path / "gogpt" / changed).open("a") as file:
                file.write("\n# changed\n")
        fingerprint.code_digest.cache_clear()
        seen.add(fingerprint.code_digest())
    fingerprint.code_digest.cache_clear()
    assert len(seen) == 6


def test_a_damaged_set_is_refused(recipe: Any, gogpt: Any, tmp_path: Path) -> None:
    made = recipe(chats(10), data={"template": "chatml", "max_length": 512})
    folder = Path(gogpt("prepare", made, "--format", "json").json["folder"])
    block = next(folder.glob("*.arrow"))
    block.write_bytes(block.read_bytes()[:200])
    ran = gogpt("prepare", made)
    assert ran.code == 2
    assert "DAT313" in ran.err


@pytest.mark.parametrize("settings", [{}, {"train_on": "last"}, {"overlong": "split", "max_length": 128}, {"clean": {"identities": "rewrite", "identity": "Lumen", "maker": "us"}}],
                         ids=["usual", "last", "split", "rewrite"])
def test_a_set_with_other_ids_is_refused(recipe: Any, gogpt: Any, settings: dict[str, Any]) -> None:
    """Whole files, the right name, and the tokens of another model in them."""
    said = [*rows(12, turns=3), {"messages": [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "I am ChatGPT, trained by OpenAI."}]}]
    made = recipe(said, data={"template": "chatml", "max_length": 512, "eval": 0, **settings})
    folder = Path(gogpt("prepare", made, "--format", "json").json["folder"])
    again = gogpt("prepare", made, "--format", "json")
    assert (again.code, again.json["made"]) == (0, False)
    for place in folder.glob("*.arrow"):
        block = read_block(place)
        place.write_bytes(block_bytes(replace(block, input_ids=block.input_ids ^ 1)))
    ran = gogpt("train", made)
    assert ran.code == 2
    assert "DAT313" in ran.err
    assert "other token ids" in ran.err


# -- the command ------------------------------------------------------------------------------------


def test_train_uses_the_set_and_makes_it_when_absent(recipe: Any, gogpt: Any, tmp_path: Path) -> None:
    made = recipe(rows(12), data={"eval": 0.2})
    assert not (tmp_path / "prepared").exists()
    assert gogpt("plan", made, "--no-probe").code == 0
    assert not (tmp_path / "prepared").exists()  # plan writes nothing
    assert gogpt("train", made, "-q").code == 0
    sets = list((tmp_path / "prepared").iterdir())
    assert len(sets) == 1
    times = {p.name: p.stat().st_mtime_ns for p in sets[0].iterdir()}
    ran = gogpt("prepare", made, "--format", "json")
    assert ran.json["made"] is False
    assert gogpt("train", made, "-q", "--overwrite").code == 0
    assert {p.name: p.stat().st_mtime_ns for p in sets[0].iterdir() if p.name in times} == times
    assert json.loads((tmp_path / "run" / "ledger.json").read_text()) == json.loads((sets[0] / "ledger.json").read_text())


def test_a_dry_run_tells_and_keeps_nothing(recipe: Any, gogpt: Any, tmp_path: Path) -> None:
    made = recipe([*rows(6), *rows(2)], data={"clean": {"duplicates": "exact"}})
    ran = gogpt("prepare", made, "--dry-run", "--format", "json")
    assert ran.code == 0
    assert ran.json["folder"] is None
    assert ran.json["drops"] == {"duplicate": 2}
    assert not (tmp_path / "prepared").exists()
    shown = gogpt("prepare", made, "--dry-run")
    assert "duplicate" in shown.out
    assert f"{tmp_path / 'data.jsonl'}:7" in shown.out.replace("\n", "") or "data.jsonl:7" in shown.out


def test_prune_removes_the_other_sets(recipe: Any, gogpt: Any, tmp_path: Path) -> None:
    made = recipe(rows(6))
    gogpt("prepare", made, "-q")
    ran = gogpt("prepare", made, "data.max_length=100", "--prune", "--format", "json")
    assert len(ran.json["removed"]) == 1
    assert [str(p) for p in (tmp_path / "prepared").iterdir()] == [ran.json["folder"]]


def test_prune_leaves_what_another_process_is_making(recipe: Any, gogpt: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    made, sets = recipe(rows(6)), tmp_path / "prepared"
    busy, left = sets / ("a" * 20 + ".partial"), sets / ("b" * 20 + ".partial")
    busy.mkdir(parents=True)
    left.mkdir()
    with FileLock(str(sets / ("." + "a" * 20 + ".lock"))):
        ran = gogpt("prepare", made, "--prune", "--format", "json")
    assert ran.code == 0
    assert ran.json["removed"] == [str(left)]
    assert busy.is_dir()


def test_samples_are_painted(recipe: Any, gogpt: Any) -> None:
    ran = gogpt("prepare", recipe(rows(6)), "--format", "json")
    lines = (Path(ran.json["folder"]) / "samples.jsonl").read_text().splitlines()
    assert lines
    for line in lines:
        sample = json.loads(line)
        assert {"origin", "schema", "messages", "template", "segments", "input_ids", "labels", "tokens"} <= set(sample)


# -- engines ---------------------------------------------------------------------------------------


class Liar:
    """An engine that is right on every text but one."""

    name = "fastokens"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._honest = engines_module.Reference(tokenizer)

    def encode(self, texts: Any) -> engines_module.Flat:
        ids, ends = self._honest.encode(texts)
        ids = ids.copy()
        for i, said in enumerate(texts):
            if "149 " in said or said == "assistant\n":
                continue
            if ends[i + 1] > ends[i]:
                ids[ends[i + 1] - 1] = 5
        return ids, ends


def test_a_library_that_differs_is_found_told_and_left(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(tmp_path / "a.jsonl", chats(30))
    tokenizer = Tokenizer(tiny)
    template = pick_template("chatml", tokenizer)
    honest = prepare(config(tmp_path / "a.jsonl"), tokenizer, template)
    monkeypatch.setenv("GOGPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gogpt.data.prepare.pick_engine", lambda tokenizer, size: ("fastokens", []))
    real = engines_module.open_engine
    monkeypatch.setattr("gogpt.data.pool.open_engine", lambda name, tokenizer: Liar(tokenizer) if name == "fastokens" else real(name, tokenizer))
    made = prepare(config(tmp_path / "a.jsonl"), tokenizer, template)
    assert made.engine == "tokenizers"
    assert "gave other ids" in made.told[0]
    same(made, honest)


@pytest.mark.parametrize("name", engines_module.LIBRARIES)
def test_a_library_is_used_only_where_it_is_proven(name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("GOGPT_CACHE", str(tmp_path))
    tokenizer = Tokenizer(tiny)
    found = engines_module.verdicts(tokenizer)
    assert found[name]["equal"] in (True, False)
    if found[name]["equal"]:
        texts = engines_module.probe_texts(tokenizer, 500)
        a, b = engines_module.open_engine(name, tokenizer).encode(texts), engines_module.Reference(tokenizer).encode(texts)
        assert np.array_equal(a[0], b[0])
        assert np.array_equal(a[1], b[1])
    calls: list[int] = []
    monkeypatch.setattr(engines_module, "_prove", lambda *a: calls.append(1))
    assert engines_module.verdicts(tokenizer) == found  # kept: nothing is proven twice
    engines_module.distrust(tokenizer, engines_module.EngineDiffers(name, "x"))
    assert engines_module.verdicts(tokenizer)[name]["equal"] is False
    assert engines_module.pick_engine(tokenizer, 1 << 30)[0] != name


def test_uncommon_characters_go_to_the_other_engine(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(tiny)
    seen: list[str] = []
    monkeypatch.setattr(engines_module, "WORTH_LOADING", 0)

    class Other(engines_module.Reference):
        def encode(self, texts: Any) -> engines_module.Flat:
            seen.extend(texts)
            return super().encode(texts)

    guarded = engines_module.Guarded(engines_module.Reference(tokenizer), tokenizer, lambda: Other(tokenizer))
    texts = ["plain text", "tab\tand\nline", "control\x14here", "你好，世界", "arabic \u0601", "", "ⓢ", "last"]
    ids, ends = guarded.encode(texts)
    wanted, wanted_ends = engines_module.Reference(tokenizer).encode(texts)
    assert np.array_equal(ids, wanted)
    assert np.array_equal(ends, wanted_ends)
    assert seen == ["control\x14here", "arabic \u0601", "ⓢ"]


def test_blocks_survive_the_disk(tiny: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", chats(15))
    tokenizer = Tokenizer(tiny)
    made = prepare(config(tmp_path / "a.jsonl"), tokenizer, pick_template("chatml", tokenizer), folder=tmp_path / "sets")
    memory = prepare(config(tmp_path / "a.jsonl"), tokenizer, pick_template("chatml", tokenizer))
    assert made.folder is not None
    assert read_block(made.folder / "block-00000.arrow").digest() == memory.train.blocks[0].digest()
