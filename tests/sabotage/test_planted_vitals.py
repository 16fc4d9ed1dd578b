"""Faults that show only over the course of a run: RUN650 to RUN659; what checks.policy makes of them; a rollback that mends one.

What no recipe can ask for is planted by changing one line of the engine: a gradient that is scaled, a clock that runs slower.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from planted import RUN_CODES, document, metrics_of, planted, refusal, stopped

from conftest import WORDS, rows
from gogpt.loss import summed_loss
from gogpt.trees import grow

QUICK = {"batch_size": 2, "micro_batch_size": 2, "warmup": 0, "learning_rate": 1e-3}
FULL = {"method": {"kind": "full"}, "data": {"eval": 0.0, "packing": False}}


@pytest.fixture
def recipe(recipe: Any) -> Any:
    """Recipes without the proofs of step 0: they would meet a planted fault first, and count among the calls that it is planted by."""

    def make(*items: Any, **parts: Any) -> Path:
        return recipe(*items, **{**parts, "checks": {**parts.get("checks", {}), "proofs": []}})  # type: ignore[no-any-return]

    return make


def warned(gogpt: Any, recipe: Path, code: str, *settings: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run that goes to its end and tells this code alone, once while it trains; its finding and its metrics."""
    ran = gogpt("train", recipe, *settings)
    assert ran.code == 0, ran.err
    run = recipe.parent / "run"
    found = [f for f in document(run, "findings.json")["findings"] if f["code"] in RUN_CODES]
    assert [(f["code"], f["severity"]) for f in found] == [(code, "warning")]
    assert len([line for line in ran.err.splitlines() if line.startswith(f"{code}: ") and "steps from" not in line]) == 1, ran.err
    assert found[0]["fix"] in ran.err
    assert document(run, "run.json")["status"] == "finished"
    assert code in (run / "report.html").read_text(encoding="utf-8")
    return found[0], metrics_of(run)


def healthy(gogpt: Any, recipe: Path, *settings: str) -> list[dict[str, Any]]:
    ran = gogpt("train", recipe, *settings)
    assert ran.code == 0, ran.err
    assert [f["code"] for f in document(recipe.parent / "run", "findings.json")["findings"] if f["code"] in RUN_CODES] == []
    assert "RUN6" not in ran.err
    return metrics_of(recipe.parent / "run")


def loss_from(monkeypatch: pytest.MonkeyPatch, first: int, change: Callable[[torch.Tensor, int], torch.Tensor], *, last: int = 10**6) -> None:
    """Change the summed loss, over so many trained tokens, of the steps ``first`` to ``last`` (one micro-batch a step)."""
    calls: list[int] = []

    def changed(*args: Any) -> Any:
        calls.append(1)
        loss, count = summed_loss(*args)
        return (change(loss, count) if first <= len(calls) <= last else loss), count

    monkeypatch.setattr("gogpt.trainer.summed_loss", changed)


def gradient_times(factor: float) -> Callable[..., torch.Tensor]:
    """The loss keeps its value; what flows back is multiplied."""
    return lambda loss, count=0: loss.detach() + factor * (loss - loss.detach())


def mean_of(value: float) -> Callable[..., torch.Tensor]:
    """The loss of the step becomes this one; what flows back stays."""
    return lambda loss, count: value * count + loss - loss.detach()


def test_a_long_healthy_run(gogpt: Any, recipe: Any) -> None:
    """The twin of what follows: 140 steps over 12 epochs of a small set, a cosine to 0, evaluated and saved on the way."""
    made = recipe(rows(24), method={"kind": "full"}, data={"eval": 0.1, "packing": False},
                  train={**QUICK, "max_steps": 140, "warmup": 0.1, "learning_rate": 3e-3, "eval_every": 20, "save_every": 30}, checks={"allow": ["CFG211"]})
    metrics = healthy(gogpt, made)
    assert len(metrics) == 140
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert all(m["memory_now"] > 0 and m["one_label"] == 0.0 and not m["rolled_back"] for m in metrics)


# -- RUN650: divergence ----------------------------------------------------------------------------


@planted("RUN650")
def test_a_learning_rate_that_diverges_without_nan(gogpt: Any, recipe: Any) -> None:
    """Two peers go to the end of such a run and exit with 0 (SILENT_FAILURES, row b, 0.5)."""
    made = recipe(train={"learning_rate": 0.5, "max_steps": 40, "warmup": 0}, **FULL, checks={"allow": ["CFG211"]})
    finding, metrics = stopped(gogpt, made, "RUN650")
    assert len(metrics) <= 12
    assert metrics[-1]["loss"] > 1.2 * finding["evidence"]["loss_uniform"]
    assert all(isinstance(m["loss"], float) for m in metrics)


@planted("RUN650")
def test_a_loss_that_rises_and_stays(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from guessing, far above what was reached."""
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 60, "learning_rate": 1e-2, "schedule": "constant"}, checks={"allow": ["CFG211"]})
    loss_from(monkeypatch, 40, mean_of(6.9))
    finding, metrics = stopped(gogpt, made, "RUN650")
    assert finding["evidence"]["raised_since"] == 40
    assert finding["evidence"]["raised_steps"] == 8
    assert "does not come back" in finding["message"]
    assert len(metrics) == finding["evidence"]["raised_since"] + 7


def test_divergence_goes_back_and_passes_over_the_step(gogpt: Any, recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row ruins the weights with finite numbers at step 6; the run goes back before it, leaves that step and the next out, and ends well."""
    from gogpt.trainer import GogptTrainer

    made = recipe(rows(40), **FULL, checks={"allow": ["CFG211"]}, train={
        **QUICK, "max_steps": 18, "learning_rate": 0.05, "optimizer": "sgd", "max_grad_norm": 0, "save_every": 2, "rollbacks": 1})
    compute, bad = GogptTrainer.compute_loss, []

    def ruined(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, model, inputs, *args, **kwargs)
        if self.state.global_step == 5 and model.training:
            bad.append(1)
            return gradient_times(-3e3)(loss)
        return loss

    monkeypatch.setattr(GogptTrainer, "compute_loss", ruined)
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    run = tmp_path / "run"
    assert "RUN650: the loss is worse than guessing since step 7" in ran.err
    assert "went back to step 4 and passed over step 6, 7" in ran.err
    assert len(bad) == 1
    metrics = metrics_of(run)
    assert [m["step"] for m in metrics if m["rolled_back"]] == [6, 7]
    assert [m["step"] for m in metrics] == list(range(1, 19))
    assert all(m["loss"] < 6.5 for m in metrics if not m["rolled_back"])
    undone = [json.loads(line) for line in (run / "rolled_back.jsonl").read_text().splitlines()]
    assert [m["step"] for m in undone] == list(range(5, 12))
    found = document(run, "findings.json")["findings"]
    assert [(f["code"], f["severity"], f["evidence"]["back_to"]) for f in found if f["code"] in RUN_CODES] == [("RUN650", "warning", 4)]


# -- RUN651 to RUN659 ------------------------------------------------------------------------------


@planted("RUN651")
def test_a_learning_rate_too_small_to_learn(gogpt: Any, recipe: Any) -> None:
    made = recipe(rows(24), data=FULL["data"], train={**QUICK, "max_steps": 132, "learning_rate": 1e-8})
    finding, metrics = warned(gogpt, made, "RUN651")
    assert finding["evidence"]["step"] == 128
    assert finding["evidence"]["begin_gain"] < 0.01 * metrics[0]["loss"]
    assert all(m["update_norm"] > 0 for m in metrics)  # the weights do move: RUN604 has nothing to say


@planted("RUN652")
def test_a_gradient_that_explodes(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 30})
    loss_from(monkeypatch, 20, gradient_times(300.0))
    finding, metrics = warned(gogpt, made, "RUN652")
    assert finding["evidence"]["first_step"] == 27
    assert metrics[25]["grad_norm"] > 30 * metrics[15]["grad_norm"]


@planted("RUN653")
def test_a_gradient_that_vanishes(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 40})
    loss_from(monkeypatch, 20, gradient_times(1e-6))
    finding, _ = warned(gogpt, made, "RUN653")
    assert finding["evidence"]["first_step"] == 35
    assert finding["evidence"]["loss"] > 1


@planted("RUN654")
def test_fp16_that_skips(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no fp16 on a CPU: the engine's answer to whether it skipped is planted, as its scaler would give it."""
    from accelerate import Accelerator

    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 40})
    asked: list[int] = []

    def skipped(self: Any) -> bool:
        asked.append(1)
        return 24 <= (len(asked) + 1) // 2 < 34  # it is asked twice a step

    monkeypatch.setattr(Accelerator, "optimizer_step_was_skipped", property(skipped))
    finding, metrics = warned(gogpt, made, "RUN654")
    assert [m["step"] for m in metrics if m["skipped"]] == list(range(24, 34))
    assert (finding["evidence"]["first_step"], finding["evidence"]["last_step"]) == (31, 33)


def clock(monkeypatch: pytest.MonkeyPatch, slow_from: int) -> None:
    """The watch's clock: 1 s between two looks, and 10 s from a step on. Nothing waits."""
    from gogpt.watch import Watch

    state = {"now": 0.0, "tick": 1.0}

    def perf_counter() -> float:
        state["now"] += state["tick"]
        return state["now"]

    monkeypatch.setattr("gogpt.watch.time", SimpleNamespace(perf_counter=perf_counter))
    before = Watch.before_update

    def slower(self: Any, step: int, *args: Any) -> None:
        state["tick"] = 10.0 if step >= slow_from else 1.0
        before(self, step, *args)

    monkeypatch.setattr(Watch, "before_update", slower)


@planted("RUN655")
def test_a_throughput_that_collapses(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 52})
    clock(monkeypatch, 31)
    finding, metrics = warned(gogpt, made, "RUN655")
    assert finding["evidence"]["first_step"] == 46
    assert (metrics[20]["seconds"], metrics[40]["seconds"]) == (1.0, 10.0)
    assert "something else uses the machine" in finding["message"]


def test_evaluating_and_saving_cost_no_throughput(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), method={"kind": "full"}, data={"eval": 0.1, "packing": False}, train={**QUICK, "max_steps": 20, "eval_every": 1, "save_every": 1})
    clock(monkeypatch, 1000)
    metrics = healthy(gogpt, made)
    assert {m["seconds"] for m in metrics[1:]} == {3.0}  # a look at the start and at the end; evaluating and saving are two more, and taken out


@planted("RUN656")
def test_memory_that_is_never_given_back(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 104})
    used = iter(range(10**6))
    monkeypatch.setattr("gogpt.watch.memory_now", lambda: 2**29 + next(used) * 3 * 2**20)
    finding, metrics = warned(gogpt, made, "RUN656")
    assert finding["evidence"]["first_step"] == 100
    assert finding["evidence"]["mib_per_step"] == pytest.approx(3.0)
    assert metrics[-1]["memory_now"] - metrics[0]["memory_now"] == 103 * 3 * 2**20


@planted("RUN657")
def test_answers_that_stand_in_their_prompts(gogpt: Any, recipe: Any) -> None:
    """The prompt is the answer; no row is seen twice within these steps, yet the loss is nearly 0."""
    leaked = [{"messages": [{"role": "user", "content": w}, {"role": "assistant", "content": w}]} for w in WORDS[:4] * 160]
    train = {"batch_size": 8, "micro_batch_size": 8, "warmup": 0, "learning_rate": 1e-2, "schedule": "constant", "max_steps": 70}
    made = recipe(leaked, method={"kind": "full"}, data={**FULL["data"], "clean": {"duplicates": "keep"}}, train=train, checks={"allow": ["CFG211"]})
    finding, metrics = warned(gogpt, made, "RUN657")
    assert finding["evidence"]["epoch_steps"] == 80
    assert 0 < metrics[-1]["loss"] < 0.01
    assert 0 < metrics[-1]["grad_norm"] < metrics[0]["grad_norm"]


def one_id(examples: Any, shared: Any) -> Any:
    """Rows that lost the answers: whatever is trained is the same id."""
    forest = grow(examples, shared)
    return replace(forest, targets=np.full_like(forest.targets, 7))


@planted("RUN658")
def test_labels_that_are_all_one_id(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.batches.grow", one_id)
    finding, metrics = stopped(gogpt, recipe(train={"max_steps": 6, "warmup": 0}), "RUN658")
    assert [m["step"] for m in metrics] == [1, 2, 3]
    assert [m["one_label"] for m in metrics] == [1.0, 1.0, 1.0]
    assert finding["evidence"]["share"] == 1.0


@planted("RUN659")
def test_a_loss_that_jumps_and_comes_back(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 50, "learning_rate": 1e-2, "schedule": "constant"}, checks={"allow": ["CFG211"]})
    loss_from(monkeypatch, 40, mean_of(6.9), last=44)
    finding, _ = warned(gogpt, made, "RUN659")
    assert finding["evidence"]["spike_step"] == 40
    assert finding["evidence"]["spikes"] == 1


# -- RUN603's signatures, apart --------------------------------------------------------------------


@planted("RUN603")
def test_a_loss_of_0_on_one_constant_label(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gogpt.batches.grow", one_id)
    loss_from(monkeypatch, 1, lambda loss, count: loss * 0.0)
    finding, _ = stopped(gogpt, recipe(train={"max_steps": 6, "warmup": 0}), "RUN603")
    assert "100% of its" in finding["message"]
    assert "one and the same id" in finding["message"]


# -- the policy ------------------------------------------------------------------------------------


def test_a_warning_can_stop(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe(rows(24), **FULL, train={**QUICK, "max_steps": 30}, checks={"policy": {"RUN652": "stop"}})
    loss_from(monkeypatch, 20, gradient_times(300.0))
    ran = gogpt("train", made)
    assert ran.code == 1
    refusal(ran.err, "RUN652")
    assert len(metrics_of(made.parent / "run")) == 27
    assert document(made.parent / "run", "run.json")["status"] == "stopped"


@pytest.mark.parametrize(("action", "lines"), [("warn", 1), ("record", 0)])
def test_an_error_can_be_told_or_recorded(gogpt: Any, recipe: Any, monkeypatch: pytest.MonkeyPatch, action: str, lines: int) -> None:
    monkeypatch.setattr("gogpt.batches.grow", one_id)
    made = recipe(train={"max_steps": 5, "warmup": 0}, data={"eval": 0.0}, checks={"policy": {"RUN658": action}})
    ran = gogpt("train", made)
    assert ran.code == 0, ran.err
    during = ran.err.split("saving the model")[0]
    assert sum(line.startswith("RUN658: ") and "steps from" not in line for line in during.splitlines()) == lines
    told = document(made.parent / "run", "findings.json")
    found = [f for f in told["findings"] if f["code"] == "RUN658"]
    assert [(f["severity"], f["evidence"]["first_step"], f["evidence"]["last_step"], f["evidence"]["steps"]) for f in found] == [("error", 3, 5, 3)]
    assert told["allowed"] == ["RUN658"]


@pytest.mark.parametrize(("policy", "code", "near"), [
    ({"RUN650": "halt"}, "CFG202", "'stop', 'warn' or 'record'"), ({"RUN560": "stop"}, "CFG205", "RUN650"), ({"TOK403": "warn"}, "CFG205", "judged before training"),
    ({"RUN650": "stopp"}, "CFG202", "did you mean 'stop'?"),
])
def test_a_policy_that_says_nothing_is_refused(gogpt: Any, recipe: Any, policy: dict[str, str], code: str, near: str) -> None:
    ran = gogpt("train", recipe(checks={"policy": policy}))
    assert ran.code == 2
    assert code in ran.err
    assert near in ran.err


def test_a_policy_against_itself_is_refused(gogpt: Any, recipe: Any) -> None:
    ran = gogpt("train", recipe(checks={"allow": ["RUN603"], "policy": {"RUN603": "stop"}}))
    assert ran.code == 2
    assert "CFG202" in ran.err
    assert "RUN603: stop" in ran.err
