"""Faults of a merge: EXP701 (it is not base + adapter) and EXP702 (it is the base). Nothing is left of a refused one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraModel
from planted import by_code, planted
from safetensors.torch import load_file, save_file

import gogpt.export as gogpt_export
from conftest import rows, write_jsonl


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A healthy run of the tiny model, trained once for this module. Read only."""
    import yaml

    from gogpt.cli import run

    folder = tmp_path_factory.mktemp("trained")
    write_jsonl(folder / "data.jsonl", rows(24, turns=2))
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({
        "model": str(tiny), "data": {"train": "data.jsonl", "max_length": 256}, "method": {"kind": "lora", "rank": 4, "alpha": 8},
        "train": {"max_steps": 6, "learning_rate": 5e-3, "batch_size": 4, "micro_batch_size": 4, "warmup": 0}, "output": "run",
    }), encoding="utf-8")
    assert run(["train", str(recipe), "-q"]) == 0
    return folder / "run"


def refused(gogpt: Any, run: Path, out: Path, code: str, *options: str) -> dict[str, Any]:
    """A merge that its proof refuses with exactly this code; the finding. Nothing is written."""
    before = sorted(p.name for p in out.parent.iterdir())
    ran = gogpt("merge", run, "-o", out, *options, "--format", "json")
    found = by_code(ran.json["findings"])
    assert {c: f["severity"] for c, f in found.items()} == {code: "error"}, ran.out
    assert ran.code == 1
    assert ran.json["output"] is None
    assert ran.json["checked"] == ["EXP701", "EXP702", "EXP740"]
    assert found[code]["where"] == str(run / "final")
    assert not out.exists()
    assert sorted(p.name for p in out.parent.iterdir()) == before  # no *.partial either

    told = gogpt("merge", run, "-o", out, *options)
    assert told.code == 1
    assert f"error {code}" in told.err
    assert found[code]["message"] in told.err
    assert "nothing was written" in told.err
    assert sorted(p.name for p in out.parent.iterdir()) == before
    return found[code]


def test_a_healthy_merge_is_proven(gogpt: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    ran = gogpt("merge", trained, "-o", out, "--format", "json")
    assert ran.code == 0, ran.err
    assert ran.json["findings"] == []
    assert ran.json["output"] == str(out)
    facts = ran.json["facts"]
    assert facts["max_difference"] <= facts["tolerance"]
    assert facts["reloaded_difference"] <= facts["tolerance"]
    assert facts["effect"] > 100 * facts["tolerance"]
    assert (out / "model.safetensors").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["merged"]


@planted("EXP701")
def test_a_merge_that_adds_something(gogpt: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding to four bits, another base underneath, a factor too much: the weights are not what they should be."""
    merge = LoraModel.merge_and_unload

    def noisy(self: Any, *args: Any, **kwargs: Any) -> Any:
        model = merge(self, *args, **kwargs)
        with torch.no_grad():
            weight = model.model.layers[0].mlp.up_proj.weight
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
        return model

    monkeypatch.setattr(LoraModel, "merge_and_unload", noisy)
    finding = refused(gogpt, trained, tmp_path / "merged", "EXP701")
    assert finding["evidence"]["max_difference"] > finding["evidence"]["tolerance"]
    assert "in memory" not in finding["message"]


@planted("EXP701")
def test_a_merge_that_leaves_a_layer_out(gogpt: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = LoraModel.merge_and_unload

    def forgetful(self: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            self.model.model.layers[1].mlp.down_proj.lora_B["default"].weight.zero_()
        return merge(self, *args, **kwargs)

    monkeypatch.setattr(LoraModel, "merge_and_unload", forgetful)
    finding = refused(gogpt, trained, tmp_path / "merged", "EXP701")
    assert finding["evidence"]["max_difference"] < finding["evidence"]["effect"]  # most of the adapter is there


@planted("EXP701")
def test_what_is_on_disk_is_not_what_was_merged(gogpt: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One tensor of the saved file changed between saving and proof: only loading it back shows it."""
    save = gogpt_export.save_generation_config

    def damaged(config: Any, template: Any, tokenizer: Any, out: Path) -> None:
        save(config, template, tokenizer, out)
        tensors = load_file(out / "model.safetensors")
        tensors["model.norm.weight"][7] += 0.5
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(gogpt_export, "save_generation_config", damaged)
    finding = refused(gogpt, trained, tmp_path / "merged", "EXP701")
    assert finding["evidence"]["max_difference"] <= finding["evidence"]["tolerance"]
    assert finding["evidence"]["reloaded_difference"] > finding["evidence"]["tolerance"]
    assert "loaded back from disk" in finding["message"]


@planted("EXP701")
def test_a_dtype_that_cannot_hold_the_base(gogpt: Any, recipe: Any, trained: Path, tiny: Path, tmp_path: Path) -> None:
    """A real one: float16 ends at 65,504, and one weight of the base is above. In float32 the same merge is proven."""
    base = Path(shutil.copytree(tiny, tmp_path / "base"))
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e5
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    settings = run / "final" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(base)}), encoding="utf-8")
    (run / "final" / "gogpt_base.json").unlink()  # another base than the one trained would be EXP704
    finding = refused(gogpt, run, tmp_path / "merged", "EXP701", "--dtype", "float16")
    assert finding["evidence"]["max_difference"] == "nan"


@planted("EXP702")
def test_an_adapter_whose_lora_b_is_zero(gogpt: Any, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    file = run / "final" / "adapter_model.safetensors"
    tensors = load_file(file)
    assert any(name.endswith("lora_B.weight") and bool(t.any()) for name, t in tensors.items())
    save_file({name: t * 0 if "lora_B" in name else t for name, t in tensors.items()}, file, metadata={"format": "pt"})
    finding = refused(gogpt, run, tmp_path / "merged", "EXP702")
    assert finding["evidence"]["effect"] == 0.0
    assert finding["evidence"]["probe_tokens"] == 256


@planted("EXP702")
def test_a_run_whose_learning_rate_did_nothing(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """A real one: the weights moved in every step, by amounts that no answer shows."""
    made = recipe(train={"learning_rate": 1e-9, "max_steps": 4, "warmup": 0})
    assert gogpt("train", made, "-q").code == 0
    finding = refused(gogpt, tmp_path / "run", tmp_path / "merged", "EXP702")
    assert 0 < finding["evidence"]["effect"] <= finding["evidence"]["tolerance"]


def test_a_refused_merge_leaves_the_run_as_it_was(gogpt: Any, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    monkeypatch.setattr(gogpt_export, "TOLERANCE", {"float32": -1.0})
    ran = gogpt("merge", trained, "-o", tmp_path / "merged")
    assert ran.code == 1
    assert "EXP701" in ran.err
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()} == before
