"""What the proofs work on: a few short rows of the run's own, the model's losses and logits for them; and that nothing of it stays."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gogpt import loss as loss_path
from gogpt.batches import collate_rows
from gogpt.data.store import ExampleSet
from gogpt.preflight import Preflight
from gogpt.records import IGNORE_INDEX, Example
from gogpt.trainer import GogptTrainer

WORK = 1.75e10
"""Parameters x tokens of one pass of a proof: 130 tokens of 135 million parameters, which is about a second on two cores."""
LEAST, MOST = 48, 512
NUM_ROWS = 4
TOLERANCES = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 2e-2}
"""Relative. Measured: docs/checks/MOD521.md and MOD522.md."""


class NotProven(Exception):
    """A proof cannot be made here; the text says why."""


def row_limit(parameters: int) -> int:
    """Tokens that one pass of a proof may have."""
    return int(min(MOST, max(LEAST, WORK // max(1, parameters))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A backward pass: its loss (None: the loss has no gradient), and the ids of the tensors whose module ran."""

    loss: float | None
    ran: frozenset[int]


@dataclass(slots=True, kw_only=True)
class Probe:
    """``rows``: a few short examples, not all of as many trained tokens; ``limit``: tokens that one pass may have.

    ``apart``: the last backward pass over the rows one by one, while its gradients are in the tensors.
    """

    trainer: GogptTrainer
    before: Preflight
    rows: tuple[Example, ...]
    limit: int
    apart: Pass | None = None
    _losses: list[torch.Tensor] | None = None

    @property
    def model(self) -> Any:
        return self.trainer.model

    @property
    def tolerance(self) -> float:
        """Relative, by the coarsest of the precision and of the weights."""
        kinds = {p.dtype for p in self.model.parameters()}
        names = [self.before.plan.precision, *(name for name, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16)) if kind in kinds)]
        return max(TOLERANCES[name] for name in names)

    def batch(self, rows: Sequence[Sequence[Example]]) -> dict[str, Any]:
        """Rows of documents as the trainer makes batches of them, on its device."""
        return self.on_device(collate_rows(self.before.pad_id, across=self.before.plan.across_documents)(rows))

    def on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {k: v.to(self.trainer.args.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def logits(self, rows: Sequence[Sequence[Example]]) -> torch.Tensor:
        """``[B, T, V]`` in float32, with the mask and the precision of training."""
        return self.logits_of(self.batch(rows))

    def logits_of(self, batch: dict[str, Any]) -> torch.Tensor:
        self.model.eval()
        with torch.no_grad(), self.trainer.compute_loss_context_manager():
            inputs = loss_path.model_inputs(self.model, batch, self.trainer._mask_dtype(self.model))
            return self.model(**inputs).logits.float()  # type: ignore[no-any-return]

    def token_losses(self, rows: Sequence[Sequence[Example]]) -> list[torch.Tensor]:
        """For each row the cross-entropy of its trained tokens, computed plainly: no positions chosen, nothing summed."""
        batch = self.batch(rows)
        logits = self.logits(rows)[:, :-1]
        targets = batch["labels"][:, 1:]
        # Of chosen rows: over a transposed view the sum over the vocabulary is off by 1e-4.
        return [F.cross_entropy(row[wanted], target[wanted], reduction="none")
                for row, target, wanted in zip(logits, targets, targets != IGNORE_INDEX, strict=True)]

    def losses_before(self) -> list[torch.Tensor]:
        """``token_losses`` of the rows, of the model as it was given."""
        if self._losses is None:
            self._losses = self.token_losses([[row] for row in self.rows])
        return self._losses


def pick_rows(examples: ExampleSet, limit: int, count: int = NUM_ROWS) -> tuple[Example, ...]:
    """Up to ``count`` examples of at most ``limit`` tokens together, spread over the lengths that fit; where fewer than two fit, the
    shortest ones, cut around where they begin to be trained."""
    room = limit // count
    lengths = examples.lengths
    fit = np.nonzero(lengths <= room)[0]
    fit = fit[np.argsort(lengths[fit], kind="stable")]
    if fit.size < 2:
        fit = np.argsort(lengths, kind="stable")[:count]
    chosen = dict.fromkeys(int(fit[round(i * (fit.size - 1) / max(1, count - 1))]) for i in range(count))
    rows = [cut(examples[i], room) for i in chosen]
    return uneven([r for r in rows if r.num_trained] or rows[:1])


def uneven(rows: Sequence[Example]) -> tuple[Example, ...]:
    """At least two rows, not all of as many trained tokens: a mean of means differs from the mean over tokens only then."""
    some = list(rows) if len(rows) > 1 else [rows[0], rows[0]]
    if len({row.num_trained for row in some}) == 1:
        labels = some[0].labels.copy()
        trained = np.nonzero(labels != IGNORE_INDEX)[0]
        labels[trained[max(1, trained.size // 2):]] = IGNORE_INDEX
        some[0] = replace(some[0], labels=labels)
    return tuple(some)


def cut(example: Example, room: int) -> Example:
    """The example, or ``room`` tokens of it of which about half stand before the first trained one."""
    if example.num_tokens <= room:
        return example
    trained = np.nonzero(example.labels != IGNORE_INDEX)[0]
    first = int(trained[0]) if trained.size else 0
    start = max(0, min(first - room // 2, example.num_tokens - room))
    labels = example.labels[start : start + room].copy()
    labels[0] = IGNORE_INDEX
    return replace(example, input_ids=example.input_ids[start : start + room], labels=labels)


# -- nothing stays ---------------------------------------------------------------------------------


class _Unwatched:
    """In the watch's place: the micro-batches of a proof are no part of the run."""

    def micro_batch(self, *args: Any) -> None: ...


@contextlib.contextmanager
def untouched(trainer: GogptTrainer) -> Iterator[None]:
    """Whatever is done to the model inside, it comes out as it went in: modes, gradients, random numbers, optimizer, watch.

    Weights are put back by the one proof that moves them. Inside, modules drop nothing out, and activations are checkpointed where
    the run will do so.
    """
    model: Any = trainer.model
    modes = [(module, module.training) for module in model.modules()]
    cached = model.config.use_cache
    watch, optimizer = trainer.watch, trainer.optimizer
    trainer.watch = _Unwatched()  # type: ignore[assignment]
    states = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices), _nothing_dropped(model), _checkpointed(trainer), _before_deepspeed(trainer):
            yield
    finally:
        trainer.watch, trainer.optimizer = watch, optimizer
        model.zero_grad(set_to_none=True)
        model.config.use_cache = cached
        for module, mode in modes:
            module.training = mode
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextlib.contextmanager
def _before_deepspeed(trainer: Any) -> Iterator[None]:
    """Its engine is not there yet: the model is a plain one, whose backward pass updates nothing."""
    if not trainer.is_deepspeed_enabled:
        yield
        return
    before = trainer.accelerator.backward
    trainer.is_deepspeed_enabled, trainer.accelerator.backward = False, lambda loss, **kwargs: loss.backward()
    try:
        yield
    finally:
        trainer.is_deepspeed_enabled, trainer.accelerator.backward = True, before


@contextlib.contextmanager
def _nothing_dropped(model: Any) -> Iterator[None]:
    """Dropout of probability 0 everywhere: modules, and numbers that layers hand to functions."""
    saved: list[tuple[Any, str, float]] = []
    for module in model.modules():
        names = ["p"] if isinstance(module, torch.nn.modules.dropout._DropoutNd) else [n for n in vars(module) if "drop" in n]
        saved += [(module, n, value) for n in names if isinstance(value := getattr(module, n), float)]
    for module, name, _ in saved:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in saved:
            setattr(module, name, value)


@contextlib.contextmanager
def _checkpointed(trainer: GogptTrainer) -> Iterator[None]:
    """Activations checkpointed as the Trainer will ask for it."""
    args, model = trainer.args, trainer.model
    name = "activation_checkpointing" if hasattr(args, "activation_checkpointing") else "gradient_checkpointing"
    if not getattr(args, name):
        yield
        return
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": dict(getattr(args, f"{name}_kwargs") or {}) or None})
    try:
        yield
    finally:
        getattr(model, f"{name}_disable")()
