"""Faults that others' runs left in their records, given to ``gogpt check``: RUN601 to RUN603 by history, RUN660 to RUN670.

The two pictures of the log that began it are rebuilt by code. Where an engine makes the fault itself (accelerate's scheduler, DeepSpeed's
own, a run resumed without its states), it really runs here.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from planted import by_code, planted

from gogpt.schedules import per_process, transformers_rate

Gogpt = Callable[..., Any]


def state(folder: Path, records: Sequence[dict[str, Any]], *, name: str = "trainer_state.json", **more: Any) -> Path:
    """A trainer_state.json as transformers' Trainer writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    last = records[-1]["step"]
    document = {"epoch": 1.0, "global_step": last, "max_steps": last, "num_train_epochs": 1, "train_batch_size": 2, "best_model_checkpoint": None, "log_history": list(records), **more}
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    return folder


def healthy(steps: int = 300, every: int = 10, **change: Callable[[int], float]) -> list[dict[str, Any]]:
    """A run that went well: a noisy loss that falls, a cosine, three evaluations."""
    rate = transformers_rate("cosine", learning_rate=2e-4, warmup_steps=20, steps=steps)
    noise = [0.07, -0.05, 0.02, -0.06, 0.03]
    usual: dict[str, Callable[[int], float]] = {
        "loss": lambda s: 1.2 + 1.2 * math.exp(-s / 60) + noise[s // every % 5], "learning_rate": rate, "grad_norm": lambda s: 0.8 + noise[s // every % 5],
        "epoch": lambda s: s / steps * 3}
    out = [{"step": s, **{k: f(s) for k, f in {**usual, **change}.items() if k != "eval_loss"}} for s in range(every, steps + 1, every)]
    evaluate = change.get("eval_loss", lambda s: 1.35 + math.exp(-s / 60))
    for s in range(steps // 3, steps + 1, steps // 3):
        out.insert(next(i for i, r in enumerate(out) if r["step"] == s) + 1, {"step": s, "eval_loss": evaluate(s), "epoch": s / steps * 3})
    return out


def judged(gogpt: Gogpt, path: Path, *asked: str) -> dict[str, dict[str, Any]]:
    """The findings of a path by code; text and JSON agree, and the exit code is by severity."""
    ran = gogpt("check", path, *asked, "--format", "json")
    found = by_code(ran.json["findings"])
    assert ran.code == int(any(f["severity"] == "error" for f in found.values())), ran
    text = gogpt("check", path, *asked)
    assert text.code == ran.code
    assert all(f["message"] in text.out for f in found.values())
    assert not {x["code"] for x in ran.json["not_checked"]} & set(ran.json["checked"])
    return found


def only(gogpt: Gogpt, path: Path, code: str, *asked: str) -> dict[str, Any]:
    found = judged(gogpt, path, *asked)
    assert list(found) == [code], found
    return found[code]


def test_a_healthy_run_is_silent(gogpt: Gogpt, tmp_path: Path) -> None:
    folder = state(tmp_path / "out", [*healthy(), {"step": 300, "train_runtime": 99.0, "train_loss": 1.4}])
    assert judged(gogpt, folder) == {}
    told = gogpt("check", folder, "train.schedule=cosine", "train.learning_rate=2e-4", "train.warmup=20", "parallel.processes=8", "train.epochs=3", "--format", "json")
    assert (told.code, told.json["findings"], told.json["object"]["kind"]) == (0, [], "trainer_run")
    assert "RUN602" in told.json["checked"]
    assert "RUN662" in told.json["checked"]
    chinese = gogpt("--lang", "zh", "check", folder)
    assert "没有发现问题" in chinese.out


# -- the log's two pictures ------------------------------------------------------------------------

PLANNED, WARMUP, SEEN = 9200, 800, 5500
"""9,200 planned steps on 8 devices; the picture ends at step 5,500, where the epoch counter says 0.6."""
PICTURE = per_process(transformers_rate("linear", learning_rate=1.9e-4, warmup_steps=WARMUP, steps=PLANNED), 8)


def picture(folder: Path, rate: Callable[[int], float], *, settings: dict[str, Any] | None = None) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))
    if settings is not None:
        writer.add_text("args", json.dumps(settings))
    for step in range(10, SEEN + 1, 10):
        writer.add_scalar("train/loss", 1.1 + 2.7 * math.exp(-step / 150) + 0.05 * math.sin(step), step)
        writer.add_scalar("train/learning_rate", rate(step), step)
        writer.add_scalar("train/epoch", round(step / PLANNED, 2), step)
    writer.close()
    return folder


@planted("RUN602")
def test_the_first_picture(gogpt: Gogpt, tmp_path: Path) -> None:
    """Up to 1.9e-4 by step 100, straight down, exactly 0 from step 1,151 on: an eighth of the plan, 8 processes."""
    folder = picture(tmp_path / "events", PICTURE)
    ran = gogpt("check", folder, "parallel.processes=8", "--format", "json")
    assert ran.json["object"]["kind"] == "tensorboard"
    finding = only(gogpt, folder, "RUN602", "parallel.processes=8")
    evidence = finding["evidence"]
    assert (evidence["mechanism"], evidence["factor"], evidence["share"]) == ("per_process", 8, 1 / 8)
    assert 1150 <= evidence["end"] <= 1160
    assert abs(evidence["steps_planned"] - PLANNED) < 60
    assert evidence["planned_from"] == "epoch counter"
    assert "stepped once per process (8 processes)" in finding["message"]
    alone = only(gogpt, folder, "RUN602")
    assert alone["evidence"]["mechanism"] == "stepped_often"
    assert "stepped 8 times a step, as with 8 processes" in alone["message"]
    told = only(gogpt, folder, "RUN602", "train.max_steps=9200", "parallel.processes=8", "train.schedule=linear", "train.warmup=0.03", "train.learning_rate=1.9e-4")
    assert told["evidence"]["mechanism"] == "per_process"
    assert "1/8 of the 9200 planned steps" in told["message"]
    (file,) = folder.glob("events.*")
    assert only(gogpt, file, "RUN602", "parallel.processes=8")["evidence"]["factor"] == 8


@planted("RUN602")
def test_the_first_picture_with_its_settings_in_the_file(gogpt: Gogpt, tmp_path: Path) -> None:
    """transformers writes its arguments beside the scalars; then nothing needs to be told."""
    folder = picture(tmp_path / "events", PICTURE, settings={"num_train_epochs": 1.0, "max_steps": -1, "lr_scheduler_type": "linear", "learning_rate": 1.9e-4,
                                                             "warmup_steps": WARMUP, "fp16": True, "world_size": 8})
    assert only(gogpt, folder, "RUN602")["evidence"]["mechanism"] == "per_process"


def test_the_first_picture_as_it_was_planned(gogpt: Gogpt, tmp_path: Path) -> None:
    folder = picture(tmp_path / "events", transformers_rate("linear", learning_rate=1.9e-4, warmup_steps=WARMUP, steps=PLANNED))
    assert judged(gogpt, folder, "parallel.processes=8") == {}
    assert judged(gogpt, folder, "parallel.processes=8", "train.max_steps=9200", "train.schedule=linear", "train.warmup=800", "train.learning_rate=1.9e-4") == {}


def second_picture(path: Path, losses: Sequence[str], *, norms: Sequence[str] | None = None) -> Path:
    rate = transformers_rate("linear", learning_rate=1.9e-4, warmup_steps=10, steps=920)
    lines = ["fp16: True", "[INFO] starting"]
    for i, loss in enumerate(losses, start=1):
        norm = f"'grad_norm': {norms[i - 1]}, " if norms else ""
        lines.append(f"{{'loss': {loss}, {norm}'learning_rate': {rate(10 * i)}, 'epoch': {round(i / 92, 2)}}}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@planted("RUN603")
def test_the_second_picture(gogpt: Gogpt, tmp_path: Path) -> None:
    """3.8449, then 0.0, 0.0 ... with the learning rate going on normally, in fp16."""
    log = second_picture(tmp_path / "train.log", ["3.8449", *["0.0"] * 30])
    finding = only(gogpt, log, "RUN603")
    assert "NaN, hidden as 0.0 by the logging filter" in finding["message"]
    assert "since the log's record 2, after 3.8449" in finding["message"]
    assert finding["where"] == f"{log}:4"
    assert finding["evidence"]["precision"] == "fp16"
    assert finding["evidence"]["zero_losses"] == 30


@planted("RUN603")
@pytest.mark.parametrize(("norm", "word"), [("nan", "NaN, hidden as 0.0"), ("0.0", "every label is masked"), ("1e-05", "memorised")])
def test_the_gradient_norm_tells_a_loss_of_0_apart(gogpt: Gogpt, tmp_path: Path, norm: str, word: str) -> None:
    log = second_picture(tmp_path / "train.log", ["3.8449", *["0.0"] * 30], norms=["1.2", *[norm] * 30])
    assert word in only(gogpt, log, "RUN603")["message"]


@planted("RUN603")
def test_nan_hidden_in_a_trainer_state(gogpt: Gogpt, tmp_path: Path) -> None:
    """As TRL 1.16 and LLaMA-Factory 0.9.5 leave it behind (measured with a learning rate of 1e20)."""
    records = healthy(loss=lambda s: 6.0 if s < 40 else 0.0, grad_norm=lambda s: 1.8 if s < 40 else math.nan, eval_loss=lambda s: math.nan)
    finding = only(gogpt, state(tmp_path / "out", records), "RUN603")
    assert finding["evidence"]["step"] == 40


def test_losses_above_0_are_silent(gogpt: Gogpt, tmp_path: Path) -> None:
    falling = [f"{3.8449 * math.exp(-i / 20) + 0.9:.4f}" for i in range(31)]
    assert judged(gogpt, second_picture(tmp_path / "a.log", falling)) == {}
    once = [*falling[:12], "0.0", *falling[13:]]
    assert judged(gogpt, second_picture(tmp_path / "b.log", once)) == {}, "one line of 0 that recovers"


@planted("RUN601")
def test_nan_that_is_printed(gogpt: Gogpt, tmp_path: Path) -> None:
    records = healthy(loss=lambda s: 2.2 - s / 300 if s < 100 else math.nan)
    finding = only(gogpt, state(tmp_path / "out", records), "RUN601")
    assert finding["evidence"] == {"what": "loss", "step": 100, "count": 21, "precision": None, "peak_lr": pytest.approx(2e-4, rel=0.01)}
    skipped = healthy(grad_norm=lambda s: math.inf if s in (10, 20, 150) else 0.8)
    assert judged(gogpt, state(tmp_path / "fp16", skipped)) == {}, "an fp16 scaler skips such steps"


# -- engines that make the fault themselves --------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", **more}


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def run_together(script: Path, commands: Sequence[tuple[list[str], dict[str, str]]]) -> None:
    """Processes side by side, each to its end."""
    started = [subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables)
               for words, variables in commands]
    for process in started:
        said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said


ACCELERATE = """
import sys, torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
out, STEPS = sys.argv[1], 40
for name, split in (("twin", True), ("fault", False)):
    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(split_batches=split))
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    # transformers' linear schedule with 4 steps of warm-up
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: done / 4 if done < 4 else max(0.0, (STEPS - done) / (STEPS - 4)))
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    with open(f"{out}/{name}.{accelerator.process_index}.log", "w") as log:
        for step in range(1, STEPS + 1):
            lr = optimizer.param_groups[0]["lr"]
            x = torch.randn(8, 4)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            accelerator.backward(loss)
            optimizer.step(), scheduler.step(), optimizer.zero_grad()
            print({"loss": float(loss), "learning_rate": lr, "epoch": step / STEPS}, file=log)
    accelerator.free_memory()
"""


@planted("RUN602")
def test_accelerates_prepared_scheduler_on_two_processes(gogpt: Gogpt, tmp_path: Path) -> None:
    """accelerate 1.15, split_batches=False: one step for every process, silently. Two processes over gloo."""
    script = tmp_path / "run.py"
    script.write_text(ACCELERATE, encoding="utf-8")
    port = free_port()
    run_together(script, [([str(tmp_path)], environment(RANK=str(r), LOCAL_RANK=str(r), WORLD_SIZE="2", MASTER_PORT=port)) for r in (0, 1)])
    asked = ("train.max_steps=40", "train.schedule=linear", "train.learning_rate=1e-2", "train.warmup=4")
    finding = only(gogpt, tmp_path / "fault.0.log", "RUN602", "parallel.processes=2", *asked)
    assert (finding["evidence"]["mechanism"], finding["evidence"]["factor"], finding["evidence"]["end"]) == ("per_process", 2, 21)
    assert only(gogpt, tmp_path / "fault.1.log", "RUN602", "train.max_steps=40")["evidence"]["mechanism"] == "stepped_often"
    assert judged(gogpt, tmp_path / "twin.0.log", "parallel.processes=2", *asked) == {}


DEEPSPEED = """
import os, sys, torch
import deepspeed.comm.torch
# Shared-memory collectives are a C++ extension that is compiled at first use; one process needs none.
sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
folder = sys.argv[1]
ds = {"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1, "zero_optimization": {"stage": 1},
      "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}}
if folder.endswith("fault"):
    ds["scheduler"] = {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-3, "warmup_num_steps": 4, "warmup_type": "linear"}}
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2))
data = [{"input_ids": torch.randint(0, 64, (8,)), "labels": torch.randint(0, 64, (8,))} for _ in range(64)]
args = TrainingArguments(output_dir=folder, use_cpu=True, max_steps=24, learning_rate=1e-3, per_device_train_batch_size=2, logging_steps=1, save_steps=24,
                         report_to=["tensorboard"], warmup_steps=4, lr_scheduler_type="cosine", deepspeed=ds, disable_tqdm=True)
Trainer(model=model, args=args, train_dataset=data).train()
"""


@planted("RUN602")
def test_deepspeeds_scheduler_overrides_the_one_that_was_asked_for(gogpt: Gogpt, tmp_path: Path) -> None:
    """Cosine asked, constant got (hiyouga/LLaMA-Factory#2495): the settings in the event file say what was asked for."""
    pytest.importorskip("deepspeed")
    script = tmp_path / "run.py"
    script.write_text(DEEPSPEED, encoding="utf-8")
    run_together(script, [([str(tmp_path / name)], environment(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_PORT=free_port())) for name in ("twin", "fault")])
    finding = only(gogpt, tmp_path / "fault", "RUN602")
    assert (finding["evidence"]["mechanism"], finding["evidence"]["schedule"]) == ("no_decay", "cosine")
    assert finding["evidence"]["constant"] == pytest.approx(1e-3)
    assert judged(gogpt, tmp_path / "twin") == {}


@planted("RUN602", "RUN663")
def test_a_run_resumed_without_its_states(gogpt: Gogpt, tmp_path: Path) -> None:
    """transformers' Trainer goes on at step 21 with a new optimizer and scheduler where the checkpoint holds neither."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    data = [{"input_ids": torch.randint(0, 64, (8,)), "labels": torch.randint(0, 64, (8,))} for _ in range(64)]

    def train(folder: Path, bare: bool, resume: bool, stop: int) -> Path:
        args = TrainingArguments(output_dir=str(folder), use_cpu=True, max_steps=40, learning_rate=1e-3, per_device_train_batch_size=2, logging_steps=1, save_steps=stop,
                                 report_to=[], warmup_steps=8, lr_scheduler_type="linear", disable_tqdm=True, save_only_model=bare)
        trainer = Trainer(model=LlamaForCausalLM(config), args=args, train_dataset=data)
        if not resume:
            from transformers import TrainerCallback

            class Stop(TrainerCallback):
                def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
                    control.should_training_stop = control.should_save = state.global_step == stop

            trainer.add_callback(Stop())
        trainer.train(resume_from_checkpoint=resume or None)
        return folder

    twin = train(tmp_path / "twin", False, False, 20)
    assert judged(gogpt, twin) == {}
    assert judged(gogpt, train(twin, False, True, 20)) == {}
    bare = train(tmp_path / "bare", True, False, 20)
    told = only(gogpt, bare, "RUN663")
    assert told["evidence"]["missing"] == "optimizer and scheduler"
    # What a pruned checkpoint is: whole but for the two files.
    for name in ("optimizer.pt", "scheduler.pt"):
        (twin / "checkpoint-20" / name).unlink()
    shutil.rmtree(twin / "checkpoint-40")
    again = judged(gogpt, train(twin, False, True, 20))
    assert list(again) == ["RUN602"], again
    assert (again["RUN602"]["evidence"]["mechanism"], again["RUN602"]["evidence"]["at"]) == ("restarted", 21)


@planted("RUN602")
def test_a_run_folder_of_this_project_is_judged_the_same_way(gogpt: Gogpt, recipe: Any, tmp_path: Path) -> None:
    assert gogpt("train", recipe(train={"max_steps": 12, "warmup": 2, "schedule": "linear"})).code == 0
    run = tmp_path / "run"
    ran = gogpt("check", run, "--format", "json")
    assert (ran.code, ran.json["findings"], ran.json["object"]["kind"]) == (0, [], "gogpt_run")
    assert judged(gogpt, run / "checkpoints" / "step-12") == {}
    lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    planned = dict(json.loads((run / "plan.json").read_text(encoding="utf-8"))["lr"])
    for line in lines:
        line["lr"] = planned[min(12, 1 + 2 * (line["step"] - 1))]
    (run / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    finding = only(gogpt, run, "RUN602")
    assert (finding["evidence"]["mechanism"], finding["evidence"]["factor"]) == ("stepped_often", 2)


# -- losses, evaluations, steps --------------------------------------------------------------------


@planted("RUN660")
def test_an_evaluation_loss_that_rises(gogpt: Gogpt, tmp_path: Path) -> None:
    records = healthy(loss=lambda s: 2.2 - s / 160, eval_loss=lambda s: 1.3 + s / 500)
    found = only(gogpt, state(tmp_path / "out", records), "RUN660")
    assert found["evidence"]["lowest_step"] == 100
    assert judged(gogpt, state(tmp_path / "kept", records, best_model_checkpoint="out/checkpoint-100")) == {}
    assert judged(gogpt, state(tmp_path / "noise", healthy(eval_loss=lambda s: 1.4 + s / 6000))) == {}


@planted("RUN661")
def test_a_loss_near_0(gogpt: Gogpt, tmp_path: Path) -> None:
    learnt = healthy(loss=lambda s: 2.2 * math.exp(-s / 30) + 0.002, eval_loss=lambda s: 1.9)
    assert "memorised" in only(gogpt, state(tmp_path / "out", learnt), "RUN661")["message"]
    alone = [r for r in learnt if "eval_loss" not in r]
    assert "leak" in only(gogpt, state(tmp_path / "alone", alone), "RUN661")["message"]
    easy = healthy(loss=lambda s: 2.2 * math.exp(-s / 30) + 0.002, eval_loss=lambda s: 0.003)
    assert judged(gogpt, state(tmp_path / "easy", easy)) == {}


@planted("RUN662")
def test_steps_that_do_not_make_the_epochs(gogpt: Gogpt, tmp_path: Path) -> None:
    """Steps counted before packing (axolotl-ai-cloud/axolotl#3152): three epochs asked for, the counter runs at a third of it."""
    short = healthy(epoch=lambda s: s / 300)
    found = only(gogpt, state(tmp_path / "out", short), "RUN662", "train.epochs=3")
    assert found["evidence"]["would"] == 1.0
    assert judged(gogpt, state(tmp_path / "out", short)) == {}, "by max_steps: nobody asked for epochs"
    assert judged(gogpt, state(tmp_path / "whole", healthy()), "train.epochs=3") == {}
    half = [r for r in healthy() if r["step"] <= 150]
    assert judged(gogpt, state(tmp_path / "half", half, max_steps=300), "train.epochs=3") == {}


@planted("RUN666")
def test_steps_skipped_by_the_loss_scaler(gogpt: Gogpt, tmp_path: Path) -> None:
    def log(name: str, total: int) -> Path:
        path = tmp_path / name
        rate = transformers_rate("linear", learning_rate=1e-4, warmup_steps=0, steps=1000)
        path.write_text("".join(f"[2023-06-01] [INFO] [logging.py:96:log_dist] [Rank 0] step={s}, skipped={total * s // 1000}, lr=[{rate(s)}], mom=[(0.9, 0.95)]\n"
                                for s in range(10, 1001, 10)), encoding="utf-8")
        return path

    found = only(gogpt, log("fault.log", 300), "RUN666")
    assert (found["evidence"]["skipped"], found["evidence"]["percent"]) == (300, 30)
    assert judged(gogpt, log("twin.log", 18)) == {}


@planted("RUN667")
def test_a_loss_that_never_moves(gogpt: Gogpt, tmp_path: Path) -> None:
    only(gogpt, state(tmp_path / "out", healthy(loss=lambda s: 2.1031 + 0.0001 * (s // 10 % 2))), "RUN667")
    slow = state(tmp_path / "slow", healthy(loss=lambda s: 1.21 - s / 5000 + 0.02 * math.sin(s)))
    assert judged(gogpt, slow) == {}


@planted("RUN668")
def test_no_gradient_arrives(gogpt: Gogpt, tmp_path: Path) -> None:
    still = healthy(loss=lambda s: 2.1 + 0.1 * math.sin(s), grad_norm=lambda s: 0.0)
    only(gogpt, state(tmp_path / "out", still), "RUN668")
    assert judged(gogpt, state(tmp_path / "twin", healthy(grad_norm=lambda s: 0.0))) == {}, "the loss falls: the norm is not logged right"


@planted("RUN669")
def test_a_loss_summed_over_the_accumulation(gogpt: Gogpt, tmp_path: Path) -> None:
    big = healthy(loss=lambda s: 8 * (5.9 * math.exp(-s / 90) + 0.5))
    folder = state(tmp_path / "out", big)
    (folder / "config.json").write_text('{"vocab_size": 420}', encoding="utf-8")
    (folder / "args.json").write_text('{"gradient_accumulation_steps": 8, "learning_rate": 2e-4, "lr_scheduler_type": "cosine", "warmup_steps": 20}', encoding="utf-8")
    found = only(gogpt, folder, "RUN669")
    assert "sum over the 8 accumulated" in found["message"]
    twin = state(tmp_path / "twin", healthy(loss=lambda s: 5.9 * math.exp(-s / 90) + 0.5))
    (twin / "config.json").write_text('{"vocab_size": 420}', encoding="utf-8")
    assert judged(gogpt, twin) == {}


@planted("RUN670")
def test_a_run_that_diverged(gogpt: Gogpt, tmp_path: Path) -> None:
    away = healthy(loss=lambda s: 10.8 - s / 60 if s < 90 else 9.3 + (s - 90) / 15)
    only(gogpt, state(tmp_path / "out", away), "RUN670")
    peak = healthy(loss=lambda s: 14.0 if 120 <= s <= 150 else 2.2 - s / 300)
    assert judged(gogpt, state(tmp_path / "peak", peak)) == {}, "a peak that comes back"


# -- checkpoints -----------------------------------------------------------------------------------


def shards(folder: Path, ranks: Sequence[int], *, stage: int = 3) -> Path:
    inner = folder / "global_step300"
    inner.mkdir(parents=True)
    (folder / "latest").write_text("global_step300", encoding="utf-8")
    for r in ranks:
        (inner / f"bf16_zero_pp_rank_{r}_mp_rank_00_optim_states.pt").write_bytes(b"x")
        if stage == 3:
            (inner / f"zero_pp_rank_{r}_mp_rank_00_model_states.pt").write_bytes(b"x")
    return folder


@planted("RUN664")
def test_shards(gogpt: Gogpt, tmp_path: Path) -> None:
    ran = gogpt("check", shards(tmp_path / "three", range(8)), "--format", "json")
    assert ran.json["object"]["kind"] == "deepspeed_checkpoint"
    assert only(gogpt, tmp_path / "three", "RUN664")["severity"] == "warning"
    gone = only(gogpt, shards(tmp_path / "gone", [0, 1, 2, 4, 7]), "RUN664")
    assert (gone["severity"], gone["evidence"]["missing"]) == ("error", "3, 5, 6")
    lost = shards(tmp_path / "lost", range(2))
    (lost / "latest").write_text("global_step400", encoding="utf-8")
    assert only(gogpt, lost, "RUN664")["evidence"]["latest"] == "global_step400"
    whole = shards(tmp_path / "whole", range(8))
    (whole / "model.safetensors").write_bytes(safetensors({"w": [2, 2]}))
    assert judged(gogpt, whole) == {}
    assert judged(gogpt, shards(tmp_path / "two", range(8), stage=2)) == {}


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(at)


@planted("RUN665")
@pytest.mark.parametrize("content", [b"", safetensors({"lora_A": [0], "lora_B": [0]}), safetensors({})], ids=["no bytes", "no elements", "no tensors"])
def test_weight_files_that_hold_nothing(gogpt: Gogpt, tmp_path: Path, content: bytes) -> None:
    for name, data in (("out", content), ("twin", safetensors({"lora_A": [2, 4], "lora_B": [4, 2]}))):
        folder = state(tmp_path / name / "checkpoint-300", healthy())
        (folder / "adapter_model.safetensors").write_bytes(data)
        for file in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            (folder / file).write_bytes(b"x")
    assert only(gogpt, tmp_path / "out", "RUN665")["evidence"]["files"] == "adapter_model.safetensors"
    assert judged(gogpt, tmp_path / "twin") == {}
    for file in ("optimizer.pt", "scheduler.pt"):
        (tmp_path / "twin" / "checkpoint-300" / file).unlink()
    assert list(judged(gogpt, tmp_path / "twin")) == ["RUN663"]
    (tmp_path / "twin" / "train_results.json").write_text("{}", encoding="utf-8")
    assert judged(gogpt, tmp_path / "twin") == {}, "finished: nobody goes on from it"


@planted("RUN602")
def test_steps_that_fp16_really_overflowed(gogpt: Gogpt, tmp_path: Path) -> None:
    """torch's own loss scaler on float16, begun too high: it skips the steps whose gradients overflow, and the scheduler waits for it."""
    import torch

    def train(start: float) -> tuple[list[dict[str, Any]], int]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.GELU(), torch.nn.Linear(64, 8))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        rate = transformers_rate("linear", learning_rate=1e-3, warmup_steps=6, steps=60)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: rate(done + 1) / 1e-3)
        scaler = torch.amp.GradScaler("cpu", init_scale=start, growth_interval=12 if start > 2**10 else 10**6)
        records, skipped = [], 0
        for step in range(1, 61):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                loss = torch.nn.functional.cross_entropy(model(torch.randn(32, 16)), torch.randint(0, 8, (32,)))
            scaler.scale(loss).backward()
            records.append({"step": step, "epoch": step / 60, "loss": float(loss.detach()), "learning_rate": optimizer.param_groups[0]["lr"], "grad_norm": 0.5})
            before = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() < before:
                skipped += 1
            else:
                scheduler.step()
        return records, skipped

    asked = ("train.schedule=linear", "train.warmup=6", "train.learning_rate=1e-3")
    records, skipped = train(2.0**22)
    assert skipped >= 3
    found = only(gogpt, state(tmp_path / "high", records), "RUN602", *asked)
    assert (found["evidence"]["mechanism"], found["evidence"]["skipped"]) == ("skipped", skipped)
    records, skipped = train(2.0**8)
    assert skipped == 0
    assert judged(gogpt, state(tmp_path / "low", records), *asked) == {}
