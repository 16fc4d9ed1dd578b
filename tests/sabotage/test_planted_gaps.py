"""Silent failures of our own: faults that pass every check today, each with what should happen instead.

A test here that passes for good belongs to the file of its check.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import (
    caught,
    document,
    finished,
    metrics_of,
    refusal,
    silent,
    stopped,
)
from safetensors.torch import load_file, save_file

from conftest import make_model, rows

# -- the plan --------------------------------------------------------------------------------------


def test_a_fraction_of_an_epoch_trains_what_the_plan_says(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """12 rows x 0.02 epochs: the plan says 1 step, the order holds no row, and the base is saved as "done, 0 steps"."""
    made = recipe(train={"epochs": 0.02, "warmup": 0})
    plan = gogpt("plan", made, "--format", "json").json
    ran = gogpt("train", made)
    if plan["steps"] == 0:
        assert ran.code == 1
        assert "CFG213" in ran.err
    else:
        assert plan["epochs"] > 0
        assert ran.code == 0
        assert len(metrics_of(tmp_path / "run")) == plan["steps"]


@pytest.mark.parametrize(("count", "epochs"), [(5, 2.5), (5, 1.7), (9, 0.5), (13, 2.5), (6, 1.5), (10, 0.43)])
def test_the_last_step_of_a_broken_epoch_repeats_no_rows(gogpt: Any, recipe: Any, tmp_path: Path, count: int, epochs: float) -> None:
    """5 rows x 2.5 epochs in batches of 4: 4 steps were planned over 12 rows, so that step 4 trained the rows of
    step 1 again."""
    made = recipe(rows(count), train={"epochs": epochs, "warmup": 0})
    settings = ("data.packing=false", "data.eval=0")
    plan = gogpt("plan", made, *settings, "--format", "json").json
    planned_rows = round(plan["epochs"] * plan["rows"])
    assert -(-planned_rows // 4) == plan["steps"]
    assert abs(planned_rows - epochs * count) < 1
    metrics = finished(gogpt, made, *settings)
    trained = sum(m["tokens"] for m in metrics)
    whole, rest = divmod(planned_rows, count)
    assert whole * plan["tokens"] <= trained <= (whole + (rest > 0)) * plan["tokens"]


# -- the run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "held_out"), [(1e20, 0), (1e16, 0.1)], ids=["update_norm is inf", "evaluation loss is nan"])
def test_a_last_update_that_ruins_the_weights(gogpt: Any, recipe: Any, rate: float, held_out: float) -> None:
    """No step follows whose loss would show it: the model was saved as if nothing were wrong."""
    train = {"learning_rate": rate, "max_steps": 1, "warmup": 0}
    made = recipe(train=train, method={"alpha": 1e10}, checks={"allow": ["CFG211"]})
    _, metrics = stopped(gogpt, made, "RUN601", f"data.eval={held_out}", "checks.proofs=[]")
    assert [m["step"] for m in metrics] == [1]


def skip_updates(monkeypatch: pytest.MonkeyPatch, skips: Any) -> None:
    """As fp16's loss scaler: an update that overflows is skipped, and the engine says so. ``skips(n)``: the n-th?"""
    from accelerate import Accelerator

    step = torch.optim.AdamW.step
    calls: list[bool] = []

    def maybe(self: Any, closure: Any = None) -> Any:
        calls.append(bool(skips(len(calls) + 1)))
        return None if calls[-1] else step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", maybe)
    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(lambda self: bool(calls and calls[-1])))


def test_an_update_that_fp16_skips_is_no_fault(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first steps of fp16 often overflow until the scale fits. The schedule waits, and so must the plan."""
    skip_updates(monkeypatch, lambda n: n in (1, 2))
    ran = gogpt("train", recipe(train={"max_steps": 6, "warmup": 2}), "checks.proofs=[]")  # they make a step of their own
    assert ran.code == 0, ran.err
    assert document(tmp_path / "run", "findings.json")["findings"] == []
    rates = [m["lr"] for m in metrics_of(tmp_path / "run")]
    assert rates[0] == rates[1] == rates[2] < rates[3]


def test_fp16_that_skips_every_update(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface/transformers#33086, which the page of RUN604 names: nothing is ever learned."""
    skip_updates(monkeypatch, lambda n: True)
    stopped(gogpt, recipe(train={"max_steps": 24, "warmup": 0}), "RUN604", "checks.proofs=[]")


# -- settings that do nothing ----------------------------------------------------------------------


def test_an_allowed_code_that_does_not_exist(gogpt: Any, recipe: Any) -> None:
    """A misspelt override refuses later, at best; one of a run's check only after hours."""
    ran = gogpt("check", recipe(checks={"allow": ["TOK340"]}))
    assert ran.code == 2, ran
    assert "TOK340" in refusal(ran.err, "CFG205")
    assert gogpt("check", recipe(checks={"allow": ["TOK403"]})).code == 0


def test_a_misspelt_module_to_save(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(method={"modules_to_save": ["lm_haed"]}), "MOD502")
    assert "lm_head" in finding["fix"]
    silent(gogpt, recipe(method={"modules_to_save": ["lm_head"]}))


def test_what_check_lets_pass_train_does_not_refuse(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    made = recipe(method={"targets": [], "modules_to_save": ["lm_head"]}, train={"max_steps": 1, "warmup": 0})
    checked = gogpt("check", made)
    trained = gogpt("train", made)
    assert (checked.code, trained.code) in ((0, 0), (1, 1), (2, 2)), trained.err
    assert (tmp_path / "run").exists() == (trained.code == 0)


def test_early_stopping_without_anything_to_evaluate(gogpt: Any, recipe: Any) -> None:
    made = recipe(train={"early_stopping": 2})
    silent(gogpt, made)
    ran = gogpt("check", made, "data.eval=0")
    assert ran.code != 0, "train.early_stopping does nothing without data.eval"


# -- faults that end in a traceback ----------------------------------------------------------------


def test_examples_beyond_learned_positions(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    """Rotary positions go on (a warning); a table of 32 learned ones ends, and the first long example is an IndexError."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    vocab = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    GPT2LMHeadModel(GPT2Config(vocab_size=vocab, n_embd=32, n_layer=2, n_head=4, n_positions=32)).save_pretrained(model)
    finding = caught(gogpt, recipe(model=str(model)), "MOD504")
    assert finding["evidence"]["positions"] == 32


@pytest.mark.parametrize(("code", "train"), [
    ("CFG211", {"learning_rate": 0.0}), ("CFG211", {"learning_rate": -1e-4}), ("CFG211", {"learning_rate": float("nan")}),
    ("CFG211", {"learning_rate": 1e39}), ("CFG213", {"epochs": 1e-9}),
], ids=lambda x: str(next(iter(x.values()))) if isinstance(x, dict) else x)
def test_what_cannot_run_is_refused_though_allowed(gogpt: Any, recipe: Any, code: str, train: dict[str, Any]) -> None:
    """``allow`` is for those who know better; the optimizer does not."""
    ran = gogpt("train", recipe(train=train, checks={"allow": [code]}))
    assert ran.code in (1, 2)
    assert re.search(r"^[A-Z]{3}\d{3}\b", ran.err, re.MULTILINE)


@pytest.mark.parametrize("code", ["MOD501", "MOD505"])
def test_a_model_that_cannot_train_is_refused_though_allowed(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, code: str) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    make_model(model, rows=300)
    parts: dict[str, Any] = {"model": str(model)} if code == "MOD501" else {"method": {"targets": []}}
    ran = gogpt("train", recipe(**parts, checks={"allow": [code]}))
    assert ran.code in (1, 2)
    assert re.search(r"^[A-Z]{3}\d{3}\b", ran.err, re.MULTILINE)


# -- the merge -------------------------------------------------------------------------------------


def test_another_base_than_the_one_that_was_trained(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    """Same shapes, other weights: merged = base + adapter holds, for a model that nobody trained."""
    assert gogpt("train", recipe(train={"max_steps": 2, "warmup": 0}), "-q").code == 0
    other = Path(shutil.copytree(tiny, tmp_path / "other"))
    make_model(other, seed=7)
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "--base", other)
    assert ran.code != 0
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("wrong", [".layers.1.", ".layers."], ids=["half", "all"])
def test_an_adapter_whose_keys_name_no_module(gogpt: Any, recipe: Any, tmp_path: Path, wrong: str) -> None:
    """PEFT skips them with a warning. What half an adapter does still differs from the base, and is proven; of none
    at all EXP702 says that it changes nothing, and EXP704 would say why."""
    assert gogpt("train", recipe(train={"max_steps": 2, "warmup": 0}), "-q").code == 0
    file = tmp_path / "run" / "final" / "adapter_model.safetensors"
    tensors = {name.replace(wrong, wrong.replace("layers", "layer")): t for name, t in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged")
    assert ran.code != 0
    assert "EXP704" in ran.err
    assert not (tmp_path / "merged").exists()
