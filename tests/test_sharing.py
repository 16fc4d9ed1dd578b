"""Shared prefixes through the command line: the same trajectory from fewer tokens, told beforehand and proven; refused by name where it would not be the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import WORDS, make_model, make_tokenizer, read_metrics, under_a_system_text

ALIKE: dict[str, Any] = {"data": {"max_length": 512, "eval": 0.1}, "train": {"max_steps": 4, "batch_size": 8, "micro_batch_size": 2, "warmup": 0}}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_same_trajectory_from_fewer_tokens(gogpt: Any, recipe: Any, tmp_path: Path, method: str) -> None:
    made = recipe(under_a_system_text(), method={"kind": method}, **ALIKE)
    runs = {}
    for setting in ("auto", "off"):
        ran = gogpt("train", made, f"train.shared_prefixes={setting}", f"output={tmp_path / setting}")
        assert ran.code == 0, ran.err
        runs[setting] = read_metrics(tmp_path / setting)
    for shared, apart in zip(runs["auto"], runs["off"], strict=True):
        assert shared["loss"] == pytest.approx(apart["loss"], rel=1e-5)
        assert shared["grad_norm"] == pytest.approx(apart["grad_norm"], rel=1e-4)
        assert shared["update_norm"] == pytest.approx(apart["update_norm"], rel=1e-3)
        assert (shared["tokens"], shared["trained_tokens"]) == (apart["tokens"], apart["trained_tokens"])
        assert apart["computed"] == apart["tokens"]
        assert shared["computed"] < 0.6 * shared["tokens"]
    plan = json.loads((tmp_path / "auto" / "plan.json").read_text(encoding="utf-8"))
    assert plan["shared_prefixes"] is True
    computed = sum(line["computed"] for line in runs["auto"]) / sum(line["tokens"] for line in runs["auto"])
    assert plan["computed_tokens"] / plan["tokens"] == pytest.approx(computed, rel=0.05)
    proof = json.loads((tmp_path / "auto" / "facts.json").read_text(encoding="utf-8"))["proofs"]["packing"]
    assert 0 <= proof["shared"] < 1e-5


def test_the_plan_tells_what_it_saves(gogpt: Any, recipe: Any) -> None:
    text = gogpt("plan", recipe(under_a_system_text(), **ALIKE)).out
    assert "of the tokens are computed: examples that begin alike share their prefix" in text
    apart = [{"messages": [{"role": "user", "content": f"{word} is what, number {i}?"}, {"role": "assistant", "content": f"{word} is a word."}]} for i, word in enumerate(WORDS * 2)]
    text = gogpt("plan", recipe(apart, data={"max_length": 128}, train={"epochs": 1, "batch_size": 2, "micro_batch_size": 1})).out
    assert "prefixes are not shared: common prefixes are" in text


REFUSED: list[tuple[str, str]] = [("data.packing=false", "data.packing is false"), ("method.dropout=0.1", "method.dropout"), ("stage=pretrain", "stage pretrain")]


@pytest.mark.parametrize(("setting", "why"), REFUSED)
def test_refused_by_name(gogpt: Any, recipe: Any, tmp_path: Path, setting: str, why: str) -> None:
    if setting == "stage=pretrain":
        made = recipe([{"text": "The quick brown fox. " * 9}] * 9, stage="pretrain")
    else:
        made = recipe(under_a_system_text(), **ALIKE)
    ran = gogpt("plan", made, setting, "train.shared_prefixes=on")
    assert ran.code == 2
    assert f"CFG234 recipe: train.shared_prefixes: on, but prefixes cannot be shared here: {why}" in ran.err
    plan = gogpt("plan", made, setting, "--format", "json").json
    assert plan["shared_prefixes"] is False
    assert why in plan["why_not_shared"]


@pytest.mark.parametrize(("changes", "why"), [({"sliding_window": 64, "model_type": "mistral"}, "it attends within a window"),
                                              ({"attention_dropout": 0.1}, "the model drops out: attention_dropout")])
def test_refused_for_a_model(gogpt: Any, recipe: Any, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    folder = tmp_path / "model"
    make_tokenizer(folder)
    make_model(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    made = recipe(under_a_system_text(), model=str(folder), **ALIKE)
    ran = gogpt("plan", made, "train.shared_prefixes=on")
    assert (ran.code, why in ran.err) == (2, True)
    assert why in gogpt("plan", made, "--format", "json").json["why_not_shared"]


def test_what_the_class_fills_in_is_seen_before_the_first_step(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Mistral's class has a window of 4,096 where config.json says nothing: the plan cannot know, the run does."""
    folder = tmp_path / "model"
    make_tokenizer(folder)
    make_model(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "model_type": "mistral", "architectures": ["MistralForCausalLM"]}), encoding="utf-8")
    made = recipe(under_a_system_text(), model=str(folder), **ALIKE)
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    assert "prefixes are not shared: it attends within a window" in ran.err
    assert all(line["computed"] == line["tokens"] for line in read_metrics(tmp_path / "run"))
    ran = gogpt("train", made, "train.shared_prefixes=on", "--overwrite")
    assert ran.code == 2
    assert "CFG234" in ran.err


def test_resumed_is_straight(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """Bit for bit: a step's layout is a function of its examples."""
    made = recipe(under_a_system_text(), **{**ALIKE, "train": {**ALIKE["train"], "save_every": 2}})
    assert gogpt("train", made, f"output={tmp_path / 'straight'}").code == 0
    assert gogpt("train", made, f"output={tmp_path / 'again'}").code == 0
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step-4")
    ran = gogpt("train", "--resume", tmp_path / "again")
    assert ran.code == 0, ran.err
    keys = ("step", "loss", "grad_norm", "update_norm", "computed")
    straight, again = (read_metrics(tmp_path / name) for name in ("straight", "again"))
    assert [[line[k] for k in keys] for line in straight] == [[line[k] for k in keys] for line in again]
