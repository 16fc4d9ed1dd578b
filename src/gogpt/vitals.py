"""The vitals of a run: robust figures over the course of its steps, from which checks judge.

A fold over StepStats: each step is seen once, in constant time and with bounded memory, so that the same figures come out of a
run that goes on and of the ``metrics.jsonl`` of one that is over. Medians and quantiles, because single steps lie: a small batch,
a row unlike the others, a machine that pauses. What counts as too much is compared with the run's own past; steps that are out of
bounds are kept out of that past, so that a fault does not become the new measure.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from gogpt.checks import CHECKS
from gogpt.facts import Facts, RunFacts, RunVitals, StepStats
from gogpt.findings import Finding, judge

RAISED_BY = 1.0
"""nats that a loss must at least stand above the best"""
NOISES = 3.0
"""and so many times the noise"""
ABOVE_UNIFORM = 1.2
NUM_BEGIN = 32
LOOKS = (128, 256)
"""steps after the warm-up at which the start is judged: a look at every step would find what is not there sooner or later"""
EXPLODES = 30.0
"""times its usual gradient norm"""
EXPLODES_EARLY = 5.0
"""and times that of the first steps: a norm that fell with the loss may come back"""
VANISHES = 1000.0
FIRST_SKIPS = 20
"""steps in which the fp16 loss scale, which starts at 65,536, finds its value"""
SLOW = 3.0
FIRST_SLOW = 10
BLOCK = 10
NUM_BLOCKS = 8
TINY = 0.01
ONE_LABEL = 0.99


class Vitals:
    """``see`` every step in order. ``vocab_size`` and ``epoch_steps``: None where they are not known."""

    def __init__(self, *, warmup_steps: int = 0, epoch_steps: int | None = None, vocab_size: int | None = None) -> None:
        self._parts = (_Loss(vocab_size), _Begin(warmup_steps), _Gradient(), _Skips(), _Speed(), _Memory(), _Labels(epoch_steps))
        self.figures = RunVitals()

    def see(self, step: StepStats) -> RunVitals:
        """The figures after ``step``. A step that was passed over after a rollback changes nothing."""
        if not step.rolled_back:
            figures: dict[str, Any] = {}
            for part in self._parts:
                figures.update(part.see(step))
            self.figures = RunVitals(**figures)
        return self.figures


def course(steps: Iterable[StepStats], **known: Any) -> Iterator[tuple[StepStats, RunVitals]]:
    """Each step of a run with the figures after it. ``known``: as for ``Vitals``."""
    vitals = Vitals(**known)
    for step in steps:
        yield step, vitals.see(step)


def first_findings(steps: Iterable[StepStats], *, steps_planned: int, peak_lr: float, **known: Any) -> dict[str, tuple[int, Finding]]:
    """What the checks RUN650 to RUN659 say of a run that is over, by code: the first step at which they say it, and the finding."""
    checks = [c for c in CHECKS if c.code.startswith("RUN65")]
    out: dict[str, tuple[int, Finding]] = {}
    for step, figures in course(steps, **known):
        facts = RunFacts(steps_planned=steps_planned, last=step, planned_lr=None, peak_lr=peak_lr, vitals=figures)
        for finding in judge(checks, Facts(run=facts)).findings:
            out.setdefault(finding.code, (step.step, finding))
    return out


def _median(values: Iterable[float]) -> float:
    """As numpy's; of a few dozen numbers sorting is ten times as quick."""
    order = sorted(values)
    half = len(order) // 2
    return float(order[half] if len(order) % 2 else (order[half - 1] + order[half]) / 2)


class _Loss:
    """The loss against its own best and against guessing; spikes."""

    def __init__(self, vocab_size: int | None) -> None:
        self._uniform = math.log(vocab_size) if vocab_size and vocab_size > 1 else None
        self._calm: deque[float] = deque(maxlen=64)
        self._last: deque[float] = deque(maxlen=8)
        self._seen = 0
        self._start: float | None = None
        self._best = self._lowest = math.inf
        self._raised = self._guessing = self._spikes = 0
        self._limit: float | None = None
        self._since: int | None = None
        self._peak = 0.0
        self._spike: tuple[int, float] | None = None

    def see(self, step: StepStats) -> dict[str, Any]:
        if math.isfinite(step.loss):
            self._take(step.step, step.loss)
        noise, limit = self._limits()
        self._limit = limit
        best = self._best if math.isfinite(self._best) else None
        return {
            "loss_start": self._start, "loss_best": best, "loss_noise": noise, "loss_limit": limit, "loss_uniform": self._uniform,
            "loss_now": _median(self._last) if self._last else None, "raised_steps": self._raised, "guessing_steps": self._guessing,
            "raised_since": self._since, "recovering": self._recovering(), "spikes": self._spikes,
            "spike_step": self._spike[0] if self._spike else None, "spike_loss": self._spike[1] if self._spike else None,
        }

    def _take(self, step: int, loss: float) -> None:
        limit = self._limit
        raised = limit is not None and loss > limit
        guessing = self._uniform is not None and loss > max(ABOVE_UNIFORM * self._uniform, self._lowest + RAISED_BY)
        self._last.append(loss)
        self._lowest = min(self._lowest, loss)
        if raised or guessing:
            if self._since is None:
                self._since, self._peak = step, loss
            self._peak = max(self._peak, loss)
        else:
            if self._since is not None and self._raised >= 4:
                self._spikes += 1
                self._spike = (self._since, self._peak)
            self._since = None
            self._calm.append(loss)
            self._seen += 1
            if len(self._calm) >= 3:
                level = _median(list(self._calm)[-3:])
                self._start = level if self._start is None else self._start
                self._best = min(self._best, level)
        self._raised = self._raised + 1 if raised else 0
        self._guessing = self._guessing + 1 if guessing else 0

    def _limits(self) -> tuple[float | None, float | None]:
        if self._seen < 10 or self._start is None:
            return None, None
        calm = list(self._calm)
        changes = sorted(abs(b - a) for a, b in itertools.pairwise(calm))
        noise = changes[round(0.9 * (len(changes) - 1))]
        limit = self._best + (self._start - self._best) / 2 + max(RAISED_BY, NOISES * noise)
        return noise, max(limit, 1.25 * max(calm[-32:]))

    def _recovering(self) -> bool:
        if len(self._last) < 8:
            return False
        best = self._best if math.isfinite(self._best) else self._lowest
        first, second = list(self._last)[:4], list(self._last)[4:]
        return _median(second) - best < 0.75 * (_median(first) - best)


class _Begin:
    """Whether the loss falls at all once the warm-up is over."""

    def __init__(self, warmup_steps: int) -> None:
        self._warmup = warmup_steps
        self._first: list[float] = []
        self._last: deque[float] = deque(maxlen=NUM_BEGIN)

    def see(self, step: StepStats) -> dict[str, Any]:
        since = step.step - self._warmup
        if math.isfinite(step.loss):
            if len(self._first) < NUM_BEGIN:
                self._first.append(step.loss)
            self._last.append(step.loss)
        out: dict[str, Any] = {"begin_steps": max(0, since)}
        if since not in LOOKS or len(self._first) < NUM_BEGIN:
            return out
        # Means, not medians: of rows in two lumps, easy and hard, the median falls into the one or the other by chance.
        first, now = float(np.mean(self._first)), float(np.mean(self._last))
        error = math.hypot(float(np.std(self._first)), float(np.std(self._last))) / math.sqrt(NUM_BEGIN)
        return {**out, "begin_loss": first, "begin_now": now, "begin_gain": first - now + 3 * error}


class _Gradient:
    """The gradient norm against its own median."""

    def __init__(self) -> None:
        self._early: list[float] = []
        self._calm: deque[float] = deque(maxlen=64)
        self._last: deque[float] = deque(maxlen=8)
        self._losses: deque[float] = deque(maxlen=8)
        self._first_losses: list[float] = []
        self._exploding = self._vanishing = 0

    def see(self, step: StepStats) -> dict[str, Any]:
        norm = step.grad_norm
        if norm is not None and math.isfinite(norm) and math.isfinite(step.loss) and not step.skipped:
            self._take(norm, step.loss)
        return {
            "grad_early": _median(self._early) if len(self._early) >= 16 else None,
            "grad_usual": _median(self._calm) if len(self._calm) >= 16 else None,
            "grad_now": _median(self._last) if self._last else None,
            "exploding_steps": self._exploding, "vanishing_steps": self._vanishing,
        }

    def _take(self, norm: float, loss: float) -> None:
        self._last.append(norm)
        self._losses.append(loss)
        if len(self._early) < 16:
            self._early.append(norm)
            self._first_losses.append(loss)
            self._calm.append(norm)
            return
        early = _median(self._early)
        exploding = norm > max(EXPLODES * _median(self._calm), EXPLODES_EARLY * early)
        # A norm that falls with the loss is what learning by heart looks like; one that falls alone is not.
        vanishing = norm < early / VANISHES and _median(self._losses) > 0.5 * _median(self._first_losses)
        self._exploding = self._exploding + 1 if exploding else 0
        self._vanishing = self._vanishing + 1 if vanishing else 0
        if not exploding and not vanishing:
            self._calm.append(norm)


class _Skips:
    """Updates that the fp16 loss scaler left out."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=64)
        self._total = self._in_row = 0

    def see(self, step: StepStats) -> dict[str, Any]:
        if step.step > FIRST_SKIPS:
            self._recent.append(step.skipped)
            self._total += step.skipped
            self._in_row = self._in_row + 1 if step.skipped else 0
        return {"skips": self._total, "skips_recent": sum(self._recent), "skips_of": len(self._recent), "skips_in_row": self._in_row}


class _Speed:
    """Tokens per second against their own median."""

    def __init__(self) -> None:
        self._seen = 0
        self._usual: deque[tuple[float, int]] = deque(maxlen=64)
        self._slow: deque[tuple[float, int]] = deque(maxlen=64)
        self._count = 0

    def see(self, step: StepStats) -> dict[str, Any]:
        self._seen += 1
        if self._seen > FIRST_SLOW and step.seconds > 0 and step.tokens > 0:
            rate = step.tokens / step.seconds
            if len(self._usual) >= 16 and rate * SLOW < _median(r for r, _ in self._usual):
                self._slow.append((rate, step.tokens))
                self._count += 1
            else:
                self._usual.append((rate, step.tokens))
                self._slow.clear()
                self._count = 0
        known, slow = len(self._usual) >= 16, bool(self._slow)
        return {
            "rate_usual": _median(r for r, _ in self._usual) if known else None, "rate_now": _median(r for r, _ in self._slow) if slow else None,
            "tokens_usual": _median(t for _, t in self._usual) if known else None, "tokens_slow": _median(t for _, t in self._slow) if slow else None,
            "slow_steps": self._count,
        }


class _Memory:
    """Bytes in use, in blocks of steps."""

    def __init__(self) -> None:
        self._seen = 0
        self._block: list[tuple[int, int]] = []
        self._blocks: deque[tuple[int, float]] = deque(maxlen=NUM_BLOCKS)

    def see(self, step: StepStats) -> dict[str, Any]:
        self._seen += 1
        if self._seen > 2 * BLOCK and step.memory_now > 0:
            self._block.append((step.memory_now, step.tokens))
        if len(self._block) == BLOCK:
            self._blocks.append((int(_median(m for m, _ in self._block)), _median(t for _, t in self._block)))
            self._block = []
        return {"memory_blocks": tuple(m for m, _ in self._blocks), "memory_tokens": tuple(t for _, t in self._blocks)}


class _Labels:
    """Losses that are too good, and labels that are all one."""

    def __init__(self, epoch_steps: int | None) -> None:
        self._epoch = epoch_steps
        self._tiny = self._one = 0

    def see(self, step: StepStats) -> dict[str, Any]:
        fresh = self._epoch is None or step.step <= self._epoch
        tiny = fresh and 0 < step.loss < TINY and (step.grad_norm is None or step.grad_norm > 0)
        self._tiny = self._tiny + 1 if tiny else 0
        one = step.one_label is not None and step.one_label >= ONE_LABEL and step.trained_tokens >= 8
        self._one = self._one + 1 if one else 0
        return {"tiny_steps": self._tiny, "one_label_steps": self._one, "epoch_steps": self._epoch}
