"""The step-0 proofs: they leave nothing behind, and their figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import read_metrics, rows

PROOFS = ("accumulation", "packing", "gradients", "adapter", "initial_loss", "generation")


def trained(gogpt: Any, made: Path, *settings: str) -> tuple[list[dict[str, Any]], bytes, dict[str, Any]]:
    """Metrics without time and memory, the bytes of the trained weights, and the facts of the proofs."""
    run = made.parent / "run"
    ran = gogpt("train", made, "--overwrite", "train.max_steps=3", *settings)
    assert ran.code == 0, ran.err
    metrics = [{k: v for k, v in m.items() if k not in ("seconds", "memory", "memory_now")} for m in read_metrics(run)]
    weights = next(p for p in (run / "final").glob("*.safetensors")).read_bytes()
    return metrics, weights, json.loads((run / "facts.json").read_text(encoding="utf-8"))["proofs"]


@pytest.mark.parametrize(("method", "settings"), [
    ({"kind": "lora", "dropout": 0.3}, ()),
    ({"kind": "full"}, ("train.weight_decay=0.1",)),
    ({"kind": "freeze", "trainable_layers": 1}, ("train.optimizer=sgd", "data.packing=false")),
    ({"kind": "lora", "dropout": 0.1}, ("train.gradient_checkpointing=true",)),
], ids=["lora", "full", "freeze", "checkpointing"])
def test_a_run_with_proofs_is_the_run_without_them(gogpt: Any, recipe: Any, method: dict[str, Any], settings: tuple[str, ...]) -> None:
    """Bit for bit: losses, learning rates, norms and the weights at the end; dropout draws the same numbers."""
    made = recipe(method=method)
    without = trained(gogpt, made, "checks.proofs=[]", *settings)
    proven = trained(gogpt, made, *settings)
    assert proven[0] == without[0]
    assert proven[1] == without[1]
    assert set(without[2]["skipped"]) == {*PROOFS, "trained_stop"}
    assert all(without[2][name] is None for name in (*PROOFS, "trained_stop"))
    assert set(proven[2]["skipped"]) == ({"packing"} if "data.packing=false" in settings else set())


def test_figures_of_a_healthy_run(gogpt: Any, recipe: Any) -> None:
    _, _, proofs = trained(gogpt, recipe())
    assert set(proofs["seconds"]) == {*PROOFS, "trained_stop"}
    equal = proofs["accumulation"]
    assert equal["rows"] == 4
    assert equal["loss_together"] == pytest.approx(equal["loss_expected"], rel=1e-5)
    assert equal["loss_apart"] == pytest.approx(equal["loss_expected"], rel=1e-5)
    assert equal["gradient_difference"] < 1e-4
    assert proofs["packing"]["documents"] > 1
    assert proofs["packing"]["leak"] < 1e-6
    assert proofs["packing"]["alone"] < 1e-5
    assert proofs["gradients"]["missing"]["count"] == proofs["gradients"]["non_finite"]["count"] == 0
    # 7 adapters in each of 2 layers: lora_B moves, lora_A has a gradient of 0 because lora_B is 0.
    assert (proofs["gradients"]["tensors"], proofs["gradients"]["zero"]) == (28, 14)
    assert (proofs["adapter"]["tensors"], proofs["adapter"]["moved"]) == (28, 14)
    assert proofs["adapter"]["effect"] > 0
    assert proofs["adapter"]["effect_enlarged"] is None
    loss = proofs["initial_loss"]
    assert loss["vocab_size"] > 400
    assert loss["loss"] == pytest.approx(6.05, abs=0.2)  # random weights: ln of the vocabulary, in whatever order
    assert loss["entropy"] == pytest.approx(6.03, abs=0.1)
    assert abs(loss["shuffled"] - loss["alone"]) < 0.3
    stop = proofs["generation"]
    assert stop["answers"] == stop["prompts_equal"] == stop["stops_trained"] == stop["stopped"] == 2
    assert stop["generation_stops"]
    assert proofs["trained_stop"]["answers"] == 2


def test_proofs_are_named_one_by_one(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    _, _, proofs = trained(gogpt, recipe(), "checks.proofs=[packing, gradients]")
    assert set(proofs["seconds"]) == {"packing", "gradients"}
    told = json.loads((tmp_path / "run" / "findings.json").read_text(encoding="utf-8"))
    assert {n["code"]: n["why"] for n in told["not_checked"]} == dict.fromkeys(
        ["MOD521", "MOD524", "MOD525", "MOD526", "MOD527"], "not asked for: checks.proofs")
    assert {"MOD522", "MOD523"} <= set(told["checked"])
    wrong = gogpt("train", recipe(), "checks.proofs=[packin]")
    assert wrong.code == 2
    assert "did you mean 'packing'" in wrong.err


def test_a_resumed_run_is_proven_again_and_stays_the_same_run(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    import shutil

    made = recipe(train={"max_steps": 4, "save_every": 2}, method={"dropout": 0.1})
    assert gogpt("train", made).code == 0
    straight = (tmp_path / "run" / "final" / "adapter_model.safetensors").read_bytes()
    run = tmp_path / "run"
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoints" / "step-4")
    status = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**status, "status": "stopped"}), encoding="utf-8")
    assert gogpt("train", "--resume", run).code == 0
    assert (run / "final" / "adapter_model.safetensors").read_bytes() == straight
    assert json.loads((run / "facts.json").read_text(encoding="utf-8"))["proofs"]["packing"] is not None


@pytest.mark.parametrize("text", [False, True], ids=["one conversation", "documents"])
def test_little_data(gogpt: Any, recipe: Any, text: bool) -> None:
    """One row is enough: it is taken twice, with fewer trained tokens the second time."""
    items = [{"text": f"The quick brown fox jumps over the lazy dog, {i}."} for i in range(3)] if text else rows(1)
    stage = {"stage": "pretrain"} if text else {}
    made = recipe(items, data={"eval": 0, "max_length": 64}, train={"batch_size": 1, "micro_batch_size": 1}, checks={"allow": ["CFG213"]}, **stage)
    _, _, proofs = trained(gogpt, made)
    assert proofs["accumulation"]["gradient_difference"] < 1e-4
    assert proofs["packing"]["leak"] < 1e-6
    assert set(proofs["skipped"]) == ({"generation", "trained_stop"} if text else set())


@pytest.mark.parametrize(("lang", "word"), [("en", "one step, taken back: 14 of 28 tensors move"), ("zh", "走一步后撤回：28 个张量中 14 个移动")])
def test_the_report_tells_the_figures(gogpt: Any, recipe: Any, tmp_path: Path, lang: str, word: str) -> None:
    trained(gogpt, recipe(), "data.packing=false")
    page = gogpt("report", tmp_path / "run", "--lang", lang)
    assert page.code == 0, page.err
    text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert word in text
    assert "rows are not packed: data.packing is false" in text  # why one was not made


def test_a_proof_that_cannot_be_made_is_told_and_ends_no_run(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaForCausalLM

    def refuses(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("this model has no cache")

    monkeypatch.setattr(LlamaForCausalLM, "generate", refuses)
    ran = gogpt("train", recipe(), "train.max_steps=1")
    assert ran.code == 0, ran.err
    assert "not proven generation: it failed: NotImplementedError: this model has no cache" in ran.err
    told = json.loads((tmp_path / "run" / "findings.json").read_text(encoding="utf-8"))
    assert {n["code"] for n in told["not_checked"]} == {"MOD526", "MOD527"}
    assert told["findings"] == []


def test_a_model_that_draws_random_numbers_is_not_accused(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in training mode that is no dropout, as routers of experts have it: the same rows never give the same gradient."""
    import torch

    from gogpt.adapters import add_method

    def noisy(*args: Any) -> Any:
        model = add_method(*args)
        module = next(m for n, m in model.named_modules() if n.endswith("layers.0.mlp"))
        module.register_forward_hook(lambda module, args, out: out * torch.empty_like(out).uniform_(0.5, 1.5) if module.training else out)
        return model

    monkeypatch.setattr("gogpt.train.add_method", noisy)
    ran = gogpt("train", recipe(), "train.max_steps=1")
    assert ran.code == 0, ran.err
    told = json.loads((tmp_path / "run" / "findings.json").read_text(encoding="utf-8"))
    assert {n["code"]: n["why"] for n in told["not_checked"]} == {
        "MOD521": "the same rows give another gradient the second time: the model draws random numbers"}
