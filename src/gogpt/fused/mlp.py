"""A gated MLP, ``down(act(gate(x)) * up(x))``, in one function: of the four tensors ``[T, F]`` that its modules save, it saves two."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from gogpt.fused.norm import Normed, normed_of
from gogpt.fused.products import (
    Weights,
    back_to_input,
    back_to_weights,
    product,
    save_input,
    saved_input,
)

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")


def activate(name: str, x: torch.Tensor) -> torch.Tensor:
    if name == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


def activate_backward(name: str, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    if name == "silu":
        return torch.ops.aten.silu_backward(g, x)  # type: ignore[no-any-return]
    return torch.ops.aten.gelu_backward(g, x, approximate="tanh" if name == "gelu_tanh" else "none")  # type: ignore[no-any-return]


def _layers(tensors: Any, scales: tuple[float, ...]) -> list[Weights]:
    return [Weights(weight=tensors[4 * i], bias=tensors[4 * i + 1], a=tensors[4 * i + 2], b=tensors[4 * i + 3], scale=scales[i]) for i in range(3)]


class _GatedMlp(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, name: str, source: Normed | None, dtype: torch.dtype, scales: tuple[float, ...],
                *tensors: torch.Tensor | None) -> torch.Tensor:
        gate_layer, up_layer, down_layer = (layer.cast(dtype) for layer in _layers(tensors, scales))
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            gate, h_gate = product(rows, gate_layer)
            up, h_up = product(rows, up_layer)
            out, h_down = product(activate(name, gate).mul_(up), down_layer)
        needs = ctx.needs_input_grad[5:]
        inputs, ctx.kept = save_input(x, source, needs[0] or needs[2] or needs[4] or needs[6])
        ctx.save_for_backward(*tensors, gate, up, h_gate, h_up, h_down, *inputs)
        ctx.name, ctx.scales, ctx.shape, ctx.dtype, ctx.given = name, scales, x.shape, dtype, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        saved = ctx.saved_tensors  # once: what a checkpoint computed again is given once
        tensors, (gate, up, h_gate, h_up, h_down, *inputs) = saved[:12], saved[12:]
        own = _layers(tensors, ctx.scales)
        layers = [layer.cast(ctx.dtype) for layer in own]
        need_x, needs = ctx.needs_input_grad[0], ctx.needs_input_grad[5:]
        of = [tuple(needs[4 * i : 4 * i + 4]) for i in range(3)]
        below = need_x or any(of[0]) or any(of[1])
        with torch.autocast(gate.device.type, enabled=False):
            g = grads[0].reshape(-1, grads[0].shape[-1]).to(ctx.dtype)
            inner_gate = inner_up = inner_down = dx = None
            d_gate = d_up = d = None
            if below:
                d, inner_down = back_to_input(g, layers[2], None)
            acted = activate(ctx.name, gate)
            if d is not None:
                d_up = torch.mul(d, acted)
                d_gate = activate_backward(ctx.name, d.mul_(up), gate)
                del d
            inside = acted.mul_(up) if of[2][0] or of[2][2] else None
            to_down = back_to_weights(g, inside, h_down, inner_down, layers[2], own[2].tensors, of[2])
            del acted, inside
            to_gate: list[torch.Tensor | None] = [None] * 4
            to_up = to_gate
            if d_gate is not None and d_up is not None:
                if need_x:
                    dx, inner_gate = back_to_input(d_gate, layers[0], None)
                    dx, inner_up = back_to_input(d_up, layers[1], dx)
                rows = saved_input(tuple(inputs), ctx.kept, ctx.dtype)
                to_gate = back_to_weights(d_gate, rows, h_gate, inner_gate, layers[0], own[0].tensors, of[0])
                to_up = back_to_weights(d_up, rows, h_up, inner_up, layers[1], own[1].tensors, of[1])
            if dx is not None:
                dx = dx.to(ctx.given).view(ctx.shape)
        return dx, None, None, None, None, *to_gate, *to_up, *to_down


def gated_mlp(x: torch.Tensor, name: str, gate: Weights, up: Weights, down: Weights, dtype: torch.dtype) -> torch.Tensor:
    """``x`` ``[..., H]`` -> ``[..., H]``; ``name``: one of ACTIVATIONS."""
    scales = (gate.scale, up.scale, down.scale)
    out: torch.Tensor = _GatedMlp.apply(x, name, normed_of(x), dtype, scales, *gate.tensors, *up.tensors, *down.tensors)
    return out
