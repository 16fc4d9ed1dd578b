"""Faults that show only while a run trains: RUN601 to RUN604.

Each stops the run at the first step that shows it. What no recipe can ask for (a scheduler stepped twice, a
collator that masks everything) is planted by changing one line of the engine.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import document, finished, metrics_of, planted, stopped
from safetensors.torch import load_file, save_file

from gogpt.trainer import GogptTrainer
from gogpt.trees import grow

STEPS = {"max_steps": 6, "warmup": 0}


def unproven(gogpt: Any, made: Path, code: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``stopped``, with the step-0 proofs off: most of these faults they refuse before the first step (test_planted_proofs.py),
    but what comes later, or only under another batch, is the watch's alone."""
    return stopped(gogpt, made, code, "checks.proofs=[]")


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the calls of the optimizer's step: one entry each."""
    seen: list[int] = []
    step = torch.optim.AdamW.step

    def counted(self: Any, closure: Any = None) -> Any:
        seen.append(len(seen) + 1)
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return seen


def damage(tiny: Path, folder: Path, name: str, change: Callable[[torch.Tensor], None]) -> str:
    """A copy of the tiny model with one tensor changed."""
    shutil.copytree(tiny, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})
    return str(folder)


# -- RUN601: not finite ----------------------------------------------------------------------------


def saved_batch(run: Path, finding: dict[str, Any], trained: int) -> list[dict[str, Any]]:
    """The batch that did it: on disk, with the places of its rows, and every label of the step."""
    assert finding["where"] == finding["evidence"]["saved_batch"] == str(run / "stopped_batch.json")
    batches: list[dict[str, Any]] = document(run, "stopped_batch.json")
    assert sum(weight for batch in batches for weight in batch["weights"]) == trained
    assert all(len(batch["at"]) == len(batch["targets"]) == len(batch["weights"]) for batch in batches)
    places = [place for batch in batches for row in batch["origins"] for place in row]
    assert places
    assert all(place.rpartition(":")[0].endswith("data.jsonl") and place.rpartition(":")[2].isdigit() for place in places)
    return batches


@planted("RUN601")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_learning_rate_of_1e20(gogpt: Any, recipe: Any, updates: list[int], method: str) -> None:
    """Others print 0.0 from step 3 on, go on to the end and save a model of NaN (SILENT_FAILURES, row b)."""
    made = recipe(train={"learning_rate": 1e20, **STEPS}, method={"kind": method}, checks={"allow": ["CFG211"]})
    _, metrics = unproven(gogpt, made, "RUN601")
    assert 6.0 < metrics[0]["loss"] < 6.1
    assert metrics[-1]["step"] <= 2
    assert updates == [1]  # nothing was updated after it


@planted("RUN601")
def test_a_loss_that_becomes_nan(gogpt: Any, recipe: Any, tmp_path: Path, updates: list[int]) -> None:
    """The update is a finite one, and large enough that attention overflows in the next step."""
    made = recipe(train={"learning_rate": 1e16, **STEPS}, method={"alpha": 1e10}, checks={"allow": ["CFG211"]})
    finding, metrics = unproven(gogpt, made, "RUN601")
    assert finding["evidence"]["what"] == "loss"
    assert [m["step"] for m in metrics] == [1, 2]
    assert math.isfinite(metrics[0]["loss"])
    assert metrics[1]["loss"] == "nan" == finding["evidence"]["loss"]  # raw, and valid JSON
    assert metrics[1]["update_norm"] == 0.0
    assert updates == [1]  # stopped before the second update
    saved_batch(tmp_path / "run", finding, metrics[1]["trained_tokens"])
    assert document(tmp_path / "run", "run.json")["allowed"] == ["CFG211"]
    allowed = [f for f in document(tmp_path / "run", "findings.json")["findings"] if f["code"] == "CFG211"]
    assert len(allowed) == 1
    assert not list((tmp_path / "run").glob("checkpoints/step-[2-9]"))


@planted("RUN601")
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=str)
def test_a_base_model_with_a_broken_weight(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, updates: list[int], value: float) -> None:
    model = damage(tiny, tmp_path / "model", "model.layers.1.mlp.down_proj.weight", lambda t: t[3, 5].fill_(value))
    finding, metrics = unproven(gogpt, recipe(model=model, train=STEPS), "RUN601")
    assert finding["evidence"]["what"] == "loss"
    assert [m["step"] for m in metrics] == [1]
    assert metrics[0]["loss"] == "nan"
    assert updates == []
    saved_batch(tmp_path / "run", finding, metrics[0]["trained_tokens"])


@planted("RUN601")
def test_a_gradient_that_overflows_under_a_finite_loss(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path, updates: list[int]) -> None:
    """The loss alone looks large; the square of the gradient is not a float32 any more."""
    model = damage(tiny, tmp_path / "model", "lm_head.weight", lambda t: t.mul_(1e20))
    finding, metrics = unproven(gogpt, recipe(model=model, train=STEPS), "RUN601")
    assert finding["evidence"]["what"] == "grad_norm"
    assert metrics[0]["grad_norm"] == "inf" == finding["evidence"]["grad_norm"]
    assert 1e15 < metrics[0]["loss"] < math.inf
    assert updates == []
    saved_batch(tmp_path / "run", finding, metrics[0]["trained_tokens"])


@planted("RUN601")
def test_every_line_of_a_stopped_run_is_json(gogpt: Any, recipe: Any, tmp_path: Path) -> None:
    """NaN is no JSON: a strict reader must take every document of the run."""
    made = recipe(train={"learning_rate": 1e16, **STEPS}, method={"alpha": 1e10}, checks={"allow": ["CFG211"]})
    unproven(gogpt, made, "RUN601")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for file in (tmp_path / "run").rglob("*.json*"):
        text = file.read_text(encoding="utf-8")
        for line in text.splitlines() if file.suffix == ".jsonl" else [text]:
            json.loads(line, parse_constant=refuse)


# -- RUN602: the learning rate leaves its plan -----------------------------------------------------


def scheduler(monkeypatch: pytest.MonkeyPatch, change: Callable[[GogptTrainer, Any], Any]) -> None:
    """Put another scheduler in the place of the plan's."""
    create = GogptTrainer.create_scheduler

    def changed(self: GogptTrainer, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = change(self, create(self, num_training_steps, optimizer))
        return self.lr_scheduler

    monkeypatch.setattr(GogptTrainer, "create_scheduler", changed)


class OncePerProcess(torch.optim.lr_scheduler.LambdaLR):
    """As accelerate has it: prepared without split_batches, a scheduler steps once for every process."""

    processes: int

    def step(self, epoch: Any = None) -> None:
        for _ in range(self.processes):
            super().step(epoch)


def once_per_process(processes: int) -> Callable[[GogptTrainer, Any], Any]:
    def change(trainer: GogptTrainer, planned: Any) -> Any:
        planned.__class__ = OncePerProcess
        planned.processes = processes
        return planned

    return change


def without_decay(trainer: GogptTrainer, planned: Any) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda done: 1.0)


def built_for_fewer_steps(trainer: GogptTrainer, planned: Any) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda done: max(0.0, 1.0 - done / 2))


@planted("RUN602")
@pytest.mark.parametrize("processes", [2, 8])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_scheduler_stepped_once_per_process(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, processes: int, schedule: str) -> None:
    """9,200 planned steps on 8 devices: the learning rate was 0 from step 1,200 on. Here it stops at step 2."""
    made = recipe(train={**STEPS, "schedule": schedule})
    planned_lr = dict(gogpt("plan", made, "--format", "json").json["lr"])
    scheduler(monkeypatch, once_per_process(processes))
    finding, metrics = stopped(gogpt, made, "RUN602")
    assert [m["step"] for m in metrics] == [1, 2]
    assert metrics[0]["lr"] == planned_lr[1]
    assert finding["evidence"]["planned_lr"] == planned_lr[2]
    assert metrics[1]["lr"] == finding["evidence"]["lr"]
    assert metrics[1]["lr"] == pytest.approx(planned_lr[min(1 + processes, 6)], rel=1e-9)
    assert finding["evidence"]["mechanism"] == "stepped_often"
    assert ("at least 5 times" if processes == 8 else "2 times a step") in finding["message"]  # step 2 has the rate of step 6, the last


@planted("RUN602")
def test_a_scheduler_stepped_twice_during_warmup(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler(monkeypatch, once_per_process(2))
    finding, metrics = stopped(gogpt, recipe(train={"max_steps": 6, "warmup": 4}), "RUN602")
    assert [m["step"] for m in metrics] == [1, 2]
    assert finding["evidence"]["ratio"] == pytest.approx(3 / 2)
    assert (finding["evidence"]["mechanism"], finding["evidence"]["factor"], finding["evidence"]["at"]) == ("stepped_often", 2, 3)


@planted("RUN602")
def test_a_schedule_that_never_decays(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cosine asked, constant got: hiyouga/LLaMA-Factory#2495."""
    scheduler(monkeypatch, without_decay)
    finding, metrics = stopped(gogpt, recipe(train=STEPS), "RUN602")
    assert [m["step"] for m in metrics] == [1, 2]
    assert "still the peak" in finding["message"]
    assert (finding["evidence"]["mechanism"], finding["evidence"]["also"]) == ("no_decay", ["skipped"])
    assert finding["evidence"]["lr"] == finding["evidence"]["peak_lr"] == 1e-3


@planted("RUN602")
def test_a_schedule_that_ends_early(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler(monkeypatch, built_for_fewer_steps)
    _, metrics = stopped(gogpt, recipe(train=STEPS), "RUN602")
    assert [m["step"] for m in metrics] == [1, 2]


def factor_of(change: Callable[[int, Callable[[int], float]], float]) -> Callable[[GogptTrainer, Any], Any]:
    """A scheduler whose rate after ``done`` steps is ``change(done, plan)``, in shares of the peak."""

    def make(trainer: GogptTrainer, planned: Any) -> Any:
        peak = trainer.plan.learning_rate
        return torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda done: change(done, lambda step: trainer.plan.lr_at(step) / peak))

    return make


@planted("RUN602")
@pytest.mark.parametrize(("change", "mechanism", "step"), [
    (lambda done, plan: plan(done + 1 if done < 3 else done), "skipped", 4),
    (lambda done, plan: 0.3 * plan(done + 1), "scaled", 1),
    (lambda done, plan: math.log(max(1, done)) / math.log(2) if done < 3 else plan(done + 1), "from_zero", 1),
    (lambda done, plan: plan(done + 1) if done < 2 else 0.123, "unknown", 3),
    (lambda done, plan: plan(done + 1) if done < 2 else 5.0, "above", 3),
], ids=["skipped", "scaled", "deepspeeds_warmup", "unknown", "above"])
def test_each_mechanism_is_named_at_the_step_that_shows_it(
    gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, change: Any, mechanism: str, step: int,
) -> None:
    scheduler(monkeypatch, factor_of(change))
    finding, metrics = stopped(gogpt, recipe(train={"max_steps": 8, "warmup": 1, "schedule": "cosine"}), "RUN602")
    assert metrics[-1]["step"] == finding["evidence"]["step"] == step
    assert finding["evidence"]["mechanism"] == ("unknown" if mechanism == "above" else mechanism)
    assert ("above the peak" in finding["message"]) == (mechanism == "above")


@planted("RUN602")
def test_a_resumed_run_whose_scheduler_begins_anew(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of the scheduler is not restored: huggingface/transformers#27749, modelscope/ms-swift#10050."""
    made = recipe(train={"max_steps": 8, "warmup": 1, "save_every": 4})
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    shutil.rmtree(run / "checkpoints" / "step-8")
    shutil.rmtree(run / "final")
    state = json.loads((run / "run.json").read_text(encoding="utf-8"))
    (run / "run.json").write_text(json.dumps({**state, "status": "interrupted"}), encoding="utf-8")
    monkeypatch.setattr(torch.optim.lr_scheduler.LambdaLR, "load_state_dict", lambda self, state: None)
    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict", lambda self, state: None)
    again = gogpt("train", "--resume", run)
    assert again.code == 1, again.err
    finding = next(f for f in document(run, "findings.json")["findings"] if f["code"] == "RUN602")
    assert (finding["evidence"]["mechanism"], finding["evidence"]["step"], finding["evidence"]["at"]) == ("restarted", 5, 1)
    assert "resumed at step 5" in finding["message"]


def test_the_same_scheduler_where_nothing_is_to_decay(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant asked, constant got: no fault, however often it is stepped."""
    scheduler(monkeypatch, once_per_process(2))
    finished(gogpt, recipe(train={"max_steps": 2, "warmup": 0, "schedule": "constant"}))


# -- RUN603: the loss is exactly 0 -----------------------------------------------------------------


def trains_nothing(examples: Any, shared: Any) -> Any:
    """Rows that have lost every label on their way."""
    forest, none = grow(examples, shared), np.zeros(0, dtype=np.int64)
    return replace(forest, at=none, targets=none, weights=none, trained=0)


@planted("RUN603")
def test_a_collator_that_masks_every_label(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preflight looks at the rows of trees.py; these are changed behind its back."""
    monkeypatch.setattr("gogpt.batches.grow", trains_nothing)
    finding, metrics = unproven(gogpt, recipe(train=STEPS), "RUN603")
    assert [m["step"] for m in metrics] == [1]
    assert metrics[0]["loss"] == 0.0
    assert metrics[0]["trained_tokens"] == 0
    assert metrics[0]["tokens"] > 0
    assert f"none of its {metrics[0]['tokens']} tokens is trained" in finding["message"]


@planted("RUN603")
def test_a_loss_that_is_lost_on_its_way(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained tokens, and a loss of 0 all the same: what a filter that replaces NaN by 0 looks like."""
    from gogpt.loss import summed_loss

    def filtered(*args: Any) -> Any:
        loss, count = summed_loss(*args)
        return loss * 0.0, count

    monkeypatch.setattr("gogpt.trainer.summed_loss", filtered)
    finding, metrics = unproven(gogpt, recipe(train=STEPS), "RUN603")
    assert [m["step"] for m in metrics] == [1]
    assert finding["evidence"]["trained_tokens"] == metrics[0]["trained_tokens"] > 0
    assert finding["evidence"]["grad_norm"] == 0.0


@planted("RUN603")
def test_the_first_such_step_stops_a_run_that_went_well_before(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def later(examples: Any, shared: Any) -> Any:
        calls.append(len(calls))
        return (trains_nothing if len(calls) > 4 else grow)(examples, shared)

    monkeypatch.setattr("gogpt.batches.grow", later)
    finding, metrics = unproven(gogpt, recipe(train=STEPS), "RUN603")
    assert [m["step"] for m in metrics] == [1, 2, 3]  # two micro-batches a step
    assert all(m["loss"] > 1 for m in metrics[:2])
    assert finding["evidence"]["zero_losses"] == 1


@planted("RUN603")
def test_allowed_by_name_the_run_goes_on_and_says_so(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.batches.grow", trains_nothing)
    made = recipe(train={"max_steps": 2, "warmup": 0}, checks={"allow": ["RUN603"]})
    ran = gogpt("train", made, "--format", "json", "data.eval=0", "checks.proofs=[]")
    assert ran.code == 0, ran.err
    assert [f["code"] for f in ran.json["findings"]] == ["RUN603"]
    assert len(metrics_of(tmp_path / "run")) == 2
    told = document(tmp_path / "run", "findings.json")
    assert [f["code"] for f in told["findings"]] == ["RUN603"]
    assert told["allowed"] == ["RUN603"]


# -- RUN604: the weights do not move ---------------------------------------------------------------


@planted("RUN604")
def test_updates_too_small_for_half_precision_weights(gogpt: Any, recipe: Any, tmp_path: Path, tiny: Path) -> None:
    """A real recipe: all weights train, kept in bfloat16, at a rate below their resolution."""
    base = {"model": {"path": str(tiny), "dtype": "bfloat16"}, "method": {"kind": "full"}}
    finding, metrics = unproven(gogpt, recipe(train={**STEPS, "learning_rate": 1e-12}, **base), "RUN604")
    assert [m["step"] for m in metrics] == [1, 2, 3]
    assert all(m["update_norm"] == 0.0 and m["grad_norm"] > 0 for m in metrics)
    assert finding["evidence"]["still_steps"] == finding["evidence"]["limit"] == 3
    shutil.rmtree(tmp_path / "run")
    finished(gogpt, recipe(train={"max_steps": 3, "warmup": 0, "learning_rate": 1e-3}, **base))


@planted("RUN604")
@pytest.mark.parametrize("method", ["lora", "full", "freeze"])
def test_an_optimizer_that_holds_other_parameters(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    create = GogptTrainer.create_optimizer

    def of_a_copy(self: GogptTrainer, *args: Any) -> Any:
        optimizer = create(self, *args)
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["params"] = [torch.nn.Parameter(p.detach().clone()) for p in group["params"]]
        return optimizer

    monkeypatch.setattr(GogptTrainer, "create_optimizer", of_a_copy)
    finding, metrics = unproven(gogpt, recipe(method={"kind": method}, train=STEPS), "RUN604")
    assert [m["step"] for m in metrics] == [1, 2, 3]
    assert finding["evidence"]["step"] == 3
    assert finding["evidence"]["grad_norm"] > 0


@planted("RUN604")
def test_gradients_that_do_not_arrive(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoRA and gradient checkpointing without inputs that require a gradient: a loss, and nothing else."""
    from gogpt.loss import summed_loss

    def cut_off(model: Any, *args: Any) -> Any:
        loss, count = summed_loss(model, *args)
        anchor = sum(p.sum() for p in model.parameters() if p.requires_grad) * 0.0
        return loss.detach() + anchor, count

    monkeypatch.setattr("gogpt.trainer.summed_loss", cut_off)
    finding, metrics = unproven(gogpt, recipe(train=STEPS), "RUN604")
    assert [m["step"] for m in metrics] == [1, 2, 3]
    assert all(m["grad_norm"] == 0.0 and m["loss"] > 1 for m in metrics)
    assert "gradient norm 0.0" in finding["message"]


def test_gradient_checkpointing_itself_is_no_fault(gogpt: Any, recipe: Any) -> None:
    finished(gogpt, recipe(train={"max_steps": 2, "warmup": 0, "gradient_checkpointing": True}))
