"""Attention within documents and trees, as an attention implementation of transformers.

A row under an explicit mask ``[B, 1, T, T]`` costs T x T products, of which the mask throws most away, and takes the kernel that reads
a mask. Cut where documents and branches begin, the same row is plain causal attention of each stretch, and attention without any mask of what
branched off a common prefix to that prefix; the two are joined by their log-sum-exp, as in FlashAttention's own splitting over keys
(arXiv 2205.14135), and nothing of size T x T is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gogpt.sharing import why_not_causal

DOCUMENTS = "gogpt_documents"
"""Its name among the attention implementations of transformers."""


def explicit_mask(ends: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive ``[B, 1, T, T]``: 0 where a token may look, the dtype's minimum elsewhere.

    ``ends``: ``[B, T]``, token j is seen by the tokens of ``[j, ends[j])`` alone; of padding ``ends[j] = j``.
    """
    place = torch.arange(ends.shape[1], device=ends.device)
    allowed = (place[None, :] <= place[:, None]) & (place[:, None] < ends[:, None, :])
    mask = torch.zeros(allowed.shape, dtype=dtype, device=ends.device)
    # A finite minimum: rows of padding see nothing, and -inf everywhere would make their softmax NaN.
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


# -- the stretches of a row ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """``causal``: ``[start, stop)`` of the row's stretches, each of which attends to itself. ``branches``: ``[start, stop)`` of neighbouring stretches
    that follow one prefix, and the pieces ``[start, stop)`` of the row that this prefix lies in."""

    causal: tuple[tuple[int, int], ...]
    branches: tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]


def stretches_of(ends: npt.NDArray[np.int64]) -> Stretches:
    """Of a row ``[T]``. Padding (``ends[j] = j``) is in no stretch."""
    place = np.arange(ends.size)
    real = ends > place
    # A stretch begins where a token does not follow the one before it.
    first = np.flatnonzero(real & np.concatenate([[True], ends[:-1] <= place[1:]]))
    last = np.flatnonzero(real & np.concatenate([ends[:-1] <= place[1:], [True]])) + 1
    causal = tuple(zip(first.tolist(), last.tolist(), strict=True))
    branches: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for start, stop in causal:
        seen = np.flatnonzero(ends[:start] > start)
        if not seen.size:
            continue
        cuts = np.flatnonzero(np.diff(seen) > 1)
        pieces = tuple(zip(seen[np.concatenate([[0], cuts + 1])].tolist(), (seen[np.concatenate([cuts, [seen.size - 1]])] + 1).tolist(), strict=True))
        if branches and branches[-1][1:] == (start, pieces):
            branches[-1] = (branches[-1][0], stop, pieces)
        else:
            branches.append((start, stop, pieces))
    return Stretches(causal=causal, branches=tuple(branches))


_known = WeakTensorKeyDictionary()
"""Of each batch's ``ends`` the stretches of its rows: every layer asks for the same."""


def _stretches(ends: torch.Tensor) -> list[Stretches]:
    found = _known.get(ends)
    if found is None:
        found = [stretches_of(row) for row in ends[:, 0, 0].cpu().numpy()]
        _known[ends] = found
    return found  # type: ignore[no-any-return]


# -- attention -------------------------------------------------------------------------------------

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@lru_cache(maxsize=1)
def _groups_heads() -> bool:
    """Whether this torch's kernel takes fewer key heads than query heads, seen on an example: an older one would not say that it does not."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, 5, 8, generator=generator) for heads in (4, 2, 2))
    try:
        grouped, whole = _flash(q, k, v), _flash(q, *(x.repeat_interleave(2, dim=1) for x in (k, v)))
        back = _flash_backward(q, q, k, v, *grouped, 0.0, False)
    except RuntimeError:
        return False
    return bool(torch.equal(grouped[0], whole[0]) and back[1].shape == k.shape)


def _cut(x: torch.Tensor, pieces: tuple[tuple[int, int], ...]) -> torch.Tensor:
    return torch.cat([x[:, :, a:b] for a, b in pieces], dim=2) if len(pieces) > 1 else x[:, :, pieces[0][0] : pieces[0][1]]


class TreeAttention(torch.autograd.Function):  # type: ignore[misc]
    """``query`` ``[1, H, T, D]``, ``key``, ``value`` ``[1, G, T, D]`` -> ``[1, H, T, D]``. Saved: these, the result, and its log-sum-exp ``[1, H, T]``.

    The backward pass of a part of the keys is the kernel's own, given the result and the log-sum-exp over all of them.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, stretches: Stretches, scale: float | None) -> torch.Tensor:
        out = torch.zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3], dtype=query.dtype).transpose(1, 2)
        lse = torch.zeros(query.shape[0], query.shape[2], query.shape[1], dtype=torch.promote_types(query.dtype, torch.float32)).transpose(1, 2)
        for a, b in stretches.causal:
            out[:, :, a:b], lse[:, :, a:b] = _flash(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], 0.0, True, scale=scale)
        for a, b, pieces in stretches.branches:
            above, lse_above = _flash(query[:, :, a:b], _cut(key, pieces), _cut(value, pieces), 0.0, False, scale=scale)
            both = torch.logaddexp(lse[:, :, a:b], lse_above)
            out[:, :, a:b] *= (lse[:, :, a:b] - both).exp_()[..., None].to(out.dtype)
            out[:, :, a:b] += above * (lse_above - both).exp_()[..., None].to(out.dtype)
            lse[:, :, a:b] = both
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.stretches, ctx.scale = stretches, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        query, key, value, out, lse = ctx.saved_tensors
        grad, scale = grads[0], ctx.scale
        by_token = [torch.zeros(x.shape[0], x.shape[2], x.shape[1], x.shape[3], dtype=x.dtype).transpose(1, 2) for x in (query, key, value)]
        dq, dk, dv = by_token
        for a, b in ctx.stretches.causal:
            dq[:, :, a:b], dk[:, :, a:b], dv[:, :, a:b] = _flash_backward(
                grad[:, :, a:b], query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], out[:, :, a:b], lse[:, :, a:b], 0.0, True, scale=scale)
        for a, b, pieces in ctx.stretches.branches:
            q, k, v = _flash_backward(grad[:, :, a:b], query[:, :, a:b], _cut(key, pieces), _cut(value, pieces), out[:, :, a:b], lse[:, :, a:b],
                                      0.0, False, scale=scale)
            dq[:, :, a:b] += q
            at = 0
            for start, stop in pieces:
                dk[:, :, start:stop] += k[:, :, at : at + stop - start]
                dv[:, :, start:stop] += v[:, :, at : at + stop - start]
                at += stop - start
        return dq, dk, dv, None, None


# -- on a GPU: FlexAttention -----------------------------------------------------------------------

_masks = WeakTensorKeyDictionary()
"""Of each batch's ``ends`` its block mask: every layer asks for the same."""


def block_mask(mask: torch.Tensor) -> BlockMask:
    """Who sees whom, by ``ends`` as ``document_attention`` gets them, ``[B, 1, 1, T]``, in blocks of 128 x 128, of which empty ones are left out (arXiv 2412.05496)."""
    found = _masks.get(mask)
    if found is None:
        ends = mask[:, 0, 0]

        def seen(batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
            return (key <= query) & (query < ends[batch, key])

        found = _masks[mask] = create_block_mask(seen, ends.shape[0], None, ends.shape[1], ends.shape[1], device=ends.device.type)
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _compiled_flex() -> Any:
    return torch.compile(flex_attention, dynamic=True)


def flex(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float | None) -> torch.Tensor:
    """The same attention by torch's FlexAttention: ``[B, H, T, D]``; padding comes out as 0. Compiled on a GPU; torch has no backward pass of it on a CPU."""
    run = _compiled_flex() if query.is_cuda else flex_attention
    return run(query, key, value, block_mask=block_mask(mask), scale=scale, enable_gqa=key.shape[1] != query.shape[1])  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def why_not_flex(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """Why FlexAttention is not used on a device: what goes wrong in one small forward and backward pass of it, against the explicit mask; None where it is right."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, heads, 160, 32, generator=generator).to(device, dtype).requires_grad_() for heads in (4, 2, 2)]
    ends = torch.tensor([[160] * 10 + [90] * 80 + [160] * 70], device=device)
    try:
        ours = flex(made[0], made[1], made[2], ends[:, None, None, :], None)
        plain = torch.nn.functional.scaled_dot_product_attention(made[0], *(x.repeat_interleave(2, dim=1) for x in made[1:]), attn_mask=explicit_mask(ends, dtype))
        grads = [torch.autograd.grad(out.float().square().sum(), made) for out in (ours, plain)]
    except Exception as problem:  # a compiler that is not there, a device that it does not know
        return (str(problem).strip() or type(problem).__name__).splitlines()[0][:160]
    off = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip((ours, *grads[0]), (plain, *grads[1]), strict=True))
    return None if off < 1e-2 else f"its result differs from the explicit mask's by {off:.2g}"


def document_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
) -> Any:
    """``query`` ``[B, H, T, D]``, ``key`` and ``value`` ``[B, G, T, D]`` -> ``[B, T, H, D]`` and no weights; padding comes out as 0.

    ``attention_mask``: integers ``[B, 1, 1, T]``, the ``ends`` of ``explicit_mask``: transformers hands a
    mask of four dimensions through as it is, so that every architecture brings it here and nothing of size T x T is made. Any other mask
    (generation has one over its cache) and arguments that change the scores go to transformers' own sdpa.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    others = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux", "cache"))
    if not others and not kwargs.get("dropout") and query.is_cuda:
        return flex(query, key, value, attention_mask, kwargs.get("scaling")).transpose(1, 2), None
    if others or kwargs.get("dropout") or query.device.type != "cpu" or value.shape[3] != query.shape[3]:
        return sdpa_attention_forward(module, query, key, value, explicit_mask(attention_mask[:, 0, 0], query.dtype), **kwargs)
    if key.shape[1] != query.shape[1] and not _groups_heads():
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    rows = [TreeAttention.apply(query[r : r + 1], key[r : r + 1], value[r : r + 1], stretches, kwargs.get("scaling"))
            for r, stretches in enumerate(_stretches(attention_mask))]
    return (rows[0] if len(rows) == 1 else torch.cat(rows)).transpose(1, 2), None  # type: ignore[no-untyped-call]


AttentionInterface.register(DOCUMENTS, document_attention)
AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)  # what is not packed has the masks of sdpa


def why_explicit(model: PreTrainedModel) -> str | None:
    """Why packed rows of this model keep their explicit mask; None where attention by document is the same and the model takes it."""
    config = model.config
    if config.get_text_config() is not config:
        return "a model of several parts"
    if config._attn_implementation != "sdpa":
        return f"its attention is {config._attn_implementation}"
    if not model._can_set_attn_implementation() or not model._supports_attention_backend:
        return "its attention does not go through transformers' interface"
    return why_not_causal(config.to_dict())


def attend_by_document(model: PreTrainedModel, asked: str, device: torch.device) -> None:
    """What ``model.attention: auto`` means for training: attention by stretches on a CPU and by FlexAttention on a GPU, where the model takes it and (on a GPU)
    where it is right in a small trial; transformers' own choice otherwise. An implementation that was ``asked`` for by name stays."""
    if asked != "auto" or why_explicit(model) is not None:
        return
    if device.type == "cpu" or (device.type == "cuda" and why_not_flex(device) is None):
        model.set_attn_implementation(DOCUMENTS)
