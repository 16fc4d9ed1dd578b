"""What a run left behind, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFacts:
    """What a run left behind, read by ``autopsy``: whoever trained it. Steps are those of the optimizer; None: not known.

    Losses and rates are as logged: often means over ``logging_steps`` steps, rounded, and behind a filter that hides NaN.
    """

    path: str
    tool: str
    """Trainer, TRL, LLaMA-Factory, Axolotl, ms-swift, DeepSpeed, TensorBoard, GoGPT, log"""
    num_records: int = 0
    """logged records with a loss or a learning rate"""
    first_step: int | None = None
    last_step: int | None = None
    steps_from: str = "step"
    """step, counter (a progress bar), epoch, or lines: the records were only counted"""
    last_epoch: float | None = None
    steps_planned: int | None = None
    planned_from: str | None = None
    """command line, max_steps, settings, progress bar, plan.json, or epoch counter (then as exact as it is rounded)"""
    epochs_planned: float | None = None
    """only where the run was asked for by epochs"""
    finished: bool = False
    """a summary of the whole training was logged"""
    world_size: int | None = None
    precision: str | None = None
    accumulation: int | None = None
    vocab_size: int | None = None
    best_kept: bool = False
    """the checkpoint with the lowest evaluation loss is noted"""
    # -- loss
    num_losses: int = 0
    first_loss: float | None = None
    """of the first record, at ``first_loss_step``"""
    first_loss_step: int | None = None
    early_loss: float | None = None
    """median of the first tenth of the records (at least 3)"""
    late_loss: float | None = None
    """median of the last tenth (at least 3)"""
    lowest_loss: float | None = None
    """the lowest running median of five"""
    loss_spread: float | None = None
    """(highest - lowest) / mean"""
    non_finite: str | None = None
    """loss, evaluation loss or grad_norm: what was printed as nan or inf, without a loss of 0 beside it"""
    non_finite_step: int | None = None
    non_finite_count: int = 0
    zero_losses: int = 0
    zero_step: int | None = None
    """first record whose loss is exactly 0"""
    zero_place: str | None = None
    """its file:line, in a log"""
    zero_grad: str | None = None
    """gradient norms beside losses of 0: nan, zero, positive, or none where none is logged"""
    zero_grad_norm: float | None = None
    zero_tail: int = 0
    """records at the end whose loss is exactly 0"""
    before_zero: float | None = None
    """last loss above 0 before the first of 0"""
    # -- learning rate
    num_rates: int = 0
    peak_lr: float | None = None
    last_lr: float | None = None
    lr_mechanism: str | None = None
    """diagnosis.Mechanism, or ends_early, other_schedule, all_zero; None: nothing is wrong with it, or it is not known"""
    lr_evidence: Mapping[str, Any] = field(default_factory=dict)
    # -- gradient, evaluation, skipped steps
    num_grad_norms: int = 0
    zero_grad_norms: int = 0
    num_evals: int = 0
    last_eval: float | None = None
    lowest_eval: float | None = None
    lowest_eval_step: int | None = None
    evals_after_lowest: int = 0
    loss_at_lowest_eval: float | None = None
    """training loss (median) around the lowest evaluation loss"""
    skipped_steps: int | None = None
    """steps that the fp16 loss scaler skipped; None: not logged"""
    skipped_late: int = 0
    """of them, those after the first 30 steps, in which the scale is found"""
    steps_seen: int | None = None
    """steps that skipped_steps is counted among"""
    # -- checkpoint
    checkpoint: str | None = None
    """the newest"""
    checkpoint_missing: tuple[str, ...] = ()
    """optimizer, scheduler: what resuming needs and is not there"""
    empty_files: tuple[str, ...] = ()
    """weight files of 0 bytes, or safetensors whose tensors hold nothing"""
    shard_ranks: int = 0
    """ZeRO shards of optimizer state: one a process"""
    missing_ranks: tuple[int, ...] = ()
    zero_stage: int | None = None
    consolidated: bool = True
    """whole weights lie beside the shards"""
    latest_missing: str | None = None
    """what the file ``latest`` names and is not there"""
