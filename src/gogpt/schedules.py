"""Learning rates as DeepSpeed's and transformers' own schedulers give them, and what is known to distort them: pure arithmetic.

Every function gives a ``Rate``: the learning rate that optimizer step ``step`` (from 1) uses. The steps are those of the optimizer: a
scheduler is stepped after each, so that step 1 uses what the constructor set. The formulas are those of ``deepspeed.runtime.lr_schedules``
(0.19.8) and ``transformers.optimization``; tests/test_schedules.py holds them against both.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Rate = Callable[[int], float]

DEFAULT_MAX_LR = 0.001
"""``warmup_max_lr`` where the file says none. (WarmupLR of DeepSpeed 0.19.8 takes the optimizer's rate instead; WarmupDecayLR does not.)"""
DEFAULT_WARMUP_STEPS = 1000


# -- DeepSpeed -------------------------------------------------------------------------------------


def _warmup_share(index: int, steps: int, kind: str) -> float:
    """Share of the way up at ``last_batch_iteration`` = index. Every word but ``linear`` means ``log``."""
    return index / steps if kind == "linear" else (1.0 / math.log(steps)) * math.log(index + 1)


def _warmup_steps(value: Any) -> int:
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"warmup_num_steps must be a positive integer, got {value}")
    return max(2, value)


def warmup_lr(*, warmup_min_lr: float = 0.0, warmup_max_lr: float | None = None, warmup_num_steps: int = DEFAULT_WARMUP_STEPS,
              warmup_type: str = "log", optimizer_lr: float | None = None) -> Rate:
    """WarmupLR: up to the maximum, and there for ever. ``optimizer_lr``: what 0.19.8 takes for a missing ``warmup_max_lr``."""
    top = warmup_max_lr if warmup_max_lr is not None else DEFAULT_MAX_LR if optimizer_lr is None else optimizer_lr
    low, num = warmup_min_lr, _warmup_steps(warmup_num_steps)

    def rate(step: int) -> float:
        index = step - 2
        if index < 0:
            return low
        return low + (top - low) * (_warmup_share(index, num, warmup_type) if index < num else 1.0)

    return rate


def warmup_decay_lr(*, total_num_steps: int, warmup_min_lr: float = 0.0, warmup_max_lr: float = DEFAULT_MAX_LR,
                    warmup_num_steps: int = DEFAULT_WARMUP_STEPS, warmup_type: str = "log", optimizer_lr: float | None = None) -> Rate:
    """WarmupDecayLR: up, then straight down to ``warmup_min_lr`` at ``total_num_steps``."""
    low, top, num = warmup_min_lr, warmup_max_lr, _warmup_steps(warmup_num_steps)

    def rate(step: int) -> float:
        index = step - 2
        if index < 0:
            return low
        share = _warmup_share(index, num, warmup_type) if index < num else max(
            0.0, float(total_num_steps - index) / float(max(1.0, total_num_steps - num)))
        return low + (top - low) * share

    return rate


def warmup_cosine_lr(*, total_num_steps: int, warmup_min_ratio: float = 0.0, warmup_num_steps: int = DEFAULT_WARMUP_STEPS,
                     cos_min_ratio: float = 0.0001, warmup_type: str = "log", optimizer_lr: float | None = None) -> Rate:
    """WarmupCosineLR: shares of the optimizer's own rate (0.001 where it says none, torch's default)."""
    top, num = DEFAULT_MAX_LR if optimizer_lr is None else optimizer_lr, _warmup_steps(warmup_num_steps)

    def rate(step: int) -> float:
        index = step - 2
        if index < 0:
            return 0.0
        if index < num:
            return top * (warmup_min_ratio + _warmup_share(index, num, warmup_type) * (1.0 - warmup_min_ratio))
        progress = min(1.0, (index - num + 1) / max(1, total_num_steps - num))
        return top * max(0.0, cos_min_ratio + (1.0 - cos_min_ratio) * ((1 + math.cos(math.pi * progress)) / 2))

    return rate


def one_cycle(*, cycle_min_lr: float, cycle_max_lr: float, decay_lr_rate: float = 0.0, cycle_first_step_size: float = 2000,
              cycle_second_step_size: float | None = None, cycle_first_stair_count: int = 0, cycle_second_stair_count: int | None = None,
              decay_step_size: float = 0, optimizer_lr: float | None = None, cycle_momentum: bool = True, cycle_min_mom: float = 0.8,
              cycle_max_mom: float = 0.9, decay_mom_rate: float = 0.0) -> Rate:
    """OneCycle: up, down, then decayed by ``decay_lr_rate``. Momentum has no part in the rate."""
    first = float(cycle_first_step_size)
    second = first if cycle_second_step_size is None else float(cycle_second_step_size)
    if first <= 0 or second < 0:
        raise ValueError(f"a cycle of {first:g} and {second:g} steps")
    total = first + second
    ratio = first / total
    stairs = (cycle_first_stair_count, cycle_first_stair_count if cycle_second_stair_count is None else cycle_second_stair_count)
    flat = math.isclose(decay_step_size, 0) or math.isclose(decay_lr_rate, 0)

    def scale(count: int) -> float:
        x = 1.0 + count / total - math.floor(1 + count / total)
        rising = x <= ratio
        num = stairs[0] if rising else stairs[1]
        if num > 0:
            at = count % total
            return math.floor(at * num / first if at <= first else (total - at) * num / second) / num
        return x / ratio if rising else (x - 1) / (ratio - 1)

    def rate(step: int) -> float:
        index = step - 2
        if index < 0:
            return cycle_min_lr
        if index < total:
            return cycle_min_lr + (cycle_max_lr - cycle_min_lr) * scale(index + 1)
        return cycle_min_lr if flat else cycle_min_lr / (1 + decay_lr_rate * ((index - total + 1) / decay_step_size))

    return rate


def lr_range_test(*, lr_range_test_min_lr: float = 1e-3, lr_range_test_step_size: int = 2000, lr_range_test_step_rate: float = 1.0,
                  lr_range_test_staircase: bool = False, optimizer_lr: float | None = None) -> Rate:
    """LRRangeTest: it only rises, to find where training breaks."""
    if not isinstance(lr_range_test_step_size, int) or lr_range_test_step_size <= 0:
        raise ValueError(f"lr_range_test_step_size must be a positive integer, got {lr_range_test_step_size}")

    def rate(step: int) -> float:
        interval = float(step - 1) / lr_range_test_step_size
        return lr_range_test_min_lr * (1 + lr_range_test_step_rate * (math.floor(interval) if lr_range_test_staircase else interval))

    return rate


DEEPSPEED: Mapping[str, Callable[..., Rate]] = {
    "WarmupLR": warmup_lr, "WarmupDecayLR": warmup_decay_lr, "WarmupCosineLR": warmup_cosine_lr, "OneCycle": one_cycle, "LRRangeTest": lr_range_test,
}
NEVER_DECAY = ("WarmupLR", "LRRangeTest")


def deepspeed_rate(kind: str, params: Mapping[str, Any], *, optimizer_lr: float | None = None) -> Rate:
    """The schedule of a file's ``scheduler`` part.

    Raises KeyError for a type that is not DeepSpeed's own, TypeError for a missing or unknown parameter, and ValueError for one that
    DeepSpeed refuses, as its constructors do.
    """
    given = {k: v for k, v in params.items() if k != "last_batch_iteration"}
    return DEEPSPEED[kind](**given, optimizer_lr=optimizer_lr)


# -- transformers ----------------------------------------------------------------------------------


def transformers_rate(name: str, *, learning_rate: float, warmup_steps: int, steps: int) -> Rate:
    """``lr_scheduler_type`` of the Trainer: linear, cosine, constant, constant_with_warmup. Step 1 of a warm-up uses 0.

    Raises KeyError for any other name.
    """
    after: Callable[[float], float] = {
        "linear": lambda progress: 1.0 - progress, "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
        "constant": lambda progress: 1.0, "constant_with_warmup": lambda progress: 1.0,
    }[name]

    def rate(step: int) -> float:
        index = step - 1
        if name != "constant" and index < warmup_steps:
            return learning_rate * (index / max(1, warmup_steps))
        if name == "linear":
            return learning_rate * max(0.0, (steps - index) / max(1, steps - warmup_steps))
        return learning_rate * max(0.0, after((index - warmup_steps) / max(1, steps - warmup_steps)))

    return rate


# -- what distorts them ----------------------------------------------------------------------------


def per_process(rate: Rate, processes: int) -> Rate:
    """Stepped once per process after each optimizer step: accelerate's prepared scheduler with ``split_batches=False``."""
    return lambda step: rate(1 + (step - 1) * processes)


def restarted(rate: Rate, at: int) -> Rate:
    """A run resumed at step ``at`` whose scheduler was not restored."""
    return lambda step: rate(step if step < at else step - at + 1)


def skipping(rate: Rate, skipped: Iterable[int]) -> Rate:
    """Optimizer steps that the fp16 loss scaler skipped: the scheduler is not stepped after them."""
    ordered = sorted(skipped)
    return lambda step: rate(step - bisect.bisect_left(ordered, step))


def without_decay(rate: Rate, warmup_steps: int) -> Rate:
    """The warm-up of a schedule, and then its peak for ever."""
    return lambda step: rate(min(step, warmup_steps + 1))
