"""The memory formula: its terms against tensors that torch saves, and on paper against figures that others measured with 7B and 72B models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from gogpt.attention import attend_by_document
from gogpt.batches import collate_forests
from gogpt.config import RunConfig
from gogpt.fused import fuse
from gogpt.loss import summed_loss
from gogpt.memory import Work, activations, layer_elements
from gogpt.plan import fitted
from gogpt.shapes import Shapes
from gogpt.trees import plant
from invariants.test_attention import rows_of

SHAPE = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}


def recipe(**train: Any) -> RunConfig:
    return RunConfig.model_validate({"model": "m", "data": {"train": "x", "max_length": 256}, "output": "run", "method": "full", "train": train})


def shapes(folder: Path, **config: Any) -> Shapes:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Shapes(folder)


def saved_bytes(layers: int, *, fused: bool) -> int:
    """Of distinct memory that the forward pass of one row of 200 tokens keeps for the backward pass, weights left out."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**{**SHAPE, "num_hidden_layers": layers})).train()
    attend_by_document(model, "auto", torch.device("cpu"))
    if fused:
        fuse(model)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)
        return tensor

    batch = collate_forests([plant([e for row in rows_of([[120, 80]], vocab=128) for e in row], least=None)], 0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        summed_loss(model, batch, torch.float32)
    return sum(seen.values())


@pytest.mark.parametrize("fused", [True, False])
def test_a_layer_keeps_what_the_formula_says(tmp_path: Path, fused: bool) -> None:
    """Two more layers, and what they add."""
    checkpoint = shapes(tmp_path / "m", model_type="llama", num_hidden_layers=2, **SHAPE)
    measured = (saved_bytes(3, fused=fused) - saved_bytes(1, fused=fused)) / 2
    assert layer_elements(checkpoint, fused=fused) * 200 * 4 == pytest.approx(measured, rel=0.1)


# GB of all devices, by length. Qwen's README, "Profiling of Memory and Speed" (QwenLM/Qwen): batch 1, checkpointing, LoRA of rank 64 on all linear layers,
# A100-SXM4-80G; 7B on one, 72B under ZeRO 3 on four. All logits are computed there, in 16 bits and in float32, with their gradient.
PUBLISHED = {
    "7B LoRA": ({"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 151_936}, 1,
                {256: 20.1, 2048: 23.8, 8192: 36.6}),
    "72B LoRA, ZeRO 3": ({"hidden_size": 8192, "intermediate_size": 24576, "num_hidden_layers": 80, "num_attention_heads": 64, "vocab_size": 152_064}, 4,
                         {256: 215.4, 2048: 228.8, 8192: 289.2}),
}
RANK = 64


def by_formula(checkpoint: Shapes, devices: int, length: int) -> float:
    """GB on all devices: weights in 16 bits and 16 bytes an adapter's parameter, over the devices; two layers gathered; activations in 16 bits."""
    config = recipe(gradient_checkpointing=True).model_copy(update={"method": recipe().method.model_copy(update={"kind": "lora", "rank": RANK})})
    adapters = RANK * sum(a + b for a, b in checkpoint.linear_modules().values())
    weights = sum(torch.Size(shape).numel() for shape, _ in checkpoint.tensors.values())
    layers = int(checkpoint.config["num_hidden_layers"])
    gathered = 2 * 2 * sum(a * b for a, b in checkpoint.linear_modules().values()) / layers if devices > 1 else 0
    work = Work(tokens=length, length=length, places=0, again=True, by_stretches=True)
    acts = activations(config, checkpoint, work, 2, fused=False)[0] + length * int(checkpoint.config["vocab_size"]) * (2 + 4 + 4)
    return ((2 * weights + 16 * adapters) + devices * (gathered + acts)) / 1e9


@pytest.mark.parametrize("name", PUBLISHED)
def test_against_published_figures(tmp_path: Path, name: str) -> None:
    """7B within 15%; 72B within 20%: a device's context and what its allocator holds back are in the published figures alone, which were larger throughout."""
    shape, devices, measured = PUBLISHED[name]
    checkpoint = shapes(tmp_path / "m", model_type="llama", **shape)
    page = (Path(__file__).resolve().parent.parent / "docs" / "memory.md").read_text(encoding="utf-8")
    for length, published in measured.items():
        ours = by_formula(checkpoint, devices, length)
        assert (0.85 if devices == 1 else 0.8) < ours / published < 1.02, (length, ours)
        assert f"| {name} | {length:,} | {published} | {ours:.1f} | {ours / published:.2f} |" in page


# -- micro_batch_size: auto ------------------------------------------------------------------------


@pytest.mark.parametrize(("memory", "rows"), [(1 << 40, 8), (1 << 20, 1)])
def test_the_largest_micro_batch_that_fits(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, memory: int, rows: int) -> None:
    """Through the command line, on a machine of that much memory; a number stands in the run's recipe."""
    from dataclasses import replace

    from gogpt.doctor import collect_env

    monkeypatch.setattr("gogpt.preflight.collect_env", lambda path: replace(collect_env(path), memory_total=memory))
    made = recipe(train={"batch_size": 8, "micro_batch_size": "auto", "max_steps": 1})
    assert gogpt("plan", made, "--format", "json").json["micro_batch_size"] == rows
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    assert f"micro_batch_size: {rows}\n" in (made.parent / "run" / "recipe.yaml").read_text(encoding="utf-8")


def test_between_them_the_estimate_decides(tmp_path: Path) -> None:
    """Memory for the estimate of 4 rows and not for that of 8 gives 4."""
    from gogpt.checks.cases import ENV
    from gogpt.data.store import ExampleSet
    from gogpt.memory import RUNTIME, estimate_memory
    from gogpt.plan import FITS

    checkpoint = shapes(tmp_path / "m", model_type="llama", num_hidden_layers=2, **SHAPE)
    from dataclasses import replace

    config = recipe(batch_size=8, micro_batch_size="auto")
    config = config.model_copy(update={"data": config.data.model_copy(update={"max_length": 1 << 20})})  # rows so long that they decide
    four = config.model_copy(update={"train": config.train.model_copy(update={"micro_batch_size": 4})})
    work = Work(tokens=4 << 20, length=1 << 20, places=0, again=True, by_stretches=True)
    needed = estimate_memory(four, checkpoint, "float32", work, fused=True, runtime=RUNTIME).total
    env = replace(ENV, device="cpu", bf16=False, memory_total=int(needed / FITS * 1.05))
    assert fitted(config, ExampleSet([], []), checkpoint, env).train.micro_batch_size == 4
