"""The loss on trained positions only."""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F

from gogpt.engines import unwrapped
from gogpt.model import forward_inputs
from gogpt.records import IGNORE_INDEX


def base_of(model: Any) -> Any:
    """The transformers model inside an engine's wrapper and an adapter."""
    inner = unwrapped(model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def takes_positions(model: Any) -> bool:
    """Whether the model's head can be run on chosen positions (``logits_to_keep`` of transformers)."""
    base = base_of(model)
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def summed_loss(model: Any, batch: dict[str, torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    """Sum of the cross-entropy over the trained tokens of a micro-batch, in float32, and their number.

    ``labels`` ``[B, T]`` are unshifted: position t predicts ``labels[t + 1]``. The head runs only on positions at
    which some row predicts a trained token, so that logits are ``[B, K, V]`` with K well below T. Without any
    trained token the sum is 0 and still has a gradient.
    """
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORE_INDEX
    count = int(wanted.sum())
    base = base_of(model)
    inputs = forward_inputs(batch, dtype, getattr(base.config, "_attn_implementation", None))
    columns = wanted.any(dim=0).nonzero().flatten()
    if takes_positions(model) and 0 < columns.numel() < targets.shape[1]:
        logits = model(**inputs, logits_to_keep=columns).logits
        targets, wanted = targets[:, columns], wanted[:, columns]
    else:
        logits = model(**inputs).logits[:, :-1]
    loss = F.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")
    return loss, count
