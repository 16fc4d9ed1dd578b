"""Method qlora on the command line: its keys, its plan, its note, what it refuses."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("bitsandbytes")

from gogpt.config import load_recipe, recipe_schema


def refused_line(stderr: str, code: str) -> str:
    lines = [line for line in stderr.splitlines() if line.startswith(code)]
    assert len(lines) == 1, stderr
    return lines[0]


def plain(path: Path, **changes: Any) -> Path:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["lora", "qlora", "full", "freeze"])
def test_a_kind_alone_is_a_method(recipe: Any, kind: str) -> None:
    path = plain(recipe(), method=kind)
    assert load_recipe(path).method == load_recipe(recipe(name="long.yaml", method={"rank": 16, "alpha": 32, "kind": kind})).method
    assert load_recipe(path, ["method.rank=8"]).method.rank == 8
    assert load_recipe(path, ["method.rank=8"]).method.kind == kind
    assert load_recipe(recipe(), [f"method={kind}"]).method.kind == kind
    assert kind in recipe_schema()["properties"]["method"]["anyOf"][0]["enum"]


def test_a_kind_that_is_none(gogpt: Any, recipe: Any) -> None:
    ran = gogpt("check", plain(recipe(), method="qlroa"))
    assert ran.code == 2
    assert "method.kind: should be 'lora', 'qlora', 'full' or 'freeze', got 'qlroa'; did you mean 'qlora'?" in ran.err


def test_the_plan_counts_what_is_held_in_4_bits(gogpt: Any, recipe: Any, tiny64: Path) -> None:
    path = recipe(model=str(tiny64), method={"kind": "qlora"})
    ran = gogpt("plan", path, "--no-probe", "--format", "json")
    assert ran.code == 0, ran.err
    plan = ran.json
    # Two layers of q 64x64, k and v 32x64, o 64x64, gate and up 128x64, down 64x128; embedding and head 420x64; five norms of 64.
    four = 2 * (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64)
    assert plan["quantised_parameters"] == four
    assert plan["parameters"] == four + 2 * 420 * 64 + 5 * 64
    assert (plan["method"], plan["quant_type"], plan["weights_dtype"]) == ("qlora", "nf4 (double)", "float32")
    lora = gogpt("plan", path, "method.kind=lora", "--no-probe", "--format", "json").json
    assert (lora["quantised_parameters"], lora["quant_type"]) == (0, None)
    assert lora["trainable_parameters"] == plan["trainable_parameters"]
    assert lora["memory"]["optimizer"] == plan["memory"]["optimizer"]
    assert plan["memory"]["weights"] < lora["memory"]["weights"] - 3 * four
    told = gogpt("plan", path, "--no-probe").out
    assert "base      73.7 k parameters in nf4 (double), 54.1 k in float32" in told
    assert "base  " not in gogpt("plan", path, "method.kind=lora", "--no-probe").out
    assert gogpt("plan", path, "-q").code == 0  # timed too


@pytest.mark.parametrize(("settings", "said"), [
    (["method.kind=lora", "method.quant_type=fp4"], "method.quant_type: fp4: method lora quantises nothing"),
    (["method.kind=full", "method.double_quant=false"], "method.double_quant: False: method full quantises nothing"),
    (["method.modules_to_save=[down_proj]"], "names modules that are held in 4 bits"),
    (["model.dtype=bfloat16", "train.precision=fp32"], "the norms of a quantised base are float32"),
])
def test_settings_that_do_not_go_together(gogpt: Any, recipe: Any, tiny64: Path, settings: list[str], said: str) -> None:
    for command in ("check", "plan", "train"):
        ran = gogpt(command, recipe(model=str(tiny64), method={"kind": "qlora"}), *settings, "-q")
        assert ran.code == 2
        assert said in refused_line(ran.err, "CFG233")


@pytest.mark.parametrize("engine", ["fsdp", "deepspeed"])
def test_engines_that_cannot_hold_4_bits(gogpt: Any, recipe: Any, tiny64: Path, engine: str) -> None:
    for command in ("check", "plan", "train"):
        ran = gogpt(command, recipe(model=str(tiny64), method={"kind": "qlora"}), f"parallel.engine={engine}", "-q")
        assert ran.code == 2
        assert f"method.kind: qlora with parallel.engine: {engine}" in refused_line(ran.err, "CFG230")


def test_weights_that_are_no_safetensors(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    base = Path(shutil.copytree(tiny64, tmp_path / "base"))
    torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
    (base / "model.safetensors").unlink()
    ran = gogpt("check", recipe(model=str(base), method={"kind": "qlora"}), "-q")
    assert ran.code == 2
    assert "safetensors" in refused_line(ran.err, "CFG233")


def test_without_bitsandbytes(gogpt: Any, recipe: Any, tiny64: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Told in the preflight, before a row is read; and by what serves and merges such an adapter."""
    path = recipe(model=str(tiny64), method={"kind": "qlora"}, train={"max_steps": 1})
    assert gogpt("train", path, "-q").code == 0
    real = importlib.metadata.version

    def missing(name: str) -> str:
        if name == "bitsandbytes":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    for words in (["check", path], ["plan", path], ["train", path, "output=other"], ["generate", tmp_path / "run", "hello"],
                  ["merge", tmp_path / "run", "-o", tmp_path / "merged"]):
        ran = gogpt(*words)
        assert ran.code == 2
        assert "a base in 4 bits needs the package bitsandbytes" in refused_line(ran.err, "ENV111")
        assert "pip install 'gogpt[quant]'" in ran.err
    assert gogpt("check", path, "method.kind=lora", "-q").code == 0


def test_the_note_beside_the_adapter(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path) -> None:
    path = recipe(model=str(tiny64), method={"kind": "qlora"}, train={"max_steps": 2, "learning_rate": 5e-3})
    assert gogpt("train", path, "-q").code == 0
    note = tmp_path / "run" / "final" / "gogpt_base.json"
    said = json.loads(note.read_text())
    assert said["quantisation"] == {"quant_type": "nf4", "double_quant": True, "block": 64, "dtype": "float32", "skipped": []}
    for wrong in ({"quant_type": "nf5"}, {"block": 128}, {"dtype": 4}, {"skipped": None}):
        note.write_text(json.dumps({**said, "quantisation": {**said["quantisation"], **wrong}}), encoding="utf-8")
        for words in (["generate", tmp_path / "run", "hello", "-q"], ["merge", tmp_path / "run", "-o", tmp_path / "merged", "-q"]):
            ran = gogpt(*words)
            assert ran.code == 2
            assert "the note of the adapter's base cannot be used" in refused_line(ran.err, "EXP704")


def test_a_quantised_base_is_not_merged_into(gogpt: Any, recipe: Any, tiny64: Path, tmp_path: Path) -> None:
    """An adapter from elsewhere whose base names a quantisation of its own."""
    import shutil

    base = Path(shutil.copytree(tiny64, tmp_path / "base"))
    path = recipe(model=str(base), train={"max_steps": 1})
    assert gogpt("train", path, "-q").code == 0
    config = base / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "awq", "bits": 4}}), encoding="utf-8")
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "-q")
    assert ran.code == 2
    assert "the base is quantised" in refused_line(ran.err, "EXP703")
