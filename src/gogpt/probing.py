"""What the proofs work on: a few short rows of the run's own, and the model's losses and logits for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gogpt import loss as loss_path
from gogpt.data.store import ExampleSet
from gogpt.preflight import Preflight
from gogpt.records import IGNORE_INDEX, Example
from gogpt.trainer import GogptTrainer, collate_rows

WORK = 1.75e10
"""Parameters x tokens of one pass of a proof: 130 tokens of 135 million parameters, which is about a second on two cores."""
LEAST, MOST = 48, 512
NUM_ROWS = 4


class NotProven(Exception):
    """A proof cannot be made here; the text says why."""


def row_limit(parameters: int) -> int:
    """Tokens that one pass of a proof may have."""
    return int(min(MOST, max(LEAST, WORK // max(1, parameters))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """``rows``: a few short examples; ``limit``: tokens that one pass may have."""

    trainer: GogptTrainer
    before: Preflight
    rows: tuple[Example, ...]
    limit: int

    @property
    def model(self) -> Any:
        return self.trainer.model

    def batch(self, rows: Sequence[Sequence[Example]]) -> dict[str, Any]:
        """Rows of documents as the trainer makes batches of them, on its device."""
        made = collate_rows(self.before.pad_id, across=self.before.plan.across_documents)(rows)
        device = self.trainer.args.device
        return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in made.items()}

    def logits(self, rows: Sequence[Sequence[Example]]) -> torch.Tensor:
        """``[B, T, V]`` in float32, with the mask and the precision of training."""
        batch = self.batch(rows)
        self.model.eval()
        with torch.no_grad(), self.trainer.compute_loss_context_manager():
            inputs = loss_path.model_inputs(self.model, batch, self.trainer._mask_dtype(self.model))
            return self.model(**inputs).logits.float()  # type: ignore[no-any-return]

    def token_losses(self, rows: Sequence[Sequence[Example]]) -> list[torch.Tensor]:
        """For each row the cross-entropy of its trained tokens, computed plainly: no positions chosen, nothing summed."""
        batch = self.batch(rows)
        logits = self.logits(rows)[:, :-1]
        targets = batch["labels"][:, 1:]
        each = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORE_INDEX, reduction="none")
        return [row[wanted] for row, wanted in zip(each, targets != IGNORE_INDEX, strict=True)]

    def mean_loss(self, rows: Sequence[Example]) -> tuple[float, int]:
        """Mean over all trained tokens of the rows, and their number."""
        losses = torch.cat(self.token_losses([[row] for row in rows]))
        return float(losses.double().mean()), int(losses.numel())


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
    return tuple(r for r in rows if r.num_trained) or tuple(rows[:1])


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
