"""A run that goes back and passes over a step is the run in which that step had been passed over from the start."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from conftest import read_metrics, rows
from gogpt.loss import summed_loss
from gogpt.rollback import Rollback

STEPS = {"epochs": 2, "save_every": 3, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "max_steps": 9}


def poisoned(monkeypatch: pytest.MonkeyPatch, row: str) -> list[str]:
    """Every micro-batch that holds ``row`` gives a loss of NaN, as a row that overflows does. The list grows with each."""
    from gogpt.trainer import GogptTrainer

    compute, seen = GogptTrainer.compute_loss, []

    def changed(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        hit = any(place.endswith(row) for places in inputs["origins"] for place in places) and model.training
        if hit:
            seen.append(row)
            monkeypatch.setattr("gogpt.trainer.summed_loss", lambda *a: (summed_loss(*a)[0] * math.nan, summed_loss(*a)[1]))
        try:
            return compute(self, model, inputs, *args, **kwargs)
        finally:
            monkeypatch.setattr("gogpt.trainer.summed_loss", summed_loss)

    monkeypatch.setattr(GogptTrainer, "compute_loss", changed)
    return seen


def skipped_from_the_start(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    monkeypatch.setattr("gogpt.train.passed_over", lambda rollbacks: dict.fromkeys(steps))


def row_of_step(path: Path, step: int) -> str:
    """A row that only this step of ``STEPS`` trains, from a run that went to its end."""
    from gogpt.config import load_recipe
    from gogpt.preflight import preflight

    before = preflight(load_recipe(path))
    size, order = before.plan.batch_size, [int(i) for i in before.plan.order]
    places = [[str(before.prepared.train[e].origin) for e in before.plan.bins[i]] for i in order]
    mine = [p for at in range((step - 1) * size, step * size) for p in places[at]]
    others = {p for at, found in enumerate(places) for p in found if not (step - 1) * size <= at < step * size}
    return next(":" + p.rpartition(":")[2] for p in mine if p not in others)


def same(one: Path, two: Path) -> None:
    a, b = load_file(next((one / "final").glob("*.safetensors"))), load_file(next((two / "final").glob("*.safetensors")))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    for x, y in zip(read_metrics(one), read_metrics(two), strict=True):
        assert x["rolled_back"] == y["rolled_back"]
        assert (x["step"], x["lr"], x["trained_tokens"]) == (y["step"], y["lr"], y["trained_tokens"])
        if not x["rolled_back"]:
            assert (x["loss"], x["grad_norm"], x["update_norm"]) == (y["loss"], y["grad_norm"], y["update_norm"])
    last = [torch.load(run / "checkpoints" / "step-9" / "optimizer.pt", weights_only=True)["state"] for run in (one, two)]
    for p in last[0]:
        for key in last[0][p]:
            assert torch.equal(last[0][p][key], last[1][p][key])


@pytest.fixture
def many(recipe: Callable[..., Path]) -> Callable[..., Path]:
    def make(**more: Any) -> Path:
        return recipe(rows(40), data={"eval": 0.0, "packing": False}, **{"train": STEPS, **more})

    return make


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("step", [2, 5])
def test_rolled_back_is_skipped_from_the_start(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int) -> None:
    """One NaN: at step 2, before any checkpoint, and at step 5, after the one of step 3. Dropout draws the same numbers."""
    method = {"kind": kind, **({"dropout": 0.2} if kind == "lora" else {})}
    path = many(method=method, train={**STEPS, "rollbacks": 1})
    row = row_of_step(path, step)
    with monkeypatch.context() as m:
        skipped_from_the_start(m, step)
        assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    with monkeypatch.context() as m:
        seen = poisoned(m, row)
        ran = gogpt("train", path, f"output={tmp_path / 'back'}")
    assert ran.code == 0, ran.err
    assert len(seen) == 1  # the row was tried once, and never again
    back = 3 if step == 5 else 0
    assert f"RUN601: loss was not finite at step {step}" in ran.err
    assert f"the run went back to step {back} and passed over step {step}" in ran.err
    same(tmp_path / "straight", tmp_path / "back")

    run = tmp_path / "back"
    lines = read_metrics(run)
    assert [m["step"] for m in lines] == list(range(1, 10))
    marked = [m for m in lines if m["rolled_back"]]
    assert [(m["step"], m["loss"], m["trained_tokens"], m["update_norm"]) for m in marked] == [(step, "nan", 0, 0.0)]
    undone = [json.loads(line) for line in (run / "rolled_back.jsonl").read_text().splitlines()]
    assert [m["step"] for m in undone] == list(range(back + 1, step + 1))
    state = json.loads((run / "run.json").read_text())
    assert [(r["code"], r["step"], r["back_to"], r["passed_over"]) for r in state["rollbacks"]] == [("RUN601", step, back, [step])]
    found = json.loads((run / "findings.json").read_text())["findings"]
    assert [(f["code"], f["severity"], f["evidence"]["passed_over"]) for f in found] == [("RUN601", "warning", [step])]
    assert state["status"] == "finished"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"passed over step {step}" in page
    assert 'id="rollbacks"' in page
    assert "passed over after a rollback" in page


def test_a_second_trouble_stops(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = many(train={**STEPS, "rollbacks": 1})
    rows_ = [row_of_step(path, step) for step in (2, 5)]
    for row in rows_:
        poisoned(monkeypatch, row)
    ran = gogpt("train", path)
    assert ran.code == 1
    assert "RUN601" in ran.err
    run = tmp_path / "run"
    state = json.loads((run / "run.json").read_text())
    assert (state["status"], len(state["rollbacks"])) == ("stopped", 1)
    found = json.loads((run / "findings.json").read_text())["findings"]
    assert sorted((f["code"], f["severity"], f["evidence"]["step"]) for f in found) == [("RUN601", "error", 5), ("RUN601", "warning", 2)]
    assert not (run / "final").exists()


def test_two_rollbacks(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = many(train={**STEPS, "rollbacks": 2})
    troubled = [row_of_step(path, step) for step in (2, 5)]
    with monkeypatch.context() as m:
        skipped_from_the_start(m, 2, 5)
        assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    for row in troubled:
        poisoned(monkeypatch, row)
    ran = gogpt("train", path, f"output={tmp_path / 'back'}", "-q")
    assert ran.code == 0, ran.err
    same(tmp_path / "straight", tmp_path / "back")


def test_resumed_after_a_rollback(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at step 7, after the rollback at step 5: the resumed run knows which step it passed over, and that its one rollback is used."""
    from gogpt.watch import Watch

    path = many(train={**STEPS, "rollbacks": 1})
    row = row_of_step(path, 5)
    with monkeypatch.context() as m:
        poisoned(m, row)
        assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    real = Watch.after_update

    def interrupt(self: Any, step: int, **kwargs: Any) -> Any:
        stats = real(self, step, **kwargs)
        if step == 4 and self.facts.steps_planned and len(list((tmp_path / "broken").glob("rolled_back.jsonl"))):
            os.kill(os.getpid(), signal.SIGINT)
        return stats

    with monkeypatch.context() as m:
        poisoned(m, row)
        m.setattr(Watch, "after_update", interrupt)
        assert gogpt("train", path, f"output={tmp_path / 'broken'}").code == 130
    assert len(json.loads((tmp_path / "broken" / "run.json").read_text())["rollbacks"]) == 1
    poisoned(monkeypatch, row)
    ran = gogpt("train", "--resume", tmp_path / "broken")
    assert ran.code == 0, ran.err
    same(tmp_path / "straight", tmp_path / "broken")
    assert len(json.loads((tmp_path / "broken" / "run.json").read_text())["rollbacks"]) == 1
    assert [f["code"] for f in json.loads((tmp_path / "broken" / "findings.json").read_text())["findings"]] == ["RUN601"]


def test_what_was_told_before_is_kept(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that explodes from step 18 to 27 is told; the rollback from step 30 to 28 does not forget it, nor tell it again."""
    from gogpt.trainer import GogptTrainer

    quick = {"max_steps": 32, "batch_size": 2, "micro_batch_size": 2, "save_every": 28, "learning_rate": 1e-3, "rollbacks": 1, "warmup": 0}
    compute, tried = GogptTrainer.compute_loss, []

    def changed(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, model, inputs, *args, **kwargs)
        step = int(self.state.global_step) + 1
        if step == 30:
            tried.append(step)
            self.watch._losses[-1] = torch.tensor(math.nan)
        return loss.detach() + 300 * (loss - loss.detach()) if 18 <= step <= 27 else loss

    monkeypatch.setattr(GogptTrainer, "compute_loss", changed)
    ran = gogpt("train", many(method={"kind": "full"}, train=quick))
    assert ran.code == 0, ran.err
    assert tried == [30]
    found = {f["code"]: f for f in json.loads((tmp_path / "run" / "findings.json").read_text())["findings"]}
    assert sorted(found) == ["RUN601", "RUN652"]
    assert found["RUN601"]["evidence"]["back_to"] == 28
    assert (found["RUN652"]["evidence"]["first_step"], found["RUN652"]["evidence"]["last_step"]) == (25, 27)
    assert sum("the gradient norm has been" in line for line in ran.err.splitlines()) == 1


def test_the_best_evaluation_is_remembered(gogpt: Any, recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early stopping counts on after a rollback as if nothing had been: the same step, the same weights."""
    train = {**STEPS, "max_steps": 40, "eval_every": 1, "save_every": 1, "early_stopping": 2, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0,
             "rollbacks": 1}
    path = recipe(rows(40), data={"eval": 0.2, "packing": False}, method={"kind": "full"}, train=train, checks={"allow": ["CFG211"]})
    with monkeypatch.context() as m:
        skipped_from_the_start(m, 2)
        assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    from gogpt.trainer import GogptTrainer

    compute = GogptTrainer.compute_loss

    def changed(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = compute(self, model, inputs, *args, **kwargs)
        if model.training and self.state.global_step == 1:
            self.watch._losses[-1] = torch.tensor(math.nan)
        return loss

    monkeypatch.setattr(GogptTrainer, "compute_loss", changed)
    ran = gogpt("train", path, f"output={tmp_path / 'back'}", "-q")
    assert ran.code == 0, ran.err
    states = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("straight", "back")]
    assert states[0]["stopped_early"] is states[1]["stopped_early"] is True
    assert states[0]["step"] == states[1]["step"] > 2
    a, b = (load_file(next((tmp_path / run / "final").glob("*.safetensors"))) for run in ("straight", "back"))
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("setting", "named"), [
    ("data.streaming=true", "train.rollbacks with data.streaming"), ("train.precision=fp16", "train.rollbacks with train.precision: fp16"),
    ("parallel.processes=2", "train.rollbacks with several processes"),
])
def test_what_cannot_go_back_is_refused(gogpt: Any, many: Any, setting: str, named: str) -> None:
    ran = gogpt("train", many(train={**STEPS, "rollbacks": 1}), setting)
    assert ran.code == 2
    assert "CFG230" in ran.err
    assert named in ran.err


def test_without_rollbacks_nothing_changes(gogpt: Any, many: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = many()
    poisoned(monkeypatch, row_of_step(path, 5))
    assert gogpt("train", path).code == 1
    assert not (tmp_path / "run" / "rolled_back.jsonl").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["rollbacks"] == []


def test_a_rollback_survives_json() -> None:
    from gogpt.facts import from_json, to_json

    made = Rollback(code="RUN650", step=20, back_to=8, passed_over=(11, 12), message={"en": "{a} b", "zh": "乙"}, fix={"en": "c", "zh": "丙"},
                    evidence={"step": 20}, seen={"11": {"step": 11, "loss": "nan"}})
    assert from_json(Rollback, json.loads(json.dumps(to_json(made)))) == made
    assert made.finding().to_dict()["message"] == "{a} b; the run went back to step 8 and passed over step 11, 12"
