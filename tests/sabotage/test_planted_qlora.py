"""Faults of QLoRA: a base that is quantised already, matrices that 4 bits do not fit, a 4-bit base that is not the base, and
merges into other weights than were trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraModel
from planted import by_code, caught, finished, planted, refusal, silent, warned
from safetensors.torch import load_file, save_file

pytest.importorskip("bitsandbytes")

import gogpt.export as gogpt_export
import gogpt.model as gogpt_model
from conftest import make_model, make_tokenizer, rows, write_jsonl

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


def train_on(base: Path, folder: Path) -> Path:
    """A qlora run on ``base`` that has learned its few rows by heart, so that an adapter out of its place shows."""
    import yaml

    from gogpt.cli import run

    write_jsonl(folder / "data.jsonl", rows(6))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({
        "model": str(base), "data": {"train": "data.jsonl", "max_length": 256}, "output": "run",
        "method": {"kind": "qlora", "rank": 16, "alpha": 32, "modules_to_save": ["lm_head", "embed_tokens"]},
        "train": {"max_steps": 60, "learning_rate": 5e-3, "batch_size": 2, "micro_batch_size": 2, "schedule": "constant"},
    }), encoding="utf-8")
    assert run(["train", str(recipe), "-q"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny64: Path) -> Path:
    """Read only."""
    return train_on(tiny64, tmp_path_factory.mktemp("trained"))


def refused(gogpt: Any, run: Path, out: Path, code: str, *options: str) -> dict[str, Any]:
    ran = gogpt("merge", run, "-o", out, *options, "--format", "json")
    found = by_code(ran.json["findings"])
    assert {c: f["severity"] for c, f in found.items()} == {code: "error"}, ran.out
    assert ran.code == 1
    assert not list(out.parent.iterdir())
    told = gogpt("merge", run, "-o", out, *options)
    assert told.code == 1
    assert f"error {code}" in told.err
    assert "nothing was written" in told.err
    return found[code]


@planted("MOD540")
@pytest.mark.parametrize("settings", [GPTQ, BNB], ids=["gptq", "bitsandbytes"])
@pytest.mark.parametrize("kind", ["lora", "qlora", "full", "freeze"])
def test_a_base_that_is_quantised_already(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path, settings: dict[str, Any], kind: str) -> None:
    base = Path(shutil.copytree(tiny64, tmp_path / "base"))
    config = base / "config.json"
    healthy = recipe(model=str(base), method={"kind": kind}, train={"learning_rate": 1e-4})
    silent(gogpt, healthy)
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": settings}), encoding="utf-8")
    finding = caught(gogpt, healthy, "MOD540")
    assert finding["evidence"] == {"quantised_already": settings["quant_method"], "method": kind, "path": str(base)}


@planted("MOD541")
def test_a_model_that_four_bits_do_not_fit(gogpt: Any, recipe: Any, tiny: Path, tiny64: Path, tmp_path: Path) -> None:
    """Widths of 48 and 96: nothing could be quantised. 32 and 64: one module in seven. 64 and 128: all."""
    odd = tmp_path / "odd"
    make_tokenizer(odd)
    make_model(odd, hidden_size=48, intermediate_size=96)
    finding = caught(gogpt, recipe(model=str(odd), method={"kind": "qlora"}), "MOD541")
    assert (finding["evidence"]["left"], finding["evidence"]["all"]) == (14, 14)
    told = warned(gogpt, recipe(model=str(tiny), method={"kind": "qlora"}), "MOD541")
    assert (told["evidence"]["left"], told["evidence"]["all"]) == (12, 14)
    path = recipe(model=str(tiny64), method={"kind": "qlora"})
    silent(gogpt, path)
    finished(gogpt, path)


def test_matrices_that_a_processor_gets_wrong(gogpt: Any, recipe: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real fault behind MOD541: quantised all the same, rows of 32 come out wrong where the processor has AVX-512."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("bitsandbytes counts blocks by rows on CPUs with AVX-512 alone")
    monkeypatch.setattr("gogpt.quantisation.BLOCK", 1)
    ran = gogpt("train", recipe(model=str(tiny), method={"kind": "qlora"}), "-q")
    assert ran.code == 2
    assert "do not stand for those of the base" in refusal(ran.err, "MOD542")


def test_weights_that_are_not_those_of_the_base(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix of the last layer with its halves of every byte swapped: loading goes well, and the proof tells it."""
    real = gogpt_model.AutoModelForCausalLM.from_pretrained

    def swapped(*args: Any, **kwargs: Any) -> Any:
        model, info = real(*args, **kwargs)
        data = model.model.layers[1].mlp.gate_proj.weight.data
        data.copy_((data >> 4) | (data << 4))
        return model, info

    monkeypatch.setattr(gogpt_model.AutoModelForCausalLM, "from_pretrained", swapped)
    ran = gogpt("train", recipe(model=str(tiny64), method={"kind": "qlora"}), "-q")
    assert ran.code == 2
    assert "model.layers.1.mlp.gate_proj" in refusal(ran.err, "MOD542")
    assert not (tmp_path / "run").exists()


def test_modules_that_are_not_quantised_as_planned(gogpt: Any, recipe: Any, tiny64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an architecture does that keeps its experts in one tensor: they stay whole, and take four times the memory."""
    real = gogpt_model.bitsandbytes_config

    def fewer(*args: Any) -> Any:
        config = real(*args)
        config.llm_int8_skip_modules.append("down_proj")
        return config

    monkeypatch.setattr(gogpt_model, "bitsandbytes_config", fewer)
    ran = gogpt("train", recipe(model=str(tiny64), method={"kind": "qlora"}), "-q")
    assert ran.code == 2
    assert "not quantised as planned: 2 modules" in refusal(ran.err, "MOD542")


def test_a_healthy_merge_of_a_4bit_base(gogpt: Any, trained: Path, tmp_path: Path) -> None:
    ran = gogpt("merge", trained, "-o", tmp_path / "merged", "--format", "json")
    assert ran.code == 0, ran.err
    assert ran.json["findings"] == []
    facts = ran.json["facts"]
    assert facts["probe_loss_after"] == pytest.approx(facts["probe_loss_before"], abs=1e-5)
    # Saved in bfloat16 the same merge holds, to the rounding of bfloat16.
    assert gogpt("merge", trained, "-o", tmp_path / "half", "--dtype", "bfloat16", "-q").code == 0


@planted("EXP701")
def test_a_merge_into_the_float32_base(gogpt: Any, trained: Path, tiny64: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a tool does that loads the checkpoint again in full precision and merges there."""
    monkeypatch.setattr(gogpt_export, "dequantise",
                        lambda model: gogpt_model.load_base(gogpt_model.ModelConfig(path=str(tiny64)), tiny64, "float32"))
    evidence = refused(gogpt, trained, tmp_path / "merged", "EXP701")["evidence"]
    assert evidence["max_difference"] > 100 * evidence["tolerance"]


@planted("EXP701")
def test_a_merge_in_4_bits(gogpt: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PEFT's merge of a 4-bit model does: the sum is rounded to 4 bits, and the adapter with it."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    merge = LoraModel.merge_and_unload

    def rounded(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = merge(self, *args, **kwargs)
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and "layers" in name:
                module.weight.data = dequantize_4bit(*quantize_4bit(module.weight.data, quant_type="nf4"))
        return model

    monkeypatch.setattr(LoraModel, "merge_and_unload", rounded)
    evidence = refused(gogpt, trained, tmp_path / "merged", "EXP701")["evidence"]
    assert evidence["max_difference"] > 100 * evidence["tolerance"]


@planted("EXP740")
def test_a_merge_into_the_original_base(gogpt: Any, tiny64: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Asked for by name: what it costs is measured. One weight in 64 is large, as in large models: it sets the scale of its
    block, and the 4 bits leave little of the other 63. The adapter that has learned to do without them meets them again."""
    folder = tmp_path_factory.mktemp("outliers")
    base = Path(shutil.copytree(tiny64, folder / "base"))
    tensors = load_file(base / "model.safetensors")
    for name, tensor in tensors.items():
        if "layers" in name and tensor.ndim == 2:
            tensor[:, ::64] *= 30
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    run = train_on(base, folder)
    evidence = refused(gogpt, run, tmp_path / "merged", "EXP740", "--into", "original")["evidence"]
    assert (evidence["trained_base"], evidence["merged_base"]) == ("nf4", "full")
    assert evidence["probe_loss_after"] > evidence["probe_loss_before"] + evidence["most_rise"]
    assert gogpt("merge", run, "-o", tmp_path / "merged", "-q").code == 0


@planted("EXP740")
def test_a_merge_into_the_original_base_that_costs_little(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path) -> None:
    """An adapter that has learned little: the merge is written, and told. Of lora the original base is the one trained."""
    for kind, findings in (("qlora", {"EXP740": "warning"}), ("lora", {})):
        path = recipe(model=str(tiny64), method={"kind": kind}, train={"learning_rate": 1e-3})
        assert gogpt("train", path, f"output={tmp_path / kind}", "-q").code == 0
        ran = gogpt("merge", tmp_path / kind, "-o", tmp_path / f"{kind}-merged", "--into", "original", "--format", "json")
        assert ran.code == 0, ran.out
        assert {f["code"]: f["severity"] for f in ran.json["findings"]} == findings
        assert (tmp_path / f"{kind}-merged" / "model.safetensors").is_file()
