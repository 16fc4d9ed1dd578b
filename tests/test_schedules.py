"""Learning rates of other schedulers: equal to the real classes, or to what those gave (tests/fixtures/deepspeed_schedules.json)."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gogpt.schedules import (
    deepspeed_rate,
    per_process,
    restarted,
    skipping,
    transformers_rate,
    without_decay,
)

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "deepspeed_schedules.json").read_text(encoding="utf-8"))
CASES = [pytest.param(c, id=f"{c['type']}-{i}") for i, c in enumerate(FIXTURE["cases"])]


@pytest.mark.parametrize("case", CASES)
def test_deepspeed_as_recorded(case: dict[str, Any]) -> None:
    """The values of DeepSpeed's classes, driven as the engine drives them: one step after each optimizer step."""
    rate = deepspeed_rate(case["type"], case["params"], optimizer_lr=case["optimizer_lr"])
    assert [rate(s) for s in range(1, len(case["lr"]) + 1)] == pytest.approx(case["lr"], rel=1e-12, abs=1e-18)


def test_every_type_is_recorded() -> None:
    assert {c["type"] for c in FIXTURE["cases"]} == {"WarmupLR", "WarmupDecayLR", "WarmupCosineLR", "OneCycle", "LRRangeTest"}
    assert FIXTURE["deepspeed"] == "0.19.8"


@pytest.mark.parametrize("case", CASES)
def test_deepspeed_itself(case: dict[str, Any]) -> None:
    schedules = pytest.importorskip("deepspeed.runtime.lr_schedules")
    import torch

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=case["optimizer_lr"])
    scheduler = getattr(schedules, case["type"])(optimizer, **case["params"])
    rate = deepspeed_rate(case["type"], case["params"], optimizer_lr=case["optimizer_lr"])
    for step in range(1, len(case["lr"]) + 1):
        assert rate(step) == pytest.approx(float(optimizer.param_groups[0]["lr"]), rel=1e-12, abs=1e-18)
        scheduler.step()


def test_defaults_and_refusals() -> None:
    missing = deepspeed_rate("WarmupLR", {})
    assert (missing(1), missing(1002), missing(9000)) == (0.0, 0.001, 0.001)
    for kind in ("WarmupDecayLR", "WarmupCosineLR"):
        with pytest.raises(TypeError, match="total_num_steps"):
            deepspeed_rate(kind, {})
    with pytest.raises(TypeError, match="warmup_steps"):
        deepspeed_rate("WarmupLR", {"warmup_steps": 3})
    with pytest.raises(ValueError, match="positive"):
        deepspeed_rate("WarmupLR", {"warmup_num_steps": 0})
    with pytest.raises(KeyError):
        deepspeed_rate("Cosine", {})


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "constant_with_warmup"])
@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 20), (3, 40), (10, 10), (7, 5)])
def test_transformers_itself(name: str, warmup: int, steps: int) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    rate = transformers_rate(name, learning_rate=2e-4, warmup_steps=warmup, steps=steps)
    for step in range(1, steps + 1):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-18)
        optimizer.step()
        scheduler.step()


def test_accelerate_steps_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate's own AcceleratedScheduler, told that there are eight processes: 40 planned steps end at step 6."""
    import torch
    from accelerate import scheduler as module
    from transformers import get_scheduler

    monkeypatch.setattr(module, "AcceleratorState", lambda: type("State", (), {"num_processes": 8})())
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    optimizer.step_was_skipped = False  # type: ignore[attr-defined]
    real = module.AcceleratedScheduler(get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=40), optimizer)
    rate = per_process(transformers_rate("linear", learning_rate=2e-4, warmup_steps=0, steps=40), 8)
    for step in range(1, 12):
        assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-18)
        optimizer.step()
        real.step()
    assert rate(5) > 0
    assert rate(6) == 0.0


def test_distortions() -> None:
    rng = random.Random(1)
    for _ in range(30):
        steps, warmup = rng.randint(20, 200), rng.randint(0, 9)
        rate = transformers_rate("linear", learning_rate=1e-3, warmup_steps=warmup, steps=steps)
        at = rng.randint(2, steps)
        assert restarted(rate, at)(at) == rate(1)
        assert restarted(rate, at)(at - 1) == rate(at - 1)
        lost = sorted(rng.sample(range(1, steps), 5))
        bent = skipping(rate, lost)
        assert bent(steps) == rate(steps - 5)
        assert all(bent(s + 1) == bent(s) for s in lost), "the step after a skipped one uses its rate again"
        flat = without_decay(rate, warmup)
        assert {flat(s) for s in range(warmup + 1, steps)} == {1e-3}
        assert all(a <= b for a, b in pairwise(flat(s) for s in range(1, steps)))
