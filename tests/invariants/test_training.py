"""Configurations that must give one trajectory: 1x8 = 8x1, resumed = straight, merged = adapter."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import read_metrics, rows


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(next((run / "final").glob("*.safetensors")))


def assert_same(a: Path, b: Path, *, atol: float) -> None:
    one, two = read_metrics(a), read_metrics(b)
    assert len(one) == len(two) > 3
    for x, y in zip(one, two, strict=True):
        assert x["trained_tokens"] == y["trained_tokens"]
        assert x["tokens"] == y["tokens"]
        assert x["lr"] == y["lr"]
        assert x["loss"] == pytest.approx(y["loss"], abs=atol)
        assert x["grad_norm"] == pytest.approx(y["grad_norm"], abs=atol)
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=atol, err_msg=name)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_accumulation_1x8_is_8x1(gogpt, recipe, tmp_path, packing, kind):
    """Rows of very different numbers of trained tokens: a mean of means would differ in the first step."""
    path = recipe(rows(64, turns=3), data={"packing": packing, "max_length": 256, "eval": 0.0},
                  method={"kind": kind}, train={"batch_size": 8, "epochs": 2, "learning_rate": 1e-4})
    for micro in (1, 8):
        ran = gogpt("train", path, f"train.micro_batch_size={micro}", f"output={tmp_path / f'micro{micro}'}", "-q")
        assert ran.code == 0, ran.err
    # 5e-6: float32 sums of a few hundred terms in another order.
    assert_same(tmp_path / "micro1", tmp_path / "micro8", atol=5e-6)


def test_loss_is_the_mean_over_trained_tokens_of_the_step(gogpt, recipe, tmp_path, tiny):
    """The first step's loss, computed again from the samples without any of the training code."""
    import torch
    from transformers import AutoModelForCausalLM

    path = recipe(rows(12, turns=3), data={"packing": False, "eval": 0.0, "max_length": 512}, train={"batch_size": 12, "micro_batch_size": 5, "epochs": 1},
                  method={"kind": "full"})
    # 12 rows, micro-batches of 5: refused, since 12 is no multiple; 4 is fine.
    assert "CFG212" in gogpt("train", path).err
    assert gogpt("train", path, "train.micro_batch_size=4", "train.warmup=0", "-q").code == 0
    model = AutoModelForCausalLM.from_pretrained(tiny)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    total, count = 0.0, 0
    for row in rows(12, turns=3):
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        ids, offsets = (tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)[k] for k in ("input_ids", "offset_mapping"))
        spans = []
        at = 0
        for m in row["messages"]:
            at = text.index(m["content"], at)
            if m["role"] == "assistant":
                spans.append((at, at + len(m["content"]) + len("<|im_end|>")))
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for t in range(1, len(ids)):
            if any(s <= offsets[t][0] < e for s, e in spans):
                total -= float(logp[t - 1, ids[t]])
                count += 1
    first = read_metrics(tmp_path / "run")[0]
    assert first["trained_tokens"] == count
    assert first["loss"] == pytest.approx(total / count, abs=1e-5)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_resumed_is_straight(gogpt, recipe, tmp_path, kind, monkeypatch):
    """Interrupted by SIGINT after step 4 of 9, then resumed: the same numbers to the last bit, dropout and all."""
    from gogpt.watch import Watch

    settings = {"epochs": 3, "save_every": 100, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2}
    method = {"kind": kind, **({"dropout": 0.2} if kind == "lora" else {})}
    path = recipe(rows(40), method=method, train=settings)
    assert gogpt("train", path, f"output={tmp_path / 'straight'}", "-q").code == 0
    real = Watch.after_update

    def interrupt(self, step, **kwargs):
        stats = real(self, step, **kwargs)
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return stats

    monkeypatch.setattr(Watch, "after_update", interrupt)
    ran = gogpt("train", path, f"output={tmp_path / 'broken'}")
    assert ran.code == 130
    assert f"gogpt train --resume {tmp_path / 'broken'}" in ran.err
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["status"] == "interrupted"
    assert [p.name for p in (tmp_path / "broken" / "checkpoints").iterdir()] == ["step-4"]
    monkeypatch.setattr(Watch, "after_update", real)
    ran = gogpt("train", "--resume", tmp_path / "broken")
    assert ran.code == 0, ran.err
    assert_same(tmp_path / "straight", tmp_path / "broken", atol=0.0)
    assert json.loads((tmp_path / "broken" / "run.json").read_text())["status"] == "finished"


def test_resume_refuses_other_data(gogpt, recipe, tmp_path):
    path = recipe(rows(24), train={"max_steps": 2, "save_every": 1})
    assert gogpt("train", path, "-q").code == 0
    status = tmp_path / "run" / "run.json"
    assert "nothing to go on with" in gogpt("train", "--resume", tmp_path / "run").err
    status.write_text(status.read_text().replace('"finished"', '"interrupted"', 1))
    data = tmp_path / "data.jsonl"
    data.write_text(data.read_text().replace("what follows", "what precedes"))
    ran = gogpt("train", "--resume", tmp_path / "run")
    assert ran.code == 2
    assert ran.err.splitlines()[-5].startswith("RUN612") or "RUN612" in ran.err


def test_merged_is_base_plus_adapter_and_not_base(gogpt, recipe, tmp_path, tiny):
    """The proof of the command, done again from outside with transformers and peft alone."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    path = recipe(train={"epochs": 2, "learning_rate": 5e-3})
    assert gogpt("train", path, "-q").code == 0
    ran = gogpt("merge", tmp_path / "run", "-o", tmp_path / "merged", "--format", "json")
    assert ran.code == 0, ran.err
    assert ran.json["findings"] == []
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tiny)
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, tmp_path / "run" / "final")(ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(ids).logits
    assert float((merged - adapted).abs().max()) < 1e-5
    assert float((merged - plain).abs().max()) > 1e-3
    answers = [gogpt("generate", tmp_path / where, "Question: what follows red?", "--max-new-tokens", "12", "-q").out
               for where in ("run", "merged")]
    assert answers[0] == answers[1] != ""


def test_frozen_weights_do_not_move(gogpt, recipe, tmp_path, tiny):
    """freeze trains the last layers and the final norm, and nothing else."""
    path = recipe(method={"kind": "freeze", "trainable_layers": 1}, train={"learning_rate": 1e-3})
    assert gogpt("train", path, "-q").code == 0
    before, after = load_file(tiny / "model.safetensors"), weights(tmp_path / "run")
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert all(name.startswith(("model.layers.1.", "model.norm")) for name in moved), moved
    assert {n for n in before if n.startswith("model.layers.1.") and n.endswith("proj.weight")} <= moved
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["trainable_parameters"] == sum(before[n].size for n in before if n.startswith(("model.layers.1.", "model.norm")))


def test_early_stopping_keeps_the_best_weights(gogpt, recipe, tmp_path):
    """A learning rate that ruins the model after the start: the weights kept are those of the best evaluation."""
    path = recipe(rows(40), data={"eval": 0.2}, method={"kind": "full"},
                  train={"learning_rate": 1e-2, "schedule": "constant", "warmup": 0, "eval_every": 1, "early_stopping": 2, "epochs": 30},
                  checks={"allow": ["CFG211"]})
    ran = gogpt("train", path, "--format", "json")
    assert ran.code == 0, ran.err
    assert ran.json["stopped_early"] is True
    evals = [json.loads(line) for line in (tmp_path / "run" / "eval.jsonl").read_text().splitlines()]
    best = min(evals, key=lambda e: e["eval_loss"])
    assert evals[-1]["step"] == best["step"] + 2
    kept = load_file(tmp_path / "run" / "checkpoints" / f"step-{best['step']}" / "model.safetensors")
    final = weights(tmp_path / "run")
    assert all(np.array_equal(kept[name], final[name]) for name in final)


def test_tensorboard_gets_the_curves(gogpt, recipe, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = recipe(train={"report_to": ["tensorboard"], "trainer": {"run_name": "here"}})
    assert gogpt("train", path, "-q").code == 0
    events = list((tmp_path / "run").rglob("events.out.tfevents*"))
    assert events
    seen = EventAccumulator(str(events[0].parent))
    seen.Reload()
    assert [e.value for e in seen.Scalars("train/loss")] == pytest.approx([m["loss"] for m in read_metrics(tmp_path / "run")], rel=1e-5)
