"""Faults of a DeepSpeed file: CFG260 to CFG273, through ``gogpt check ds.json``; each corrected by ``--fix``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from planted import by_code, planted

from gogpt.checks import DEEPSPEED

HEALTHY: dict[str, Any] = {
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"},
    "zero_optimization": {"stage": 2, "overlap_comm": True, "contiguous_gradients": True, "reduce_bucket_size": "auto"},
    "steps_per_print": 100,
}
CODES = [c.code for c in DEEPSPEED]
DECAY = {"warmup_max_lr": "auto", "warmup_num_steps": "auto", "total_num_steps": "auto", "warmup_type": "linear"}
GATHER = {"stage3_gather_16bit_weights_on_model_save": True}


def lint(gogpt: Any, folder: Path, document: dict[str, Any], *words: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Exit code, code -> severity, and the document."""
    file = folder / "ds.json"
    file.write_text(json.dumps(document, indent=4), encoding="utf-8")
    ran = gogpt("check", file, *words, "--format", "json")
    assert ran.json["object"] == {"path": str(file), "kind": "deepspeed"}
    assert ran.json["checked"] == CODES
    return ran.code, {c: f["severity"] for c, f in by_code(ran.json["findings"]).items()}, ran.json


def caught(gogpt: Any, folder: Path, changes: dict[str, Any], severities: dict[str, str], *words: str, left: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fault is found, with its line; the corrected copy has none of it left, and correcting again changes nothing. The findings."""
    code, found, told = lint(gogpt, folder, {k: v for k, v in {**HEALTHY, **changes}.items() if v is not None}, *words)
    assert found == severities, told
    assert code == int("error" in severities.values())
    out = folder / "fixed.json"
    source = (folder / "ds.json").read_text(encoding="utf-8")
    fixed = gogpt("check", folder / "ds.json", *words, "--fix", out, "--format", "json")
    assert fixed.code == 0
    assert (folder / "ds.json").read_text(encoding="utf-8") == source, "the file itself stays"
    assert not out.with_name("fixed.json.partial").exists()
    again = gogpt("check", out, *words, "--fix", folder / "twice.json", "--format", "json").json
    assert tuple(f["code"] for f in again["findings"]) == left
    assert (again["fixed"]["patch"] == "") == (not left)
    assert fixed.json["fixed"]["path"] == str(out)
    if not left:
        assert fixed.json["fixed"]["patch"].startswith("--- ")
    return by_code(told["findings"])


def test_healthy(gogpt: Any, tmp_path: Path) -> None:
    code, found, _ = lint(gogpt, tmp_path, HEALTHY)
    assert (code, found) == (0, {})
    assert "14 checks, nothing found" in gogpt("check", tmp_path / "ds.json").out
    code, found, _ = lint(gogpt, tmp_path, HEALTHY, "train.learning_rate=2e-4", "train.max_grad_norm=1", "parallel.processes=8", "train.max_steps=90")
    assert (code, found) == (0, {})


@planted("CFG260")
def test_a_scheduler_without_decay(gogpt: Any, tmp_path: Path) -> None:
    scheduler = {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-4, "warmup_num_steps": 10, "warmup_type": "linear"}}
    finding = caught(gogpt, tmp_path, {"scheduler": scheduler}, {"CFG260": "error"}, "train.schedule=cosine")["CFG260"]
    assert "train.schedule (cosine)" in finding["message"]
    line = int(finding["where"].rpartition(":")[2])
    assert '"scheduler"' in (tmp_path / "ds.json").read_text(encoding="utf-8").splitlines()[line - 1]
    caught(gogpt, tmp_path, {"scheduler": {"type": "WarmupDecayLR", "params": DECAY}}, {"CFG260": "warning"})


@planted("CFG261")
def test_an_optimizer(gogpt: Any, tmp_path: Path) -> None:
    caught(gogpt, tmp_path, {"optimizer": {"type": "AdamW", "params": {"betas": "auto"}}}, {"CFG261": "error"})
    own = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}
    caught(gogpt, tmp_path, own, {"CFG261": "warning"})
    caught(gogpt, tmp_path, own, {"CFG261": "error"}, "train.learning_rate=2e-4")


@planted("CFG262", "CFG263", "CFG264", "CFG265")
@pytest.mark.parametrize(("without", "severities"), [
    ("warmup_max_lr", {"CFG262": "error"}), ("warmup_num_steps", {"CFG263": "warning"}), ("total_num_steps", {"CFG264": "error"}),
    ("warmup_type", {"CFG265": "warning"}),
])
def test_a_scheduler_with_a_hole(gogpt: Any, tmp_path: Path, without: str, severities: dict[str, str]) -> None:
    params = {k: v for k, v in DECAY.items() if k != without}
    caught(gogpt, tmp_path, {"scheduler": {"type": "WarmupDecayLR", "params": params}}, {"CFG260": "warning", **severities})


@planted("CFG266")
def test_batches_that_do_not_multiply(gogpt: Any, tmp_path: Path) -> None:
    sizes = {"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2}
    assert lint(gogpt, tmp_path, {**HEALTHY, **sizes})[1] == {}
    assert lint(gogpt, tmp_path, {**HEALTHY, **sizes}, "parallel.processes=4")[1] == {}
    caught(gogpt, tmp_path, sizes, {"CFG266": "error"}, "parallel.processes=8")
    caught(gogpt, tmp_path, {**sizes, "train_batch_size": 30}, {"CFG266": "error"})


@planted("CFG267")
def test_two_precisions(gogpt: Any, tmp_path: Path) -> None:
    caught(gogpt, tmp_path, {"fp16": {"enabled": True}, "bf16": {"enabled": True}}, {"CFG267": "error"})


@planted("CFG268")
@pytest.mark.parametrize(("scale", "severity"), [({"loss_scale": 65536}, "error"), ({"min_loss_scale": 65536}, "error"),
                                                 ({"initial_scale_power": 32}, "warning"), ({"loss_scale": 128}, "warning")])
def test_a_scale_that_cannot_fall(gogpt: Any, tmp_path: Path, scale: dict[str, int], severity: str) -> None:
    caught(gogpt, tmp_path, {"fp16": {"enabled": True, **scale}, "bf16": None}, {"CFG268": severity})


@planted("CFG269")
def test_auto_that_nothing_fills(gogpt: Any, tmp_path: Path) -> None:
    caught(gogpt, tmp_path, {"zero_optimization": {"stage": 2, "overlap_comm": "auto"}}, {"CFG269": "warning"})
    caught(gogpt, tmp_path, {"steps_per_print": "auto"}, {"CFG269": "error"})
    filled_at_3 = {"stage": 2, "stage3_prefetch_bucket_size": "auto"}
    caught(gogpt, tmp_path, {"zero_optimization": filled_at_3}, {"CFG269": "warning"})
    assert lint(gogpt, tmp_path, {**HEALTHY, "zero_optimization": {**filled_at_3, "stage": 3, **GATHER}})[1] == {}


@planted("CFG270")
def test_zero3_without_gathering(gogpt: Any, tmp_path: Path) -> None:
    caught(gogpt, tmp_path, {"zero_optimization": {"stage": 3}}, {"CFG270": "error"})
    assert lint(gogpt, tmp_path, {**HEALTHY, "zero_optimization": {"stage": 3, **GATHER}})[1] == {}


@planted("CFG271")
def test_misspelt_keys(gogpt: Any, tmp_path: Path) -> None:
    finding = caught(gogpt, tmp_path, {"gradient_acumulation_steps": 4, "gradient_accumulation_steps": None}, {"CFG271": "error"})["CFG271"]
    assert "did you mean gradient_accumulation_steps" in finding["message"]
    caught(gogpt, tmp_path, {"zero_optimization": {"stage": 2, "overlap_com": True}}, {"CFG271": "error"})
    assert lint(gogpt, tmp_path, {**HEALTHY, "_comment": "ours"})[1] == {}
    code, found, _ = lint(gogpt, tmp_path, {**HEALTHY, "our_private_block": {}})
    assert (code, found) == (0, {"CFG271": "warning"})


@planted("CFG272")
@pytest.mark.parametrize(("changes", "beside"), [
    ({"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}}, {}),
    ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}}, {}),
    ({"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}, "optimizer": {"type": "Lamb", "params": {"lr": "auto"}}},
     {"CFG261": "warning"}),
])
def test_offload_that_does_not_fit(gogpt: Any, tmp_path: Path, changes: dict[str, Any], beside: dict[str, str]) -> None:
    caught(gogpt, tmp_path, changes, {"CFG272": "error", **beside})
    assert lint(gogpt, tmp_path, {**HEALTHY, "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}})[1] == {}


@planted("CFG273")
def test_clipping(gogpt: Any, tmp_path: Path) -> None:
    caught(gogpt, tmp_path, {"gradient_clipping": None}, {"CFG273": "warning"})
    caught(gogpt, tmp_path, {"gradient_clipping": 0.5}, {"CFG273": "error"}, "train.max_grad_norm=1.0")


def test_everything_at_once(gogpt: Any, tmp_path: Path) -> None:
    """The file of the log: AdamW and WarmupDecayLR in it; and more, each told once and all corrected."""
    caught(gogpt, tmp_path, {
        "optimizer": {"type": "Lamb", "params": {}}, "scheduler": {"type": "WarmupDecayLR", "params": {}}, "train_batch_size": 31,
        "train_micro_batch_size_per_gpu": 4, "gradient_accumulation_steps": 2, "fp16": {"enabled": True, "loss_scale": 65536}, "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3, "overlap_comm": "auto", "ofload_param": {}, "offload_optimizer": {"device": "cpu"}}, "gradient_clipping": None,
    }, {
        "CFG260": "warning", "CFG261": "error", "CFG262": "error", "CFG263": "warning", "CFG264": "error", "CFG265": "warning", "CFG266": "error",
        "CFG267": "error", "CFG268": "error", "CFG269": "warning", "CFG270": "error", "CFG271": "error", "CFG272": "error", "CFG273": "warning",
    })
