"""What the runners of bench/train.py have in common for both peers: words, the data as GoGPT prepared it, and the record of every step.

The Trainer's own callbacks tell when steps end; ``training_step`` is wrapped, so that what goes into it is counted: tokens with padding, trained
tokens, and a checksum of the targets. Counting a micro-batch takes microseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

IGNORE = -100
RANK, ALPHA = 16, 32
BATCH = 8
"""TrainingArguments' default of ``per_device_train_batch_size``"""


def words(description: str, settings: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="JSON lines: ids and labels of each example")
    parser.add_argument("--output", type=Path, required=True, help="an empty folder")
    parser.add_argument("--record", type=Path, required=True, help="where the record is written")
    parser.add_argument("--setting", choices=settings, required=True)
    parser.add_argument("--method", choices=("full", "lora"), required=True)
    parser.add_argument("--adapter", type=Path, help="safetensors with the LoRA matrices to start from")
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--steps", type=int, required=True, help="measured, after the warm-up")
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--most-seconds", type=float, default=math.inf, help="no further step after so many seconds of measured ones")
    return parser.parse_args()


def examples(file: Path) -> list[dict[str, list[int]]]:
    """``input_ids`` and ``labels`` of each example, as they are."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{"input_ids": r["ids"], "labels": r["labels"]} for r in rows]


def whole_batches(count: int) -> int:
    """Examples of a micro-batch: TrainingArguments' default of 8, or the largest number below it that divides the set, so that a step is the whole set."""
    return max(n for n in range(1, BATCH + 1) if count % n == 0)


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def peak() -> int:
    """Bytes, the highest so far (Linux: kilobytes in ru_maxrss)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(slots=True)
class Step:
    micro_batches: int = 0
    tokens: int = 0
    """that are no padding, where the attention mask says so; else all"""
    computed: int = 0
    """with padding"""
    trained: int = 0
    checksum: int = 0
    """sum of the ids of the trained tokens"""
    loss: float = 0.0
    grad_norm: float | None = None
    seconds: float = 0.0
    peak: int = 0


@dataclass(slots=True)
class Record:
    """``floor``: resident bytes after the imports, before the model."""

    floor: int
    steps: list[Step] = field(default_factory=list)
    _now: Step = field(default_factory=Step)
    _at: float = 0.0

    def watch(self, trainer_class: Any) -> None:
        """Wrap ``training_step`` of the Trainer that a peer's trainer derives from."""
        own = trainer_class.training_step

        def training_step(trainer: Any, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            self._see(inputs)
            loss = own(trainer, model, inputs, num_items_in_batch)
            # The sum over micro-batches is the mean over the step's tokens: each is divided by the number of trained tokens of the step.
            self._now.loss += float(loss)
            return loss

        trainer_class.training_step = training_step

    def _see(self, inputs: Any) -> None:
        now, ids, targets = self._now, inputs["input_ids"], inputs["labels"][:, 1:]
        mask = inputs.get("attention_mask")
        chosen = targets[targets != IGNORE]
        now.micro_batches += 1
        now.computed += ids.numel()
        now.tokens += int((mask != 0).sum()) if mask is not None and mask.dim() == 2 else ids.numel()
        now.trained += chosen.numel()
        now.checksum += int(chosen.sum())

    def begun(self) -> None:
        self._now, self._at = Step(), time.perf_counter()

    def ended(self) -> None:
        now = time.perf_counter()
        self._now.seconds, self._now.peak = now - self._at, peak()
        self.steps.append(self._now)
        self.begun()

    def measured(self, warmup: int) -> float:
        return sum(s.seconds for s in self.steps[warmup:])

    def write(self, file: Path, **more: Any) -> None:
        file.write_text(json.dumps({
            "floor": self.floor, "steps": [{name: getattr(s, name) for name in s.__slots__} for s in self.steps], **more,
        }), encoding="utf-8")


def callback(record: Record, args: argparse.Namespace) -> Any:
    """A TrainerCallback that keeps the record, gives the adapter its first values, and ends the run when its time is over."""
    from transformers import TrainerCallback

    class Keep(TrainerCallback):
        def on_train_begin(self, targs: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            if args.adapter is not None:
                begin_from(model, args.adapter)
            record.begun()

        def on_step_end(self, targs: Any, state: Any, control: Any, **kwargs: Any) -> None:
            record.ended()
            if len(record.steps) > args.warmup and record.measured(args.warmup) > args.most_seconds:
                control.should_training_stop = True

        def on_log(self, targs: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if record.steps and logs and "grad_norm" in logs:
                record.steps[-1].grad_norm = float(logs["grad_norm"])

    return Keep()


def begin_from(model: Any, file: Path) -> None:
    """The LoRA matrices A of a file, by the names of the base model. Raises where a name or a number differs."""
    import torch
    from safetensors.torch import load_file

    given = load_file(str(file))
    own = {n.split("base_model.model.", 1)[-1].replace(".default", ""): p for n, p in model.named_parameters() if "lora_A" in n}
    if given.keys() != own.keys():
        raise SystemExit(f"the adapter has other matrices: {sorted(given.keys() ^ own.keys())[:4]}")
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
        for name, p in model.named_parameters():
            if "lora_B" in name:
                assert not p.any(), name


def versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {p: version(p) for p in packages}
