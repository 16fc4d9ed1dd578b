"""The output head and its cross-entropy in one function: no logits are saved, and none are computed twice.

With logits ``z``, ``p = softmax(z)``, and at a position targets ``y_i`` of weight ``w_i``: ``loss = (sum w_i) logsumexp(z) - sum w_i z[y_i]`` and
``dloss/dz = (sum w_i) p - sum w_i onehot(y_i)``. Both come from one exponential, so that the gradients of hidden states and head are made while the logits
are there, and wait for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from gogpt.engines import unwrapped
from gogpt.fused.products import is_plain
from gogpt.memory import CHUNK_BYTES

BLOCK_BYTES = 1 << 20
"""Of float32 logits between whose maximum, exponential, sum and product they stay in a core's cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainHead:
    """``logits = cap(scale (h W^T + b))`` with ``cap(z) = softcap tanh(z / softcap)`` where there is one."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    softcap: float | None


class _LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, at: torch.Tensor, targets: torch.Tensor,
                weights: torch.Tensor, scale: float, softcap: float | None, chunk_bytes: int, dtype: torch.dtype, grads: bool) -> torch.Tensor:
        need = [grads and needed for needed in ctx.needs_input_grad[:3]]
        with torch.autocast(hidden.device.type, enabled=False):
            loss, found = _run(hidden, weight, bias, at, targets, weights.float(), scale, softcap, chunk_bytes, dtype, need)
        ctx.found = found
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        if ctx.found is None:
            raise RuntimeError("the gradients of linear_cross_entropy were given away by an earlier backward pass")
        # In place, and let go: the head's gradient is the largest tensor of a step, and autograd keeps the one that nobody else holds.
        found, ctx.found = ctx.found, None
        return *(None if f is None else f.mul_(grads[0]) for f in found), *(None,) * 8


def _run(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, at: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor,
         scale: float, softcap: float | None, chunk_bytes: int, dtype: torch.dtype, need: list[bool]
         ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    positions, vocab = len(hidden), len(weight)
    order = at.argsort(stable=True)
    at, targets, weights = at[order], targets[order], weights[order]
    mass = torch.zeros(positions, dtype=torch.float32, device=hidden.device).index_add_(0, at, weights)
    rows, matrix, offset = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    d_hidden = torch.empty_like(hidden) if need[0] else None
    d_weight = torch.zeros_like(weight) if need[1] else None
    d_bias = torch.zeros_like(bias) if need[2] and bias is not None else None
    size = max(1, min(positions, chunk_bytes // (4 * vocab)))
    # float16 has no room for probabilities that no loss scale has raised yet.
    back = torch.float32 if dtype == torch.float16 else dtype
    room = torch.empty(size, vocab, dtype=dtype, device=hidden.device)
    total = torch.zeros((), dtype=torch.float64, device=hidden.device)
    first = True
    for start in range(0, positions, size):
        h = rows[start : start + size]
        logits = torch.mm(h, matrix.t(), out=room[: len(h)]) if offset is None else torch.addmm(offset, h, matrix.t(), out=room[: len(h)])
        logits = logits.float()
        total += _blocks(logits, start, at, targets, weights, mass, scale, softcap, grad=any(need))
        if any(need):
            d = logits.to(back)
            if d_hidden is not None:
                d_hidden[start : start + size] = torch.mm(d, matrix.to(back))
            if d_weight is not None:
                if d_weight.dtype == back:
                    d_weight.addmm_(d.t(), h.to(back), beta=0 if first else 1)
                else:
                    d_weight += torch.mm(d.t(), h.to(back))
            if d_bias is not None:
                d_bias += logits.sum(0)
        first = False
    return total.float(), (d_hidden, d_weight, d_bias)


def _blocks(logits: torch.Tensor, start: int, at: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, mass: torch.Tensor, scale: float,
            softcap: float | None, *, grad: bool) -> torch.Tensor:
    """The loss of a chunk ``[k, V]`` of positions from ``start`` on; with ``grad`` its logits become their gradient, in place."""
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    size = max(1, BLOCK_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else len(logits)
    edges = torch.arange(start, start + len(logits) + size, size, device=at.device).clamp_(max=start + len(logits))
    bounds = torch.searchsorted(at, edges).tolist()
    for number, z in enumerate(logits.split(size)):
        here = start + number * size
        entries = slice(bounds[number], bounds[number + 1])
        cell, w, m = (at[entries] - here, targets[entries]), weights[entries], mass[here : here + len(z), None]
        if scale != 1.0:
            z.mul_(scale)
        turned = None
        if softcap is not None:
            z.div_(softcap).tanh_()
            turned = z.square() if grad else None
            z.mul_(softcap)
        total -= torch.dot(w, z[cell])
        top = z.amax(dim=1, keepdim=True)
        z.sub_(top).exp_()
        norm = z.sum(dim=1, keepdim=True)
        total += (m * (top + norm.log())).sum()
        if not grad:
            continue
        z.mul_(m / norm).index_put_(cell, -w, accumulate=True)
        if turned is not None:
            z.sub_(turned.mul_(z))
        if scale != 1.0:
            z.mul_(scale)
    return total


def linear_cross_entropy(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, at: torch.Tensor, targets: torch.Tensor,
                         weights: torch.Tensor, *, scale: float = 1.0, softcap: float | None = None, chunk_bytes: int = CHUNK_BYTES) -> torch.Tensor:
    """``sum_e weights[e] CE(logits[at[e]], targets[e])``, a float32 scalar, of ``logits = cap(scale (hidden weight^T + bias))``.

    ``hidden`` ``[K, H]``, ``weight`` ``[V, H]``, ``bias`` ``[V]``; of each entry its position ``at`` ``[E]``, ``targets`` ``[E]`` and ``weights`` ``[E]``, which
    have no gradient. Products are computed in autocast's dtype or hidden's own, everything after them in float32. Its backward pass can run once.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    loss: torch.Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, at, targets, weights, scale, softcap, chunk_bytes, dtype, torch.is_grad_enabled())
    return loss


def plain_head(model: Any) -> PlainHead | None:
    """The model's head as the function above takes it, proven on its own forward pass; None where it is something else.

    Hidden states, some of them large, take the place of what the decoder gives; the logits must be those of one of the forms that config.json names.
    """
    inner = unwrapped(model)
    if inner is not model or isinstance(model, FSDPModule):
        return None
    base = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    head: Any = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    if not is_plain(head) or "forward" in head.__dict__ or not isinstance(decoder, torch.nn.Module) or decoder is base:
        return None
    own = decoder.__dict__.get("forward")
    weight, bias = head.weight, head.bias
    with torch.no_grad():
        draw = torch.randn(1, 6, weight.shape[1], generator=torch.Generator().manual_seed(0))
        draw[:, 3:] *= 30
        hidden = draw.to(weight.device, weight.dtype)
        decoder.forward = lambda *args, **kwargs: BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)
        try:
            given = base(input_ids=torch.zeros(1, 1, dtype=torch.long, device=weight.device), use_cache=False).logits
        except Exception:  # a model that takes more from its decoder: whatever it raises, it is not this form
            return None
        finally:
            if own is None:
                del decoder.forward
            else:
                decoder.forward = own
        raw = torch.nn.functional.linear(hidden, weight, bias).float()
    config = base.config.get_text_config()
    scales = [1.0, *(float(s) for s in (getattr(config, "logit_scale", None),) if s), *(1 / float(s) for s in (getattr(config, "logits_scaling", None),) if s)]
    caps = [None, *(float(c) for c in (getattr(config, "final_logit_softcapping", None),) if c)]
    off = 1e-5 if weight.dtype == torch.float32 else 2e-2
    for scale in scales:
        for cap in caps:
            expected = raw * scale if cap is None else cap * torch.tanh(raw * scale / cap)
            if given.shape == raw.shape and (given.float() - expected).norm() <= off * expected.norm():
                return PlainHead(weight=weight, bias=bias, scale=scale, softcap=cap)
    return None
