"""DeepSpeed files: what is one, what is drawn, what --fix writes, and what it never does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gogpt.checks import DEEPSPEED
from gogpt.facts import Facts
from gogpt.findings import judge
from gogpt.parallel import (
    KEYS,
    Asked,
    corrected,
    file_rates,
    is_deepspeed,
    read_asked,
    read_engine_file,
    written,
)

OWN = {"zero_optimization": {"stage": 2}, "gradient_clipping": 1.0,
       "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3, "warmup_num_steps": 100, "warmup_type": "linear"}}}


@pytest.mark.parametrize(("document", "is_one"), [
    ({"zero_optimization": {}}, True), ({"train_micro_batch_size_per_gpu": 4}, True), ({"fp16": {}, "optimizer": {}}, True),
    ({"train_batch_size": 8, "optimizer": {}}, True), ({"train_batch_size": 8, "log_history": [], "max_steps": 9}, False),
    ({"fp16": False, "bf16": True, "gradient_accumulation_steps": 4, "deepspeed": "ds.json"}, False),
    ({"fp16": {}}, False), ({}, False), ([], False), (None, False), ({"a": 1, "b": 2}, False),
    ({"model": "m", "data": {}, "zero_optimization": {}}, False), ({"output": "runs/a", "optimizer": {}, "scheduler": {}}, False),
])
def test_recognised(document: Any, is_one: bool) -> None:
    assert is_deepspeed(document) == is_one


def test_a_recipe_in_json_stays_a_recipe(gogpt: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"model": str(tmp_path / "none"), "data": {"train": "a.jsonl"}, "output": "run", "trian": {}}), encoding="utf-8")
    ran = gogpt("check", recipe)
    assert ran.code == 2
    assert ran.err.startswith("CFG202")
    fixed = gogpt("check", recipe, "--fix", tmp_path / "out.json")
    assert (fixed.code, fixed.err.startswith("CFG206")) == (2, True)
    assert not (tmp_path / "out.json").exists()


def test_the_picture(gogpt: Any, tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(OWN), encoding="utf-8")
    ran = gogpt("check", file, "train.max_steps=400")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[0] == "lr        WarmupLR of the file over 400 steps, peak 0.001, last 0.001"
    assert "step 400" in ran.out
    assert lines[-1] == "14 checks, 1 finding"
    chinese = gogpt("check", file, "--lang", "zh", "--fix", tmp_path / "fixed.json")
    assert "文件中的 WarmupLR，共 1,000 步，峰值 0.001" in chinese.out
    assert f"已写出    {tmp_path / 'fixed.json'}，剩余 0 个发现" in chinese.out
    assert '\n-{"zero' in chinese.out
    assert "lr " not in gogpt("check", tmp_path / "fixed.json").out


def test_rates_of_a_file() -> None:
    def rates(params: dict[str, Any], kind: str = "WarmupDecayLR", asked: Asked = Asked()) -> Any:
        return file_rates(read_engine_file(json.dumps({"zero_optimization": {}, "scheduler": {"type": kind, "params": params}}), "ds.json", asked))

    auto = {"warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto"}
    rate, steps = rates(auto, asked=Asked(rate=2e-4, steps=50))
    assert steps == 50
    assert max(rate(s) for s in range(1, 51)) == pytest.approx(2e-4)
    assert rates({})[1] == 2000, "a missing total_num_steps is drawn, though DeepSpeed would not start"
    assert rates({"warmup_max_lr": "high", "total_num_steps": 9}) is None
    assert rates({}, kind="CosineAnnealingLR") is None
    assert rates({"cycle_min_lr": 1e-5, "cycle_max_lr": 1e-3}, kind="OneCycle") is not None


def test_what_the_command_line_says() -> None:
    asked = read_asked(["train.schedule=cosine", "train.learning_rate=1", "parallel.processes=8"])
    assert asked == Asked(schedule="cosine", rate=1.0, world_size=8)


@pytest.mark.parametrize(("word", "code"), [("train.epochs=3", "CFG202"), ("train.max_steps=many", "CFG202"), ("parallel.processes=0", "CFG202"),
                                            ("parallel.processes=true", "CFG202")])
def test_what_it_cannot_say(gogpt: Any, tmp_path: Path, word: str, code: str) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(OWN), encoding="utf-8")
    ran = gogpt("check", tmp_path / "ds.json", word)
    assert ran.code == 2
    assert ran.err.startswith(code)


def test_a_key_twice(gogpt: Any, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2},\n "zero_optimization": {"stage": 3}}', encoding="utf-8")
    ran = gogpt("check", tmp_path / "ds.json")
    assert ran.code == 2
    assert "stands twice" in ran.err
    assert "ds.json:2" in ran.err


def test_fix_is_written_whole_or_not_at_all(gogpt: Any, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(OWN), encoding="utf-8")
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    ran = gogpt("check", tmp_path / "ds.json", "--fix", tmp_path / "taken" / "out.json")
    assert ran.code == 2
    assert "ENV110" in ran.err


def test_indentation_is_kept() -> None:
    text = json.dumps(OWN, indent=4) + "\n"
    file = read_engine_file(text, "ds.json", Asked())
    assert written(file, file.document) == text


def test_numbers_are_kept_as_they_are_written() -> None:
    text = '{\n  "zero_optimization": {\n    "reduce_bucket_size": 5e8,\n    "offload_param": {\n      "max_in_cpu": 1E+9\n    }\n  },\n  "gradient_clipping": 1.50\n}\n'
    file = read_engine_file(text, "ds.json", Asked())
    assert written(file, file.document) == text
    assert json.loads(written(file, {"a": [0.1, 5e8, 7]})) == {"a": [0.1, 5e8, 7]}


def test_any_file_is_judged_and_corrected() -> None:
    """Whatever stands at the known keys, linting ends in findings, and correcting is done at once."""
    rng = random.Random(7)
    values: list[Any] = [None, True, False, 0, 1, 3, 64, -1, 0.5, 1e9, "auto", "cpu", "x", [], [1], {}, {"device": "cpu"}, {"type": "WarmupLR"},
                         {"type": "AdamW", "params": {"lr": "auto"}}, {"enabled": True}, {"stage": 3}, {"type": 3, "params": "auto"}]
    parts = ["", *[p for p in KEYS if p and "." not in p]]
    for _ in range(400):
        document: dict[str, Any] = {"zero_optimization": {"stage": rng.choice([0, 1, 2, 3, "auto"])}}
        for _ in range(rng.randint(0, 12)):
            part = rng.choice(parts)
            target = document if not part else document.setdefault(part, {})
            if isinstance(target, dict):
                name = rng.choice(KEYS[part])
                target[name if rng.random() < 0.9 else name[:-1]] = rng.choice(values)
        file = read_engine_file(json.dumps(document), "ds.json", Asked(world_size=rng.choice([None, 8])))
        judge(DEEPSPEED, Facts(engine=file.facts))
        file_rates(file)
        fixed = read_engine_file(written(file, corrected(file)), "ds.json", file.asked)
        left = judge(DEEPSPEED, Facts(engine=fixed.facts)).findings
        assert {f.code for f in left} <= {"CFG271"}, (document, [str(f) for f in left])
        again = corrected(fixed)
        assert corrected(read_engine_file(written(fixed, again), "ds.json", file.asked)) == again
