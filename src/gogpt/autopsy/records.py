"""What every reader gives: the records of a run, in order, and what its files say of the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Record:
    """One logged line or point; None: not in it. ``line``: its place in a text file."""

    step: int | None = None
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    eval_loss: float | None = None
    line: int | None = None
    counter: int | None = None
    """the progress bar's count"""


@dataclass(slots=True, kw_only=True)
class Known:
    """What is known of the plan, each with where it is from. ``say`` keeps the first word on a thing."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def say(self, name: str, value: Any, source: str) -> None:
        if value is not None and name not in self.values:
            self.values[name], self.sources[name] = value, source

    def get(self, name: str) -> Any:
        return self.values.get(name)


@dataclass(slots=True, kw_only=True)
class History:
    """A run as it was read. ``unread``: file -> why; ``read``: files that were."""

    tool: str = "log"
    records: list[Record] = field(default_factory=list)
    known: Known = field(default_factory=Known)
    finished: bool = False
    best_kept: bool = False
    skipped: list[int | None] = field(default_factory=list)
    """steps that the loss scaler skipped, as far as each step is known"""
    skipped_total: int | None = None
    """DeepSpeed's own count"""
    counted_steps: int | None = None
    """steps of the line that holds it"""
    read: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    """the plan's own rates, where a run folder of GoGPT lists them"""


NAMES: Mapping[str, tuple[str, ...]] = {
    "step": ("step", "global_step", "current_steps", "iteration", "iter", "train/global_step", "global_step/max_steps"),
    "epoch": ("epoch", "train/epoch"),
    "loss": ("loss", "train/loss", "lm loss", "train_loss"),
    "lr": ("learning_rate", "lr", "train/learning_rate"),
    "grad_norm": ("grad_norm", "train/grad_norm", "gradient_norm"),
    "eval_loss": ("eval_loss", "eval/loss", "val_loss", "validation_loss"),
}
"""How trainers name a thing: transformers and TRL; LLaMA-Factory (trainer_log.jsonl); ms-swift (logging.jsonl)."""


def number(value: Any) -> float | None:
    """A figure, also one in quotes (transformers 5 prints them so), NaN and infinity among them."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def whole(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) and found == int(found) else None


def record_of(data: Mapping[str, Any], history: History | None = None) -> Record | None:
    """One logged mapping. None where it holds neither a loss nor a rate. A summary of the whole training is no record."""
    if "train_runtime" in data or "train/train_runtime" in data:
        if history is not None:
            history.finished = True
        return None
    out = Record()
    for name, keys in NAMES.items():
        value = next((data[k] for k in keys if k in data), None)
        if name == "step":
            text, slash, total = str(value).partition("/")
            out.step = whole(text if slash else value)
            if slash and history is not None:
                history.known.say("max_steps", whole(total), "max_steps")
        elif isinstance(value, list):
            setattr(out, name, number(value[0]) if value else None)
        else:
            setattr(out, name, number(value))
    if history is not None:
        history.known.say("max_steps", whole(data.get("total_steps")), "max_steps")
    return out if (out.loss, out.lr, out.eval_loss) != (None, None, None) else None
