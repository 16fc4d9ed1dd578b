"""Steps of a run, and how it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """One optimizer step. ``loss`` is the raw mean over the trained tokens of the whole step, before any filter.

    ``lr`` is the learning rate that the step used. ``update_norm`` is the l2 norm of the change of the
    trainable parameters (from a fixed sample of the elements of large tensors). ``seconds`` is wall time without
    evaluating and saving, ``memory`` the peak so far in bytes (of the device, or resident set on CPU).
    """

    step: int
    loss: float
    lr: float
    grad_norm: float | None
    trained_tokens: int
    tokens: int
    update_norm: float | None
    seconds: float
    memory: int
    computed: int | None = None
    """tokens that were computed for ``tokens``: fewer where common prefixes are shared; None: not counted"""
    memory_now: int = 0
    """bytes in use after the step; 0: not measured"""
    one_label: float | None = None
    """share of the most frequent id among the trained tokens, where it is at least 0.9; 0 where it is less; None: not counted"""
    skipped: bool = False
    """the fp16 loss scaler left the update out"""
    rolled_back: bool = False
    """the step is passed over after a rollback: nothing was trained; the numbers are those of the attempt that was undone"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVitals:
    """Figures over the course of a run so far (vitals.py), from which the checks RUN650 to RUN659 judge. Medians are over windows of
    steps; ``_steps`` counts steps in a row up to the last one. None: not enough steps yet."""

    loss_start: float | None = None
    """median loss of the first 3 steps"""
    loss_best: float | None = None
    """lowest median loss of 3 steps in a row"""
    loss_noise: float | None = None
    """90th percentile of |difference| between neighbouring steps"""
    loss_limit: float | None = None
    """above it a loss is raised: best + (start - best) / 2 + max(1, 3 x noise), or 1.25 times the highest of the last 32 that were not raised"""
    loss_now: float | None = None
    """median loss of the last 8 steps"""
    loss_uniform: float | None = None
    """loss of guessing every token of the vocabulary alike: ln(vocabulary size)"""
    raised_steps: int = 0
    """steps in a row whose loss is above the limit"""
    guessing_steps: int = 0
    """steps in a row whose loss is above 1.2 times loss_uniform, and by 1 above the lowest"""
    raised_since: int | None = None
    recovering: bool = False
    """the later half of the last 8 losses has lost a quarter of what they stand above the best"""
    spikes: int = 0
    """times that the loss was raised for 4 steps or more and came back"""
    spike_step: int | None = None
    """first raised step of the last spike"""
    spike_loss: float | None = None
    """highest loss of it"""
    begin_loss: float | None = None
    """mean loss of the first 32 steps"""
    begin_now: float | None = None
    """mean loss of the last 32 steps, 128 and 256 steps after the warm-up"""
    begin_gain: float | None = None
    """the most that the loss can have fallen between the two: difference + 3 standard errors"""
    begin_steps: int = 0
    """steps since the warm-up"""
    grad_early: float | None = None
    """median gradient norm of the first 16 steps"""
    grad_usual: float | None = None
    """median gradient norm of the last 64 steps that were not exploding"""
    grad_now: float | None = None
    """median gradient norm of the last 8 steps"""
    exploding_steps: int = 0
    vanishing_steps: int = 0
    skips: int = 0
    """steps that the fp16 loss scaler skipped, of all steps after the first 20"""
    skips_recent: int = 0
    """of the last 64 of them"""
    skips_of: int = 0
    """how many the last 64 are"""
    skips_in_row: int = 0
    rate_usual: float | None = None
    """median tokens per second of the last 64 steps that were not slow, the first 10 left out"""
    rate_now: float | None = None
    """median tokens per second of the slow steps in a row"""
    slow_steps: int = 0
    tokens_usual: float | None = None
    """median tokens per step of the steps of rate_usual"""
    tokens_slow: float | None = None
    """and of the slow ones"""
    memory_blocks: tuple[int, ...] = ()
    """median bytes in use of the last 8 blocks of 10 steps, the first two blocks left out"""
    memory_tokens: tuple[float, ...] = ()
    """median tokens per step of those blocks"""
    tiny_steps: int = 0
    """steps in a row with a loss above 0 and below 0.01, while every row is seen for the first time"""
    epoch_steps: int | None = None
    """steps of one epoch; None: not known (a stream)"""
    one_label_steps: int = 0
    """steps in a row of 8 or more trained tokens of which 99% are one and the same id"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """How the run went. ``planned_lr`` is the plan's learning rate of the last step recorded."""

    steps_planned: int
    last: StepStats | None
    planned_lr: float | None
    peak_lr: float
    zero_losses: int = 0
    """steps so far whose loss was exactly 0.0"""
    still_steps: int = 0
    """steps so far in a row, with a learning rate above 0, after which no trainable weight had moved"""
    skipped_steps: int = 0
    """steps so far in a row that the fp16 loss scaler skipped"""
    non_finite: str | None = None
    """what was not finite in the last step: loss, grad_norm, update_norm, evaluation loss, or None"""
    saved_batch: str | None = None
    world_size: int = 1
    rank_spread: float = 0.0
    """of several processes that each hold all weights: the largest relative difference between their gradient norms, or the squares of
    their update norms"""
    vitals: RunVitals = RunVitals()
    lr_mechanism: str | None = None
    """why the learning rate of the last step is off the plan (``diagnosis.Mechanism``); None: it is not, or nobody looked"""
    lr_evidence: Mapping[str, Any] = field(default_factory=dict)
    lr_also: tuple[str, ...] = ()
    """other mechanisms that fit as well"""
