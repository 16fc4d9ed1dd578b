"""Attention one document at a time, as an attention implementation of transformers.

A packed row under an explicit mask ``[B, 1, T, T]`` costs T x T products, of which the mask throws most away, and takes the kernel that reads
a mask. Cut at the documents' borders the same row costs the sum of their squares, and each call is plain causal attention without a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

DOCUMENTS = "gogpt_documents"
"""Its name among the attention implementations of transformers."""
OTHER_SCORES = ("attn_logit_softcapping", "attn_logit_softcap", "attention_chunk_size", "alibi", "is_encoder_decoder", "add_cross_attention")
"""Settings of a model under which its attention is more than a causal softmax of scaled products."""


def explicit_mask(documents: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive ``[B, 1, T, T]``: 0 where a token may look, the dtype's minimum elsewhere. ``documents``: ids ``[B, T]``, -1 of padding."""
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    allowed = (documents[:, :, None] == documents[:, None, :]) & causal & (documents >= 0)[:, :, None]
    mask = torch.zeros(allowed.shape, dtype=dtype, device=documents.device)
    # A finite minimum: rows of padding see nothing, and -inf everywhere would make their softmax NaN.
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def document_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None, **kwargs: Any
) -> Any:
    """``query`` ``[B, H, T, D]``, ``key`` and ``value`` ``[B, G, T, D]`` -> ``[B, T, H, D]`` and no weights; padding comes out as 0.

    ``attention_mask``: integers ``[B, 1, 1, T]``, the document of each token, -1 of padding, each document in one stretch: transformers hands a
    mask of four dimensions through as it is, so that every architecture brings it here and nothing of size T x T is made. Any other mask
    (generation has one over its cache) and arguments that change the scores go to transformers' own sdpa.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    documents = attention_mask[:, 0, 0]
    if any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux", "cache")):
        return sdpa_attention_forward(module, query, key, value, explicit_mask(documents, query.dtype), **kwargs)
    kwargs = {**kwargs, "is_causal": True}
    rows = []
    for r, row in enumerate(documents):
        ids, counts = torch.unique_consecutive(row, return_counts=True)
        sizes = counts.tolist()
        # split, not slices: its backward pass writes the gradient of the row once, and not once a document.
        parts = zip(ids.tolist(), *(x[r : r + 1].split(sizes, dim=2) for x in (query, key, value)), strict=True)
        rows.append(torch.cat([
            sdpa_attention_forward(module, q, k, v, None, **kwargs)[0] if number >= 0 else v.new_zeros(1, q.shape[2], q.shape[1], v.shape[3])
            for number, q, k, v in parts], dim=1))
    return torch.cat(rows), None


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
    if found := next((name for name in OTHER_SCORES if getattr(config, name, None)), None):
        return f"{found} is set"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "it attends within a window"
    kinds = {str(kind) for name in ("layer_types", "layers_block_type") for kind in getattr(config, name, None) or ()}
    if kinds - {"full_attention"}:
        return f"it has layers of type {', '.join(sorted(kinds - {'full_attention'}))}"
    if state := next((name for name in config.to_dict() if name.startswith(("mamba_", "ssm_", "linear_", "conv_kernel"))), None):
        return f"{state}: its layers carry a state"
    return None


def attend_by_document(model: PreTrainedModel, asked: str, device: torch.device) -> None:
    """What ``model.attention: auto`` means for training: attention by document on a CPU, where the model takes it; transformers' own choice
    otherwise. An implementation that was ``asked`` for by name stays."""
    if asked == "auto" and device.type == "cpu" and why_explicit(model) is None:
        model.set_attn_implementation(DOCUMENTS)
