"""Which modules of a model take our functions: those with the structure, each proven on itself, forward and backward, when it is replaced.

An instance's ``forward`` is replaced, never a class, and no parameter moves: names, saving, PEFT's merging and hooks around modules stay. A forward that
finds its layers otherwise than they were (merged, another adapter, another dtype) is the class's own. Sharded weights (FSDP2, ZeRO 3), which modules gather
in hooks that a function over several of them passes by, are for the caller to leave out.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear

from gogpt.fused.mlp import ACTIVATIONS, activate, gated_mlp
from gogpt.fused.norm import normed_of, rms_norm
from gogpt.fused.products import compute_dtype, is_plain, linear, weights_of, why_not_linear
from gogpt.fused.rotary import rotary_in_place_of

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
"""Norm of the difference over the norm, up to which a module's own results and gradients and ours are the same: rounding of sums in another order."""
ROTARY = "apply_rotary_pos_emb"
"""What modelling files of transformers call it; what it computes is proven."""
MLP = ("gate_proj", "up_proj", "down_proj", "act_fn")
Forward = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """How many modules were replaced, by kind, and what was not: its class, how many, and why."""

    norms: int = 0
    mlps: int = 0
    linears: int = 0
    rotary: int = 0
    kept: tuple[tuple[str, int, str], ...] = ()

    def told(self) -> str:
        parts = [f"{n} {name}" for n, name in ((self.norms, "norms"), (self.mlps, "gated MLPs"), (self.linears, "linear layers"),
                                               (self.rotary, "rotary embeddings")) if n]
        kept = "; ".join(f"{n} {kind} as they are: {why}" for kind, n, why in self.kept)
        return f"fused: {', '.join(parts) or 'nothing'}" + (f" ({kept})" if kept else "")


def fuse(model: Any) -> Fused:
    """Replaces what can be; see the module. The model is whole, in memory, with its adapter."""
    done: Counter[str] = Counter()
    kept: Counter[tuple[str, str]] = Counter()
    seen: set[Any] = set()
    turns: dict[int, Forward | None] = {}
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    for kind, module in list(_candidates(model, head)):
        if hasattr(module.__dict__.get("forward"), "_gogpt"):
            done[kind] += 1
            continue
        if "forward" in module.__dict__:
            kept[type(module).__name__, "another library replaced its forward pass"] += 1
            continue
        if kind == "rotary":
            found: Forward | str = _turning(module, turns)
        else:
            found = {"norms": _norm, "mlps": _mlp, "linears": _linear}[kind](module, seen)
        if isinstance(found, str):
            kept[type(module).__name__, found] += 1
            continue
        found._gogpt = True  # type: ignore[attr-defined]
        module.forward = types.MethodType(found, module)
        done[kind] += 1
    return Fused(**done, kept=tuple((name, n, why) for (name, why), n in sorted(kept.items())))


def unfuse(model: Any) -> None:
    """Every module computes as its class does again."""
    for module in model.modules():
        if hasattr(module.__dict__.get("forward"), "_gogpt"):
            del module.forward


def _candidates(model: Any, head: Any) -> Iterator[tuple[str, Any]]:
    inside: set[int] = {id(head)} | {id(m) for m in head.modules()} if head is not None else set()
    for module in model.modules():
        if id(module) in inside:
            continue
        if all(hasattr(module, name) for name in MLP) and isinstance(module.gate_proj, torch.nn.Module):
            inside |= {id(m) for name in MLP[:3] for m in getattr(module, name).modules()}
            yield "mlps", module
        elif isinstance(module, LoraLinear):
            inside |= {id(m) for m in module.modules()}
            yield "linears", module
        elif is_plain(module):
            yield "linears", module
        elif _eps(module) is not None:
            yield "norms", module
        elif ROTARY in getattr(getattr(type(module).forward, "__code__", None), "co_names", ()) and ROTARY in type(module).forward.__globals__:
            yield "rotary", module


def _eps(module: Any) -> float | None:
    """Of a module that has one vector and an epsilon and nothing else."""
    if isinstance(module, torch.nn.LayerNorm) or list(module.children()) or list(module.buffers(recurse=False)):
        return None
    if [(name, p.ndim) for name, p in module.named_parameters(recurse=False)] != [("weight", 1)]:
        return None
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return float(found) if isinstance(found, float) else None


# -- one kind each: the forward that takes its place, or why there is none ------------------------------------------------------------------------------


def _norm(module: Any, seen: set[Any]) -> Forward | str:
    eps, why = _eps(module) or 0.0, "it is no RMS norm"
    for plus_one in (False, True):
        def forward(self: Any, hidden_states: torch.Tensor, *, _plus_one: bool = plus_one) -> torch.Tensor:
            return rms_norm(hidden_states, self.weight, eps, _plus_one)

        # A small input too, in which the epsilon counts.
        if all(_off(module, forward, [module.weight], (2, 3, len(module.weight)), size) is None for size in (1.0, eps**0.5)):
            return forward
    return why


def _mlp(module: Any, seen: set[Any]) -> Forward | str:
    layers = [getattr(module, name) for name in MLP[:3]]
    if why := next((f"{name}: {why}" for name, layer in zip(MLP[:3], layers, strict=True) if (why := why_not_linear(layer))), None):
        return why
    points = torch.linspace(-8, 8, 257, device=layers[0].weight.device)
    with torch.no_grad():
        name = next((n for n in ACTIVATIONS if (module.act_fn(points) - activate(n, points)).abs().max() < 1e-5), None)
    if name is None:
        return "its activation is neither SiLU nor GELU"

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found = [weights_of(getattr(self, part)) for part in MLP[:3]]
        if not args and not kwargs and found[0] is not None and found[1] is not None and found[2] is not None:
            gate, up, down = found[0], found[1], found[2]
            if (dtype := compute_dtype(x, gate, up, down)) is not None:
                return gated_mlp(x, name, gate, up, down, dtype)
        return type(self).forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]

    return _proven(module, forward, layers, seen)


def _linear(module: Any, seen: set[Any]) -> Forward | str:
    if why := why_not_linear(module):
        return why
    plain = type(module) is torch.nn.Linear

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if (not plain or normed_of(x) is not None) and not args and not kwargs and torch.is_grad_enabled():
            found = weights_of(self)
            if found is not None and (dtype := compute_dtype(x, found)) is not None:
                return linear(x, found, dtype)
        return type(self).forward(self, x, *args, **kwargs)  # type: ignore[no-any-return]

    # Of a plain layer the function is torch's own product; where it differs is the saving, which the norm before it decides.
    return forward if plain else _proven(module, forward, [module], seen)


def _turning(module: Any, turns: dict[int, Forward | None]) -> Forward | str:
    """The class's own forward, in which the name of the rotary function is ours."""
    forward = type(module).forward
    own = forward.__globals__[ROTARY]
    if id(own) not in turns:
        ours = rotary_in_place_of(own)
        turns[id(own)] = _turned(forward, ours) if _same_turns(own, ours) else None
    return turns[id(own)] or "its rotary embedding is not that of halves"


def _turned(forward: Any, ours: Forward) -> Forward:
    copy = types.FunctionType(forward.__code__, {**forward.__globals__, ROTARY: ours}, forward.__name__, forward.__defaults__, forward.__closure__)
    copy.__kwdefaults__ = forward.__kwdefaults__
    return copy


def _same_turns(own: Forward, ours: Forward) -> bool:
    draw = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, heads, 5, 8, generator=draw, requires_grad=True) for heads in (4, 2))
    cos, sin = (torch.randn(2, 5, 8, generator=draw) for _ in range(2))
    try:
        with torch.enable_grad():
            expected, got = own(q, k, cos, sin), ours(q, k, cos, sin)
            weights = [torch.randn(t.shape, generator=draw) for t in expected]
            grads = [torch.autograd.grad(found, (q, k), weights) for found in (expected, got)]
    except (RuntimeError, TypeError, ValueError, IndexError):  # other arguments than these
        return False
    return all(_near(a, b, torch.float32) for a, b in zip((*expected, *grads[0]), (*got, *grads[1]), strict=True))


# -- the proof -------------------------------------------------------------------------------------------------------------------------------------------


def _near(expected: torch.Tensor, got: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((expected - got).float().norm() <= TOLERANCE[dtype] * expected.float().norm())


def _proven(module: Any, forward: Forward, layers: list[Any], seen: set[Any]) -> Forward | str:
    """``forward``, or how it differs. Adapters that start at 0 get numbers for the proof. Gradients of whole matrices, which cost a matrix each,
    are compared once for each kind and shape."""
    found = [weights_of(layer) for layer in layers]
    if any(w is None for w in found):
        return "its adapter is more than one plain LoRA without dropout"
    tensors = [t for w in found if w is not None for t in w.tensors if t is not None]
    key = (type(module), *((t.shape, t.dtype, t.requires_grad) for t in tensors))
    zero = [w.b for w in found if w is not None and w.b is not None]
    before = [t.detach().clone() for t in zero]
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for t in zero:
            t.copy_(torch.randn(t.shape, generator=draw) * 0.1)
    size = layers[0].in_features
    try:
        whole = {id(w.weight) for w in found if w is not None}
        wanted = [t for t in tensors if t.requires_grad and (key not in seen or id(t) not in whole)]
        why = _off(module, forward, wanted, (2, 3, size), 1.0)
    finally:
        with torch.no_grad():
            for t, own in zip(zero, before, strict=True):
                t.copy_(own)
    seen.add(key)
    return why or forward


def _off(module: Any, forward: Forward, wanted: list[torch.Tensor], shape: tuple[int, ...], size: float) -> str | None:
    """None where ``forward`` gives what the module's own does, and the same gradients of input and ``wanted``."""
    some = next(module.parameters())
    if some.device.type == "meta" or some.dtype not in TOLERANCE:
        return f"its weights are {some.device.type if some.device.type == 'meta' else some.dtype}"
    draw = torch.Generator().manual_seed(0)
    x = (torch.randn(shape, generator=draw) * size).to(some.device, some.dtype).requires_grad_()
    results = []
    wanted = [t for t in wanted if t.requires_grad]
    with torch.enable_grad():
        for run in (type(module).forward, forward):
            try:
                out = run(module, x)
            except Exception as problem:  # a module that takes other arguments, in whatever words it says so
                return f"it takes other arguments ({type(problem).__name__})"
            if not isinstance(out, torch.Tensor):
                return "it gives no tensor"
            if not out.requires_grad:
                return "its result has no gradient"
            g = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(out.device, out.dtype)
            results.append((out, *torch.autograd.grad(out, (x, *wanted), g)))
    same = all(a.shape == b.shape and a.dtype == b.dtype and _near(a, b, some.dtype) for a, b in zip(*results, strict=True))
    return None if same else "ours differs"
