"""The report: complete, well-formed and honest whatever a run folder holds."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gogpt.charts import (
    Chart, Series, downsample, line_chart, log_ticks, nice_ticks, number, share, size, smooth, tick_text,
)
from gogpt.facts import DataFacts, EnvFacts, Facts, ModelFacts, PlanFacts, StepStats, Tally, to_json
from gogpt.report import LABELS, read_folder, render_report, write_report

EVIL = "<script>alert(1)</script>"
DOCUMENTS = ("run.json", "plan.json", "facts.json", "findings.json", "ledger.json", "recipe.yaml", "metrics.jsonl",
             "eval.jsonl", "samples.jsonl")
VOID = {"meta", "link", "br", "hr", "img", "input"}


# -- a run folder ----------------------------------------------------------------------------------


def planned_lr(step: int, steps: int, peak: float = 2e-4) -> float:
    warm = max(1, steps // 20)
    return peak * step / warm if step <= warm else peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def stats(step: int, steps: int) -> dict[str, Any]:
    wave = math.sin(step * 12.9898) * 0.5 + math.sin(step * 78.233) * 0.5
    return to_json(StepStats(
        step=step, loss=0.8 + 1.6 * math.exp(-4 * step / steps) + 0.08 * wave, lr=planned_lr(step, steps),
        grad_norm=0.6 + 0.9 * math.exp(-8 * step / steps) + 0.15 * abs(wave), trained_tokens=2900 + 10 * (step % 7),
        tokens=8192, update_norm=400 * planned_lr(step, steps) * (1 + 0.1 * wave), seconds=1.25, memory=6 * 2**30 + step))


def sample(row: int) -> dict[str, Any]:
    pieces = ["<|im_start|>", "user", "\n", f"Say {EVIL}", " \u4f60", "", "\u597d", "<|im_end|>", "\n", "<|im_start|>", "assistant",
              "\n", "Hello", ",", " world", ".", "\n\n", "Bye", ".", "<|im_end|>", "\n"]
    ids = list(range(100, 100 + len(pieces)))
    return {
        "origin": {"path": "data/a.jsonl", "row": row}, "schema": "openai", "template": "chatml",
        "messages": [{"role": "user", "content": f"Say {EVIL} \u4f60\u597d"}, {"role": "assistant", "content": "Hello, world.\n\nBye."}],
        "segments": [{"text": "".join(pieces[:12]), "train": False}, {"text": "".join(pieces[12:20]), "train": True}],
        "input_ids": ids, "labels": [i if 12 <= k < 20 else -100 for k, i in enumerate(ids)],
        "tokens": [f"raw{i}" for i in ids], "pieces": pieces,
    }


def facts() -> Facts:
    return Facts(
        env=EnvFacts(python="3.11.7", platform="Linux x86_64", device="cuda", num_devices=1, device_name="A GPU", bf16=True,
                     memory_total=24 * 2**30, disk_free=200 * 2**30, cpu_count=16, versions={"torch": "2.9.0"}),
        plan=PlanFacts(method="lora", epochs=3.0, steps=200, warmup_steps=10, schedule="cosine", learning_rate=2e-4,
                       batch_size=16, micro_batch_size=4, accumulation=4, world_size=1, precision="bf16", max_length=2048,
                       overlong="drop", packing=True, special_text="error", num_rows=1067),
        data=DataFacts(rows_in=5000, conversations=4948, examples=4849, eval_examples=99,
                       drops={"empty_answer": 41, "unreadable": 11}, first={"empty_answer": ("data/a.jsonl:18",)},
                       schemas={"data/a.jsonl": "openai"}, tokens=1638400, trained_tokens=586000, longest=1998, template="chatml",
                       stop_ids=(2,), stop_texts=("<|im_end|>",), stop_is_token=True, bos_id=1, eos_id=2, pad_id=None,
                       answers=7310, answers_stopped=7310, overlap=Tally(count=2, first=("data/a.jsonl:77", "data/b.jsonl:5"))),
        model=ModelFacts(path="models/base", model_type="llama", num_parameters=1711376384, trainable_parameters=18087936,
                         embedding_rows=49152, tokenizer_size=49152, max_position_embeddings=8192, num_layers=24,
                         hidden_size=2048, vocab_size=49152),
    )


FINDING = {"code": "TOK405", "severity": "warning", "message": "2 conversations are in both train and eval",
           "evidence": {"count": 2, "first": ["data/a.jsonl:77"], "share": 0.00040420371867}, "where": "data/a.jsonl:77",
           "fix": "remove them from one of the two"}
NOT_FINITE = {"code": "RUN601", "severity": "error", "message": "the loss of step 60 is NaN", "evidence": {"step": 60, "loss": "nan"},
              "where": None, "fix": "lower the learning rate, or train in bf16"}


def make_run(folder: Path, steps: int = 200, done: int | None = None, **changes: Any) -> Path:
    """A run folder as a healthy run leaves it. ``changes`` update run.json."""
    done = steps if done is None else done
    folder.mkdir(parents=True, exist_ok=True)
    documents: dict[str, Any] = {
        "run.json": {"status": "finished", "started": "2025-11-24T09:00:00+00:00", "finished": "2025-11-24T09:04:25+00:00",
                     "step": done, "steps": steps, "versions": {"gogpt": "0.1.0", "transformers": "5.0.0"}, "device": "cuda",
                     "command": "gogpt train recipe.yaml", "error": None} | changes,
        "plan.json": {"steps": steps, "warmup_steps": steps // 20, "schedule": "cosine", "learning_rate": 2e-4, "epochs": 3.0,
                      "batch_size": 16, "micro_batch_size": 4, "accumulation": 4, "world_size": 1, "precision": "bf16",
                      "method": "lora", "rows": 1067, "tokens": 1638400, "trained_tokens": 586000, "tokens_per_step": 8192,
                      "trained_tokens_per_step": 2930, "max_length": 2048, "packing": True,
                      "lr": [[s, planned_lr(s, steps)] for s in range(1, steps + 1)],
                      "memory": {"total": 7 * 2**30, "weights": 4 * 2**30, "gradients": 2**29, "optimizer": 2**30,
                                 "activations": 3 * 2**29}, "seconds": 240.0, "trainable_parameters": 18087936,
                      "parameters": 1711376384},
        "facts.json": to_json(facts()),
        "findings.json": {"object": {"path": "recipe.yaml", "kind": "recipe"}, "findings": [], "checked": ["CFG201", "DAT301", "TOK405"],
                          "not_checked": [{"code": "EXP701", "why": "no export facts"}], "allowed": []},
        "ledger.json": {"rows_in": 5000, "conversations": 4948, "drops": {"empty_answer": 41, "unreadable": 11},
                        "schema": {"data/a.jsonl": "openai", "data/b.json": "alpaca"},
                        "first": {"empty_answer": ["data/a.jsonl:18", "data/a.jsonl:402"], "unreadable": ["data/b.json:7"]},
                        "kept": {"train": 4849, "eval": 99}, "examples": {"train": 4849, "eval": 99}, "notes": {"duplicates kept": 3}},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    (folder / "recipe.yaml").write_text(f"model: models/base\n# {EVIL}\ndata:\n  train: data/a.jsonl\noutput: runs/x\n", encoding="utf-8")
    lines(folder / "metrics.jsonl", [stats(s, steps) for s in range(1, done + 1)])
    lines(folder / "eval.jsonl", [{"step": s, "eval_loss": 0.95 + 1.2 * math.exp(-4 * s / steps), "eval_tokens": 59000, "seconds": 3.1}
                                  for s in range(steps // 5, done + 1, max(1, steps // 5))])
    lines(folder / "samples.jsonl", [sample(row) for row in range(1, 13)])
    return folder


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
