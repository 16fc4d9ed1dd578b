"""RMS norm: what is saved is its input and one number a row; what it gave is computed again where a gradient needs it.

``y = w x / rms(x)`` with ``rms(x) = sqrt(mean(x^2) + eps)`` (Zhang & Sennrich 2019), or with ``1 + w`` for ``w`` (Gemma). With ``r = 1 / rms(x)`` and
``u = g w``: ``dx = r u - x r^3 mean(u x)``, ``dw = sum(g x r)`` over the rows.
"""

from __future__ import annotations

from typing import Any

import torch

_SOURCE = "_gogpt_normed"


class Normed:
    """Where a normalised tensor came from, for the products that take it: they save the norm's own input in its place, which is saved anyway.

    ``again`` computes the tensor once for all of them in the backward pass; the norm's own backward pass, which is the last, lets it go.
    """

    __slots__ = ("dtype", "kept", "plus_one", "rstd", "version", "weight", "x")

    def __init__(self, x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor, plus_one: bool) -> None:
        self.x, self.rstd, self.weight, self.plus_one = x, rstd, weight, plus_one
        self.version = 0
        self.kept = Kept(plus_one)


class Kept:
    """The normalised tensor of a backward pass that is running; None else."""

    __slots__ = ("plus_one", "value")

    def __init__(self, plus_one: bool) -> None:
        self.plus_one, self.value = plus_one, None

    def again(self, x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if self.value is None:
            self.value = normalise(x, rstd, weight, self.plus_one)
        return self.value


def normed_of(tensor: torch.Tensor) -> Normed | None:
    """Where ``tensor`` came from, if it is a norm's result as the norm gave it."""
    found: Normed | None = getattr(tensor, _SOURCE, None)
    return found if found is not None and found.version == tensor._version else None


def normalise(x: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor, plus_one: bool) -> torch.Tensor:
    """In the order, and with the roundings, of the modules: Llama's rounds before its weight, Gemma's after it."""
    if x.dtype == torch.float32 == weight.dtype:
        return torch.mul(x, rstd).mul_(1.0 + weight if plus_one else weight)
    out = x.float() * rstd
    return (out * (1.0 + weight.float())).to(x.dtype) if plus_one else weight * out.to(x.dtype)


class _RmsNorm(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, rstd: torch.Tensor, plus_one: bool, kept: Kept) -> torch.Tensor:
        ctx.save_for_backward(x, weight, rstd)
        ctx.plus_one, ctx.kept = plus_one, kept
        return normalise(x, rstd, weight, plus_one)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        x, weight, rstd = ctx.saved_tensors
        ctx.kept.value = None
        need_x, need_w = ctx.needs_input_grad[:2]
        size, factor = x.shape[-1], 1.0 + weight if ctx.plus_one else weight
        if x.dtype == torch.float32 == weight.dtype == grads[0].dtype and x.device.type == "cpu":
            g, rows, r = grads[0].reshape(-1, size), x.reshape(-1, size), rstd.reshape(-1, 1)
            # The backward pass of LayerNorm with a mean of 0, whose one term too many, - r mean(u), is put back.
            dx, dw, _ = torch.ops.aten.native_layer_norm_backward(g, rows, [size], torch.zeros_like(r), r, factor, None, [need_x, need_w, False])
            if need_x:
                dx.add_(torch.mv(g, factor)[:, None].mul_(r).div_(size))
                dx = dx.view(x.shape)
            return dx, dw, None, None, None
        g, rows = grads[0].float(), x.float()
        u = g * factor.float()
        dw = (g * rows * rstd).flatten(0, -2).sum(0).to(weight.dtype) if need_w else None
        dx = (u * rstd).addcmul_(rows, (u * rows).mean(-1, keepdim=True) * rstd**3, value=-1).to(x.dtype) if need_x else None
        return dx, dw, None, None, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, plus_one: bool) -> torch.Tensor:
    """``x`` ``[..., H]``, ``weight`` ``[H]`` -> ``[..., H]``. The statistics are float32."""
    with torch.no_grad():
        rstd = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    source = Normed(x.detach(), rstd, weight.detach(), plus_one)
    out: torch.Tensor = _RmsNorm.apply(x, weight, rstd, plus_one, source.kept)
    source.version = out._version
    setattr(out, _SOURCE, source)
    return out
