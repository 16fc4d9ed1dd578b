"""The watch: sees the raw numbers of every optimizer step, records them, and stops a run that has gone wrong.

It stands between the backward pass and the update: a non-finite loss or gradient stops the run *before* the
weights take the damage, and the batch that did it is saved. Verdicts come from the checks of stage ``run`` over
RunFacts, the same that judge a run afterwards.
"""

from __future__ import annotations

import json
import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gogpt.checks import CHECKS
from gogpt.engines import Ranks, is_sharded, local_part, spread
from gogpt.errors import GogptError
from gogpt.facts import Facts, RunFacts, StepStats, from_json, to_json
from gogpt.findings import Finding, Severity, Stage, judge
from gogpt.plan import RunPlan

NUM_SAMPLED = 1 << 16
"""Elements of a tensor that its update norm is measured on; adapters are always measured whole."""

RUN_CHECKS = tuple(c for c in CHECKS if c.stage is Stage.RUN)


class RunStopped(GogptError):
    """The watch stopped the run. ``finding`` says why, with its numbers."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code, finding.message.format("en", finding.evidence), where=finding.where,
                         fix=finding.fix.format("en", finding.evidence), exit_code=1)
        self.finding = finding


def peak_memory() -> int:
    """Bytes: of the device's allocator on a GPU, of the resident set on the CPU, the highest so far."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


class UpdateNorm:
    """l2 norm of the change of the trainable weights in one step, from a fixed sample of large tensors.

    A tensor of n elements is measured on m = min(n, 65,536) evenly spread ones; its part of the square is scaled
    by n / m, so that the figure is exact for LoRA and an estimate for full fine-tuning, at no copy of the model. Of sharded weights,
    this process's part is measured.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        self._parameters = [p for p in parameters if p.requires_grad]
        self._scales = [max(1.0, local_part(p).numel() / NUM_SAMPLED) for p in self._parameters]
        self._before: list[torch.Tensor] = []

    def _sample(self) -> list[torch.Tensor]:
        out = []
        for p in self._parameters:
            flat = local_part(p).reshape(-1)
            step = max(1, flat.numel() // NUM_SAMPLED)
            out.append(flat[::step][:NUM_SAMPLED].float().clone())
        return out

    def before(self) -> None:
        self._before = self._sample()

    def after(self) -> float:
        """The square of the norm."""
        squares = [scale * (now - then).square().sum()
                   for now, then, scale in zip(self._sample(), self._before, self._scales, strict=True)]
        self._before = []
        return float(torch.stack([s.double() for s in squares]).sum()) if squares else 0.0


class Watch:
    """One run's observer. ``on_step`` is called with the stats of every optimizer step, after it is on disk.

    ``save_batch(batches, rank)`` writes the micro-batches of a process and returns the file; without batches it only names it.
    Of several processes all see the same numbers, those of all together; the first one writes them down.
    """

    def __init__(
        self, plan: RunPlan, metrics: Path, *, allow: Sequence[str] = (),
        on_step: Callable[[StepStats], None] | None = None, save_batch: Callable[[list[dict[str, Any]] | None, int], str] | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.metrics = metrics
        self.allow = set(allow)
        self.on_step = on_step
        self.save_batch = save_batch
        self.ranks = Ranks()
        self.interrupted = False
        """some process was asked to stop; all know it after the same step"""
        self._asked = interrupted
        self.findings: list[Finding] = []
        self.facts = RunFacts(steps_planned=plan.steps, last=None, planned_lr=None, peak_lr=plan.learning_rate,
                              world_size=plan.world_size)
        self.norm: UpdateNorm | None = None
        self.skipped = 0
        self._losses: list[torch.Tensor] = []
        self._batches: list[dict[str, Any]] = []
        self._tokens = 0
        self._trained = 0
        self._started = time.perf_counter()
        self._pending: dict[str, Any] = {}
        self._sharded = False
        self._late: str | None = None

    def start(self, model: Any) -> None:
        """Once the engine has done to the model what it does."""
        self.norm = UpdateNorm(list(model.parameters()))
        self._sharded = is_sharded(model)
        self._started = time.perf_counter()

    def recall(self, lines: Sequence[str]) -> None:
        """What a resumed run knew when it was broken off: the steps that stand in metrics.jsonl."""
        steps = [from_json(StepStats, json.loads(line)) for line in lines]
        if steps:
            self.facts = replace(self.facts, last=steps[-1], planned_lr=self.plan.lr_at(steps[-1].step),
                                 zero_losses=sum(s.loss == 0.0 for s in steps))

    def micro_batch(self, loss_sum: torch.Tensor, trained: int, tokens: int, batch: dict[str, Any]) -> None:
        """One forward pass. ``loss_sum``: the raw sum over its trained tokens, detached."""
        self._losses.append(loss_sum.detach().float())
        self._trained += trained
        self._tokens += tokens
        self._batches.append(batch)

    def before_update(self, step: int, grad_norm: float | None, lr: float) -> None:
        """After the backward pass and clipping, before the optimizer. Raises RunStopped on a non-finite value, in every process.

        DeepSpeed updates within the backward pass: there this comes before it, without a gradient norm (see ``saw_grad_norm``).
        """
        total = float(torch.stack(self._losses).double().sum()) if self._losses else 0.0
        seen = self.ranks.gather([total, self._trained, self._tokens, float(self._asked())])
        self.interrupted = self.interrupted or bool(seen[:, 3].any())
        ours = total / self._trained if self._trained else 0.0
        total, self._trained, self._tokens = float(seen[:, 0].sum()), int(seen[:, 1].sum()), int(seen[:, 2].sum())
        loss = total / self._trained if self._trained else 0.0
        bad = "loss" if not math.isfinite(loss) else "grad_norm" if grad_norm is not None and not math.isfinite(grad_norm) else None
        if bad == "grad_norm" and self.plan.precision == "fp16":
            bad = None  # the loss scaler skips such a step and lowers its scale: that is its work
        self._pending = {"loss": loss, "lr": lr, "grad_norm": grad_norm}
        if bad is not None:
            stats = self._stats(step, update_norm=0.0)
            saved = self._save_batches(bad != "loss" or not math.isfinite(ours))
            self.facts = replace(self.facts, last=stats, planned_lr=self.plan.lr_at(step), non_finite=bad, saved_batch=saved)
            self._write(stats)
            self._judge()
            self.facts = replace(self.facts, non_finite=None)
        if self.norm is not None:
            self.norm.before()

    def _save_batches(self, mine: bool) -> str | None:
        """Each process saves its rows, where they did it (of a gradient nobody knows whose it was); the first of the files."""
        if self.save_batch is None:
            return None
        if mine:
            self.save_batch(self._batches, self.ranks.rank)
        did = self.ranks.gather([float(mine)])[:, 0]
        return self.save_batch(None, int(did.argmax())) if did.any() else None

    def after_update(self, step: int, *, skipped: bool = False) -> StepStats:
        """After the optimizer. Writes the step and judges the run. Raises RunStopped."""
        update = None
        memory, seconds = peak_memory(), time.perf_counter() - self._started
        if self.norm is not None:
            told = self.ranks.gather([self.norm.after(), memory, seconds])
            memory, seconds = int(told[:, 1].max()), float(told[:, 2].max())
            update = math.sqrt(told[:, 0].sum() if self._sharded else told[0, 0])
            if self.ranks.size > 1 and not self._sharded:
                self.facts = replace(self.facts, rank_spread=spread(told[:, 0]))
        planned = self.plan.lr_at(step - self.skipped)
        self.skipped += skipped
        stats = replace(self._stats(step, update_norm=update), memory=memory, seconds=seconds)
        still = self.facts.still_steps + 1 if update == 0.0 and stats.lr > 0 and not skipped else 0
        self.facts = replace(
            self.facts, last=stats, planned_lr=planned, still_steps=still,
            skipped_steps=self.facts.skipped_steps + 1 if skipped else 0,
            zero_losses=self.facts.zero_losses + (stats.loss == 0.0),
            non_finite="update_norm" if update is not None and not math.isfinite(update) else self._late,
        )
        self._late = None
        self._write(stats)
        self._losses, self._batches, self._tokens, self._trained = [], [], 0, 0
        self._started = time.perf_counter()
        self._judge()
        if self.on_step is not None and self.ranks.main:
            self.on_step(stats)
        return stats

    def saw_grad_norm(self, grad_norm: float | None) -> None:
        """The norm of a step that the engine has already taken (DeepSpeed)."""
        self._pending["grad_norm"] = grad_norm
        if grad_norm is not None and not math.isfinite(grad_norm) and self.plan.precision != "fp16":
            self._late = "grad_norm"

    def evaluated(self, loss: float) -> None:
        """A loss on held-out examples. Raises RunStopped where it is not finite: the weights are ruined."""
        if not math.isfinite(loss):
            self.facts = replace(self.facts, non_finite="evaluation loss")
            self._judge()

    def _stats(self, step: int, *, update_norm: float | None) -> StepStats:
        return StepStats(step=step, trained_tokens=self._trained, tokens=self._tokens, update_norm=update_norm,
                         seconds=time.perf_counter() - self._started, memory=peak_memory(), **self._pending)

    def _write(self, stats: StepStats) -> None:
        if not self.ranks.main:
            return
        # NaN and infinity become strings, so that every line stays valid JSON.
        with self.metrics.open("a", encoding="utf-8") as f:
            f.write(json.dumps(to_json(stats)) + "\n")

    def _judge(self) -> None:
        for finding in judge(RUN_CHECKS, Facts(run=self.facts)).findings:
            if finding.code not in {f.code for f in self.findings}:
                self.findings.append(finding)
            if finding.severity is Severity.ERROR and finding.code not in self.allow:
                raise RunStopped(finding)
