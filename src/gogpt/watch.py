"""The watch: sees the raw numbers of every optimizer step, records them, and stops a run that has gone wrong.

It stands between the backward pass and the update: a non-finite loss or gradient stops the run *before* the
weights take the damage, and the batch that did it is saved. Verdicts come from the checks of stage ``run`` over
RunFacts, the same that judge a run afterwards.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from gogpt.checks import CHECKS
from gogpt.diagnosis import PlannedRates, first_off
from gogpt.engines import Ranks, is_sharded, local_part, spread
from gogpt.errors import GogptError
from gogpt.facts import Facts, RunFacts, StepStats, from_json, to_json
from gogpt.findings import Finding, Severity, Stage, judge
from gogpt.plan import RunPlan
from gogpt.records import IGNORE_INDEX
from gogpt.vitals import Vitals

NUM_SAMPLED = 1 << 16
"""Elements of a tensor that its update norm is measured on; adapters are always measured whole."""

RATE_TOLERANCE = 1e-6
"""Of the peak: as RUN602 has it."""

RUN_CHECKS = tuple(c for c in CHECKS if c.stage is Stage.RUN)

ACTIONS = {Severity.ERROR: "stop", Severity.WARNING: "warn", Severity.INFO: "record"}
"""What a finding does where checks.policy does not name its code."""

MANY_ALIKE = 0.9
"""Share of one id among the trained tokens of a micro-batch from which on it is counted."""


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


def memory_now() -> int:
    """Bytes in use now: allocated on a GPU, resident on the CPU."""
    return int(torch.cuda.memory_allocated()) if torch.cuda.is_available() else int(psutil.Process().memory_info().rss)


def most_frequent(batch: Mapping[str, Any]) -> tuple[int, int, int]:
    """Of the trained tokens of a micro-batch: the most frequent id (-1: none is trained), how often it is trained, and how many there are."""
    if "targets" in batch:
        trained, weights = batch["targets"], batch["weights"]
    else:
        targets = batch["labels"][:, 1:]
        trained = targets[targets != IGNORE_INDEX]
        weights = torch.ones_like(trained)
    if not trained.numel():
        return -1, 0, 0
    counts = torch.bincount(trained, weights.double())
    top = int(counts.argmax())
    return top, int(counts[top]), int(weights.sum())


@dataclass(slots=True)
class Told:
    """A finding as last seen, and when: ``times`` it began, ``steps`` it lasted."""

    finding: Finding
    action: str
    first: int
    last: int
    times: int = 1
    steps: int = 1


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
        policy: Mapping[str, str] | None = None, note: Callable[[str], None] | None = None, vocab_size: int | None = None, lang: str = "en",
    ) -> None:
        """``policy``: code -> stop, warn or record; ``allow``: codes that do not stop. ``note`` is told of a warning, once a code."""
        self.plan = plan
        self.metrics = metrics
        self.allow = set(allow)
        self.policy = dict(policy or {})
        self.note, self._lang = note, lang
        self.vitals = Vitals(warmup_steps=plan.warmup_steps, vocab_size=vocab_size,
                             epoch_steps=None if plan.streaming else plan.num_rows // plan.batch_size)
        self._told: dict[str, Told] = {}
        self.on_step = on_step
        self.save_batch = save_batch
        self.ranks = Ranks()
        self.interrupted = False
        """some process was asked to stop; all know it after the same step"""
        self._asked = interrupted
        self.facts = RunFacts(steps_planned=plan.steps, last=None, planned_lr=None, peak_lr=plan.learning_rate,
                              world_size=plan.world_size)
        self.norm: UpdateNorm | None = None
        self.skipped = 0
        self.rates: list[tuple[int, float]] = []
        """(position in the plan, learning rate) of each step of this process"""
        self._losses: list[torch.Tensor] = []
        self._batches: list[dict[str, Any]] = []
        self._labels: list[tuple[int, int, int]] = []
        self._tokens = 0
        self._computed = 0
        self._trained = 0
        self._started = time.perf_counter()
        self._pending: dict[str, Any] = {}
        self._sharded = False
        self._late: str | None = None
        self.moved = False
        """some step has moved the weights"""

    def start(self, model: Any) -> None:
        """Once the engine has done to the model what it does."""
        self.norm = UpdateNorm(list(model.parameters()))
        self._sharded = is_sharded(model)
        self._started = time.perf_counter()

    def recall(self, lines: Sequence[str]) -> None:
        """What a resumed run knew when it was broken off: the steps that stand in metrics.jsonl."""
        for stats in (from_json(StepStats, json.loads(line)) for line in lines):
            if stats.rolled_back:
                continue
            planned = self.plan.lr_at(stats.step - self.skipped)
            self.skipped += stats.skipped
            self.moved = self.moved or bool(stats.update_norm)
            self.facts = replace(self.facts, last=stats, planned_lr=planned, vitals=self.vitals.see(stats),
                                 zero_losses=self.facts.zero_losses + (stats.loss == 0.0))
            # What was told then still belongs to the run; what would have stopped it did not happen in these steps.
            for finding in judge(RUN_CHECKS, Facts(run=self.facts)).findings:
                if self.action(finding) != "stop":
                    self._tell(finding, self.action(finding), aloud=False)

    def micro_batch(self, loss_sum: torch.Tensor, trained: int, tokens: int, computed: int, batch: dict[str, Any]) -> None:
        """One forward pass. ``loss_sum``: the raw sum over its trained tokens, detached. ``tokens``: of its examples, of which ``computed`` were."""
        self._losses.append(loss_sum.detach().float())
        self._trained += trained
        self._tokens += tokens
        self._computed += computed
        self._batches.append(batch)
        self._labels.append(most_frequent(batch))

    def before_update(self, step: int, grad_norm: float | None, lr: float) -> None:
        """After the backward pass and clipping, before the optimizer. Raises RunStopped on a non-finite value, in every process.

        DeepSpeed updates within the backward pass: there this comes before it, without a gradient norm (see ``saw_grad_norm``).
        """
        total = float(torch.stack(self._losses).double().sum()) if self._losses else 0.0
        seen = self.ranks.gather([total, self._trained, self._tokens, float(self._asked()), self._computed, *self._labels_of_all()])
        self._labels = [(int(top), int(count), int(of)) for top, count, of in seen[:, 5:]]
        self._computed = int(seen[:, 4].sum())
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
            told = self.ranks.gather([self.norm.after(), memory, seconds, memory_now() if self.ranks.size > 1 else 0.0, self._pending["grad_norm"] or 0.0])
            memory, seconds = int(told[:, 1].max()), float(told[:, 2].max())
            update = math.sqrt(told[:, 0].sum() if self._sharded else told[0, 0])
            if self.ranks.size > 1 and not self._sharded:
                self.facts = replace(self.facts, rank_spread=max(spread(told[:, 0]), spread(told[:, 4])))
        self.moved = self.moved or bool(update)
        position = step - self.skipped
        planned = self.plan.lr_at(position)
        self.skipped += skipped
        stats = replace(self._stats(step, update_norm=update), memory=memory, seconds=seconds, skipped=skipped)
        if self.ranks.size > 1:  # what is judged must be the same in every process, or some would stop and others wait for them
            stats = replace(stats, memory_now=int(told[:, 3].max()))
        still = self.facts.still_steps + 1 if update == 0.0 and stats.lr > 0 and not skipped else 0
        self.facts = replace(
            self.facts, last=stats, planned_lr=planned, still_steps=still,
            skipped_steps=self.facts.skipped_steps + 1 if skipped else 0,
            zero_losses=self.facts.zero_losses + (stats.loss == 0.0),
            non_finite="update_norm" if update is not None and not math.isfinite(update) else self._late,
            vitals=self.vitals.see(stats),
        )
        self._late = None
        self._explain_rate(stats, position)
        self._write(stats)
        self._next()
        self._judge()
        if self.on_step is not None and self.ranks.main:
            self.on_step(stats)
        return stats

    def _explain_rate(self, stats: StepStats, position: int) -> None:
        """The likeliest mechanism where the rate of this step is off the plan, in which skipped steps are not counted."""
        self.rates.append((position, stats.lr))
        if abs(stats.lr - self.plan.lr_at(position)) <= RATE_TOLERANCE * self.plan.learning_rate:
            return
        rates = PlannedRates(rate=self.plan.lr_at, steps=self.plan.steps, warmup_steps=self.plan.warmup_steps, world_size=self.plan.world_size)
        found = first_off(self.rates, rates, resumed_at=self.rates[0][0])
        self.facts = replace(self.facts, lr_mechanism=found.mechanism, lr_evidence={**found.evidence, "first_off": stats.step}, lr_also=found.also)

    def saw_grad_norm(self, grad_norm: float | None) -> None:
        """The norm of a step that the engine has already taken (DeepSpeed)."""
        self._pending["grad_norm"] = grad_norm
        if grad_norm is not None and not math.isfinite(grad_norm) and self.plan.precision != "fp16":
            self._late = "grad_norm"

    def _next(self) -> None:
        self._losses, self._batches, self._labels, self._tokens, self._computed, self._trained = [], [], [], 0, 0, 0
        self._started = time.perf_counter()

    def pass_over(self, step: int, lr: float, undone: Mapping[str, Any] | None) -> None:
        """A step that trains nothing after a rollback. Its line holds the loss and gradient norm that were undone, where they are known."""
        seen = from_json(StepStats, undone) if undone else None
        stats = StepStats(step=step, loss=seen.loss if seen else math.nan, lr=lr, grad_norm=seen.grad_norm if seen else None, trained_tokens=0,
                          tokens=0, update_norm=0.0, seconds=0.0, memory=peak_memory(), memory_now=memory_now(), rolled_back=True)
        self._write(stats)
        self._next()
        if self.on_step is not None:
            self.on_step(stats)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """What is done between steps (evaluating, saving) is no part of the next one's time."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - began

    def evaluated(self, loss: float) -> None:
        """A loss on held-out examples. Raises RunStopped where it is not finite: the weights are ruined."""
        if not math.isfinite(loss):
            self.facts = replace(self.facts, non_finite="evaluation loss")
            self._judge()

    def _stats(self, step: int, *, update_norm: float | None) -> StepStats:
        return StepStats(step=step, trained_tokens=self._trained, tokens=self._tokens, computed=self._computed, update_norm=update_norm,
                         seconds=time.perf_counter() - self._started, memory=peak_memory(), memory_now=memory_now(),
                         one_label=self._one_label(), **self._pending)

    def _labels_of_all(self) -> tuple[int, int, int]:
        """The micro-batches of this process as one: the id that stands out in all of them, how often, and of how many; 0 times where none does."""
        counted = [part for part in self._labels if part[2]]
        if not counted:
            return -1, 0, 0
        alike = len({top for top, _, _ in counted}) == 1 and all(count >= MANY_ALIKE * of for _, count, of in counted)
        return counted[0][0], sum(count for _, count, _ in counted) if alike else 0, sum(of for _, _, of in counted)

    def _one_label(self) -> float | None:
        """Share of one id among the trained tokens of the step: 0 where micro-batches differ, or none stands out."""
        counted = [part for part in self._labels if part[2]]
        if not counted:
            return None
        alike = len({top for top, _, _ in counted}) == 1 and all(count >= MANY_ALIKE * of for _, count, of in counted)
        return sum(count for _, count, _ in counted) / sum(of for _, _, of in counted) if alike else 0.0

    def _write(self, stats: StepStats) -> None:
        if not self.ranks.main:
            return
        # NaN and infinity become strings, so that every line stays valid JSON.
        with self.metrics.open("a", encoding="utf-8") as f:
            f.write(json.dumps(to_json(stats)) + "\n")

    def _judge(self) -> None:
        for finding in judge(RUN_CHECKS, Facts(run=self.facts)).findings:
            action = self.action(finding)
            self._tell(finding, action)
            if action == "stop":
                raise RunStopped(finding)

    def action(self, finding: Finding) -> str:
        """stop, warn or record: what the policy says of the code, else its severity. What checks.allow names does not stop."""
        action = self.policy.get(finding.code, ACTIONS[finding.severity])
        return "warn" if action == "stop" and finding.code in self.allow else action

    def _tell(self, finding: Finding, action: str, *, aloud: bool = True) -> None:
        step = self.facts.last.step if self.facts.last else 0
        told = self._told.get(finding.code)
        if told is None:
            self._told[finding.code] = Told(finding, action, step, step)
            if action == "warn" and aloud and self.note is not None:
                self.note(f"{finding.code}: {finding.message.format(self._lang, finding.evidence)}\n  {finding.fix.format(self._lang, finding.evidence)}")
            return
        told.times += step > told.last + 1
        told.steps += step > told.last
        told.finding, told.last = finding, step

    @property
    def findings(self) -> list[Finding]:
        """Each code once, with its last numbers; of one that was told at several steps, since when and how often."""
        return [replace(t.finding, evidence={**t.finding.evidence, "first_step": t.first, "last_step": t.last, "times": t.times, "steps": t.steps})
                if t.steps > 1 else t.finding for t in self._told.values()]

    def warned(self) -> list[Told]:
        """What was told while training and went on for more than the step at which it was told."""
        return [t for t in self._told.values() if t.action == "warn" and t.steps > 1]
