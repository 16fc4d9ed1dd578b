"""Faults of the recipe and of the machine: ENV101, CFG210 to CFG213."""

from __future__ import annotations

import math
from typing import Any

import pytest
from planted import caught, planted, silent, warned

from conftest import rows


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdicts are those of a machine without a GPU, wherever the tests run."""
    monkeypatch.setattr("gogpt.doctor._nvidia", list)
    monkeypatch.setattr("gogpt.doctor.platform.system", lambda: "Linux")


def on_gpu(monkeypatch: pytest.MonkeyPatch, name: str, capability: float) -> None:
    monkeypatch.setattr("gogpt.doctor._nvidia", lambda: [(name, capability)])
    monkeypatch.setattr("gogpt.doctor.package_versions", lambda: {"torch": "2.13.0"})


@planted("ENV101")
def test_fp16_on_a_cpu(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(train={"precision": "fp16"}), "ENV101")
    assert finding["evidence"]["precision"] == "fp16"
    assert finding["evidence"]["device"] == "cpu"
    assert finding["evidence"]["bf16"] is False
    silent(gogpt, recipe(train={"precision": "fp32"}))
    silent(gogpt, recipe(train={"precision": "auto"}))


@planted("ENV101")
def test_bf16_on_a_cpu_is_told(gogpt: Any, recipe: Any) -> None:
    finding = warned(gogpt, recipe(train={"precision": "bf16"}), "ENV101")
    assert finding["evidence"]["precision"] == "bf16"


@planted("ENV101")
def test_bf16_on_a_gpu_without_it(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16 = recipe(train={"precision": "bf16"})
    on_gpu(monkeypatch, "Tesla V100-SXM2-16GB", 7.0)
    finding = caught(gogpt, bf16, "ENV101")
    assert finding["evidence"] == {"precision": "bf16", "device": "cuda", "device_name": "Tesla V100-SXM2-16GB", "bf16": False}
    assert "Tesla V100" in finding["message"]
    silent(gogpt, recipe(train={"precision": "fp16"}))
    on_gpu(monkeypatch, "NVIDIA A100-SXM4-40GB", 8.0)
    silent(gogpt, bf16)


@planted("CFG210")
def test_warmup_of_a_long_recipe_in_a_short_run(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(train={"max_steps": 20, "warmup": 100}), "CFG210")
    assert finding["evidence"] == {"steps": 20, "warmup_steps": 100, "learning_rate": 1e-3}
    caught(gogpt, recipe(train={"max_steps": 20, "warmup": 20}), "CFG210")  # reached by no step either
    silent(gogpt, recipe(train={"max_steps": 20, "warmup": 19}))
    silent(gogpt, recipe(train={"max_steps": 200, "warmup": 100}))


@planted("CFG211")
@pytest.mark.parametrize("rate", [0.05, 2e4, 0.0, -2e-4, math.nan, math.inf], ids=str)
def test_a_rate_that_cannot_train(gogpt: Any, recipe: Any, rate: float) -> None:
    finding = caught(gogpt, recipe(train={"learning_rate": rate}), "CFG211")
    # JSON has no NaN and no infinity: they are told as text.
    assert finding["evidence"]["learning_rate"] == (rate if math.isfinite(rate) else str(rate))
    assert finding["evidence"]["method"] == "lora"
    assert finding["evidence"]["suggested"] in finding["fix"]


@planted("CFG214")
@pytest.mark.parametrize("setting", ["early_stopping", "eval_every"])
def test_a_setting_that_waits_for_an_evaluation(gogpt: Any, recipe: Any, setting: str) -> None:
    made = recipe(train={setting: 2})
    finding = caught(gogpt, made, "CFG214", "data.eval=0")
    assert finding["evidence"] == {"settings": f"train.{setting}", "eval_examples": 0}
    silent(gogpt, made)


@planted("CFG211")
def test_a_rate_that_is_unusual_for_its_method(gogpt: Any, recipe: Any) -> None:
    finding = warned(gogpt, recipe(train={"learning_rate": 6e-3}), "CFG211")
    assert finding["evidence"]["limit"] == 5e-3
    silent(gogpt, recipe(train={"learning_rate": 2e-3}))
    full = warned(gogpt, recipe(train={"learning_rate": 2e-3}, method={"kind": "full"}), "CFG211")
    assert full["evidence"]["limit"] == 1e-3
    silent(gogpt, recipe(train={"learning_rate": 1e-5}, method={"kind": "full"}))


@planted("CFG212")
@pytest.mark.parametrize(("batch", "micro", "product", "nearest"), [(5, 2, 4, "4 | 6"), (2, 4, 4, "4"), (7, 4, 4, "4 | 8")])
def test_a_batch_that_does_not_divide(gogpt: Any, recipe: Any, batch: int, micro: int, product: int, nearest: str) -> None:
    finding = caught(gogpt, recipe(train={"batch_size": batch, "micro_batch_size": micro}), "CFG212")
    assert finding["evidence"]["product"] == product
    assert finding["evidence"]["unit"] == micro
    assert finding["evidence"]["nearest"] == nearest
    assert nearest in finding["fix"]
    silent(gogpt, recipe(train={"batch_size": 2 * micro, "micro_batch_size": micro}))


@planted("CFG213")
def test_a_single_step_that_warmup_takes(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(train={"max_steps": 1, "warmup": 1}), "CFG213")
    assert finding["evidence"]["steps"] == 1
    assert finding["evidence"]["warmup_steps"] == 1
    silent(gogpt, recipe(train={"max_steps": 1, "warmup": 0}))
    silent(gogpt, recipe(train={"max_steps": 1, "warmup": 0.1}))  # a share of one step is none
    silent(gogpt, recipe(train={"max_steps": 2, "warmup": 1}))


@planted("CFG213")
def test_few_rows_and_a_large_batch(gogpt: Any, recipe: Any) -> None:
    """Nothing in the recipe says one step: 24 short rows, packing and a batch of 16 do."""
    finding = caught(gogpt, recipe(train={"batch_size": 16, "warmup": 5}), "CFG213", "data.max_length=512")
    assert finding["evidence"]["steps"] == 1
    assert finding["evidence"]["num_rows"] <= 16
    silent(gogpt, recipe(train={"batch_size": 2, "epochs": 3, "warmup": 5}), "data.max_length=512")


@planted("CFG213")
def test_no_step_at_all(gogpt: Any, recipe: Any) -> None:
    finding = caught(gogpt, recipe(rows(8), train={"epochs": 1e-9}), "CFG213")
    assert finding["evidence"]["steps"] == 0
