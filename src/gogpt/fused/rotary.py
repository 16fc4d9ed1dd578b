"""Rotary position embedding (Su et al. 2021) of halves: ``y = x cos + rotate(x) sin``, where ``rotate`` maps halves ``(a, b)`` to ``(-b, a)``.

Its transpose is the gradient: ``dx = g cos + (right, -left) of g sin``. Nothing is saved but cos and sin, and nothing is cut out and put together again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool) -> torch.Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    left, right = x[..., :half], x[..., half:]
    if back:
        out[..., :half].addcmul_(right, sin[..., half:])
        out[..., half:].addcmul_(left, sin[..., :half], value=-1)
    else:
        out[..., :half].addcmul_(right, sin[..., :half], value=-1)
        out[..., half:].addcmul_(left, sin[..., half:])
    return out


class _Rotary(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(cos, sin)
        return _turn(q, cos, sin, back=False), _turn(k, cos, sin, back=False)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        return *(_turn(g, cos, sin, back=True) if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=False)), None, None


def rotary_in_place_of(own: Callable[..., Any]) -> Callable[..., Any]:
    """``apply_rotary_pos_emb`` of a modelling file; what is asked for otherwise than q, k, cos, sin goes to ``own``."""

    def apply_rotary_pos_emb(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1, **more: Any) -> Any:
        same = q.dtype == k.dtype == cos.dtype == sin.dtype and q.shape[-1] == k.shape[-1] == cos.shape[-1] == sin.shape[-1]
        if more or not same or q.shape[-1] % 2 or cos.requires_grad or sin.requires_grad:
            return own(q, k, cos, sin, unsqueeze_dim=unsqueeze_dim, **more)
        return _Rotary.apply(q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim))

    return apply_rotary_pos_emb
