"""The healthy twins: no check fires on what is right, from the preflight to the last step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import document, finished, silent

from conftest import rows

TEXTS = [{"text": f"The capital of France is Paris. {i} birds sing in the tree by the river."} for i in range(24)]


def test_the_fixture_recipe(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    made = recipe()
    silent(gogpt, made)
    metrics = finished(gogpt, made)
    run = tmp_path / "run"
    facts = document(run, "facts.json")
    assert facts["data"]["rows_in"] == 24
    assert sum(m["trained_tokens"] for m in metrics) == facts["data"]["trained_tokens"]
    assert facts["run"]["non_finite"] is None
    assert facts["run"]["zero_losses"] == facts["run"]["still_steps"] == 0


@pytest.mark.parametrize(("parts", "settings"), [
    ({"method": {"kind": "full"}}, []),
    ({"method": {"kind": "freeze", "trainable_layers": 1}}, []),
    ({"method": {"targets": ["q_proj", "v_proj"], "modules_to_save": ["lm_head"]}}, []),
    ({"train": {"schedule": "linear", "min_lr_ratio": 0.1}}, []),
    ({"train": {"schedule": "constant", "optimizer": "sgd"}}, []),
    ({}, ["data.packing=false"]),
    ({}, ["data.train_on=last"]),
    ({}, ["data.train_on=all"]),
    ({}, ["data.eval=0"]),
    ({}, ["data.template=chatml"]),
    ({}, ["data.template=llama3"]),
], ids=lambda p: " ".join(map(str, p.values() if isinstance(p, dict) else p)) or "-")
def test_other_ways_to_train(gogpt: Any, recipe: Any, parts: dict[str, Any], settings: list[str]) -> None:
    made = recipe(**parts)
    silent(gogpt, made, *settings, "train.max_steps=2")
    finished(gogpt, made, *settings, "train.max_steps=2")


@pytest.mark.parametrize("template", ["alpaca", "llama2"])
@pytest.mark.parametrize("packing", ["true", "false"])
def test_a_llama_tokenizer(gogpt: Any, recipe: Any, tiny_llama: Path, template: str, packing: str) -> None:
    """Dummy prefix, byte fallback, a BOS that is added, no pad token: four ways to go wrong, and none does."""
    made = recipe(rows(16, turns=2), model=str(tiny_llama))
    settings = [f"data.template={template}", f"data.packing={packing}", "train.max_steps=2", "data.max_length=512"]
    silent(gogpt, made, *settings)
    finished(gogpt, made, *settings)


@pytest.mark.parametrize("llama", [False, True])
def test_plain_text(gogpt: Any, recipe: Any, tiny: Path, tiny_llama: Path, llama: bool) -> None:
    made = recipe(TEXTS, model=str(tiny_llama if llama else tiny))
    settings = ["data.template=alpaca"] if llama else []
    silent(gogpt, made, *settings)
    finished(gogpt, made, *settings)
