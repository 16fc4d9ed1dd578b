"""Linear layers, with or without a LoRA adapter: ``y = x W^T + b + s (x A^T) B^T``, and their gradients, in as few passes as products are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from gogpt.fused.norm import Kept, Normed, normed_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of one linear layer: ``weight`` ``[O, I]``, ``bias`` ``[O]``; of its adapter ``a`` ``[r, I]``, ``b`` ``[O, r]`` and ``scale``."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    scale: float = 1.0

    @property
    def tensors(self) -> tuple[torch.Tensor | None, ...]:
        return self.weight, self.bias, self.a, self.b

    def cast(self, dtype: torch.dtype) -> Weights:
        kept = [t if t is None else t.to(dtype) for t in self.tensors]
        return Weights(weight=kept[0], bias=kept[1], a=kept[2], b=kept[3], scale=self.scale)  # type: ignore[arg-type]


def is_hooked(*modules: Any) -> bool:
    """Whether somebody looks into a forward or backward pass of them, which a function over several modules would pass by."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def is_plain(module: Any) -> bool:
    """Whether it is torch's Linear and nothing around it: no subclass (quantised layers are some), no hook, no parametrisation."""
    return type(module) is torch.nn.Linear and not is_hooked(module) and type(module.weight) is torch.nn.Parameter


def why_not_linear(module: Any) -> str | None:
    """Why a linear layer keeps its own forward pass; None where ``weights_of`` can read it."""
    if isinstance(module, LoraLinear):
        if type(module) is not LoraLinear or not is_plain(module.base_layer):
            return f"its base is {type(getattr(module, 'base_layer', module)).__name__}"
        return None if weights_of(module) is not None else "its adapter is more than one plain LoRA without dropout"
    return None if is_plain(module) else f"it is {type(module).__name__}"


def weights_of(module: Any) -> Weights | None:
    """The weights of a layer as it is at this moment; None where it computes something else (merged, several adapters, dropout, DoRA, a bias of B)."""
    if type(module) is torch.nn.Linear:
        return None if is_hooked(module) else Weights(weight=module.weight, bias=module.bias)
    if type(module) is not LoraLinear or not is_plain(module.base_layer) or is_hooked(module):
        return None
    base = module.base_layer
    if module.merged or module.fan_in_fan_out:
        return None
    if module.disable_adapters:
        return Weights(weight=base.weight, bias=base.bias)
    active = [name for name in module.active_adapters if name in module.lora_A]
    if len(active) != 1 or active[0] in module.lora_variant:
        return None
    a, b, dropout = module.lora_A[active[0]], module.lora_B[active[0]], module.lora_dropout[active[0]]
    if not is_plain(a) or not is_plain(b) or a.bias is not None or b.bias is not None:
        return None
    if not isinstance(dropout, torch.nn.Identity):
        return None
    return Weights(weight=base.weight, bias=base.bias, a=a.weight, b=b.weight, scale=float(module.scaling[active[0]]))


def compute_dtype(x: torch.Tensor, *layers: Weights) -> torch.dtype | None:
    """Autocast's, else that of all tensors; None where they differ."""
    if torch.is_autocast_enabled(x.device.type):
        return torch.get_autocast_dtype(x.device.type)
    return x.dtype if x.is_floating_point() and all(t is None or t.dtype == x.dtype for layer in layers for t in layer.tensors) else None


def product(x: torch.Tensor, layer: Weights) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``x`` ``[T, I]`` -> ``y`` ``[T, O]``, and ``h = x A^T`` ``[T, r]``."""
    out = torch.mm(x, layer.weight.t()) if layer.bias is None else torch.addmm(layer.bias, x, layer.weight.t())
    if layer.a is None or layer.b is None:
        return out, None
    inner = torch.mm(x, layer.a.t())
    return out.addmm_(inner, layer.b.t(), alpha=layer.scale), inner


def back_to_input(g: torch.Tensor, layer: Weights, into: torch.Tensor | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The gradient of the input, added to ``into`` where there is one, and ``s g B`` ``[T, r]``, which A's gradient needs too."""
    inner = None if layer.b is None else torch.mm(g, layer.b).mul_(layer.scale)
    grad = torch.mm(g, layer.weight) if into is None else into.addmm_(g, layer.weight)
    if inner is not None and layer.a is not None:
        grad.addmm_(inner, layer.a)
    return grad, inner


def back_to_weights(g: torch.Tensor, x: torch.Tensor | None, h: torch.Tensor | None, inner: torch.Tensor | None, layer: Weights,
                    own: tuple[torch.Tensor | None, ...], needs: tuple[bool, ...]) -> list[torch.Tensor | None]:
    """Gradients of weight, bias, A and B in the dtypes of ``own``; none where ``needs`` has none."""
    grads: list[torch.Tensor | None] = [None, None, None, None]
    if needs[0] and x is not None:
        grads[0] = torch.mm(g.t(), x)
    if needs[1]:
        grads[1] = g.sum(0)
    if needs[2] and x is not None:
        if inner is None and layer.b is not None:
            inner = torch.mm(g, layer.b).mul_(layer.scale)
        if inner is not None:
            grads[2] = torch.mm(inner.t(), x)
    if needs[3] and h is not None:
        grads[3] = torch.mm(g.t(), h).mul_(layer.scale)
    return [grad if grad is None or o is None else grad.to(o.dtype) for grad, o in zip(grads, own, strict=True)]


def save_input(x: torch.Tensor, source: Normed | None, needed: bool) -> tuple[tuple[torch.Tensor, ...], Kept | None]:
    """What is saved for an input of which weights need the gradient: of a norm's result, what the norm has saved already."""
    if not needed:
        return (), None
    return ((x,), None) if source is None else ((source.x, source.rstd, source.weight), source.kept)


def saved_input(saved: tuple[torch.Tensor, ...], kept: Kept | None, dtype: torch.dtype) -> torch.Tensor | None:
    """``[T, I]`` in ``dtype``, as the forward pass had it."""
    if not saved:
        return None
    found = saved[0] if kept is None else kept.again(*saved)
    return found.reshape(-1, found.shape[-1]).to(dtype)


class _Linear(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, a: torch.Tensor | None, b: torch.Tensor | None,
                scale: float, source: Normed | None, dtype: torch.dtype) -> torch.Tensor:
        layer = Weights(weight=weight, bias=bias, a=a, b=b, scale=scale)
        with torch.autocast(x.device.type, enabled=False):
            out, h = product(x.reshape(-1, x.shape[-1]).to(dtype), layer.cast(dtype))
        inputs, ctx.kept = save_input(x, source, ctx.needs_input_grad[1] or ctx.needs_input_grad[3])
        ctx.save_for_backward(weight, bias, a, b, h, *inputs)
        ctx.scale, ctx.shape, ctx.dtype, ctx.given = scale, x.shape, dtype, x.dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        weight, bias, a, b, h, *inputs = ctx.saved_tensors
        own = Weights(weight=weight, bias=bias, a=a, b=b, scale=ctx.scale)
        layer, needs = own.cast(ctx.dtype), ctx.needs_input_grad
        with torch.autocast(weight.device.type, enabled=False):
            g = grads[0].reshape(-1, grads[0].shape[-1]).to(ctx.dtype)
            dx, inner = back_to_input(g, layer, None) if needs[0] else (None, None)
            if dx is not None:
                dx = dx.to(ctx.given).view(ctx.shape)
            into = back_to_weights(g, saved_input(tuple(inputs), ctx.kept, ctx.dtype), h, inner, layer, own.tensors, needs[1:5])
        return dx, *into, None, None, None


def linear(x: torch.Tensor, layer: Weights, dtype: torch.dtype) -> torch.Tensor:
    """``x`` ``[..., I]`` -> ``[..., O]``."""
    out: torch.Tensor = _Linear.apply(x, *layer.tensors, layer.scale, normed_of(x), dtype)
    return out
