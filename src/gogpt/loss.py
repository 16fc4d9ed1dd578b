"""The loss on trained positions only."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from gogpt.engines import unwrapped
from gogpt.model import forward_inputs
from gogpt.records import IGNORE_INDEX

CHUNK_BYTES = 1 << 28
"""Of float32 logits at once. More trained positions than that (1,365 at 49,152 tokens of vocabulary, 441 at 151,936) are taken in equal chunks, whose
logits are thrown away and computed again in the backward pass: one product more in the head beside three (two where it is frozen), and memory that no
longer grows with K x V."""


def base_of(model: Any) -> Any:
    """The transformers model inside an engine's wrapper and an adapter."""
    inner = unwrapped(model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def takes_positions(model: Any) -> bool:
    """Whether the model's head can be run on chosen positions (``logits_to_keep`` of transformers)."""
    base = base_of(model)
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def model_inputs(model: Any, batch: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, Any]:
    """Keyword arguments of the forward pass, as training has them."""
    return forward_inputs(batch, dtype, getattr(base_of(model).config, "_attn_implementation", None))


def summed_loss(model: Any, batch: dict[str, torch.Tensor], dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    """Sum of the cross-entropy over the trained tokens of a micro-batch, in float32, and their number.

    ``labels`` ``[B, T]`` are unshifted: position t predicts ``labels[t + 1]``. The head runs only on positions that predict a trained token:
    K of them give logits ``[K, V]``, in chunks of CHUNK_BYTES where they are many. Inside an engine (DDP, DeepSpeed, FSDP2), whose wrapper must
    see one whole forward pass, it runs on every position at which some row predicts one, ``[B, K', V]``, and in one piece. Without any
    trained token the sum is 0 and still has a gradient.
    """
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORE_INDEX
    count = int(wanted.sum())
    inputs = model_inputs(model, batch, dtype)
    columns = wanted.any(dim=0).nonzero().flatten()
    if count and takes_positions(model) and (decoder := decoder_of(model)) is not None:
        loss = _loss_at(model, decoder, inputs, wanted, targets[wanted])
        if loss is not None:
            return loss, count
    if takes_positions(model) and 0 < columns.numel() < targets.shape[1]:
        logits = model(**inputs, logits_to_keep=columns).logits
        targets, wanted = targets[:, columns], wanted[:, columns]
    else:
        logits = model(**inputs).logits[:, :-1]
    loss = F.cross_entropy(logits[wanted].float(), targets[wanted], reduction="sum")
    return loss, count


def decoder_of(model: Any) -> torch.nn.Module | None:
    """What stands before the head, of a model that is in no engine; None of others."""
    if unwrapped(model) is not model or isinstance(model, FSDPModule):
        return None
    base = base_of(model)
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    return decoder if isinstance(decoder, torch.nn.Module) and decoder is not base else None


def _loss_at(
    model: Any, decoder: torch.nn.Module, inputs: dict[str, Any], wanted: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor | None:
    """The summed loss of ``targets`` ``[K]`` at the positions ``wanted`` ``[B, T - 1]``; None where the model does not lend itself to it.

    Between decoder and head the hidden states of these positions take the place of all, ``[1, K, H]``, and what follows is the model's own forward
    pass: tied or adapted heads, scaled and capped logits are what they are in it.
    """
    num_tokens = len(targets)
    chunks = min(num_tokens, math.ceil(num_tokens * int(base_of(model).config.get_text_config().vocab_size) * 4 / CHUNK_BYTES))
    chosen: list[tuple[torch.Tensor, Any]] = []  # the hidden states, and the class of what the decoder gives

    def choose(module: Any, args: Any, out: Any) -> Any:
        hidden = getattr(out, "last_hidden_state", None)
        if hidden is not None and hidden.shape[:2] == inputs["input_ids"].shape and not chosen:
            trained = hidden[:, :-1][wanted][None]
            chosen.append((trained, type(out)))
            # Of a head that will run in chunks this pass computes one position, to no use.
            out.last_hidden_state = trained if chunks == 1 else trained[:, :1].detach()
        return out

    hook = decoder.register_forward_hook(choose)
    try:
        logits = model(**inputs).logits
    finally:
        hook.remove()
    if not chosen:  # its decoder is another one: these are the logits of all positions
        return F.cross_entropy(logits[:, :-1][wanted].float(), targets, reduction="sum")
    if logits.shape[:2] != (1, num_tokens if chunks == 1 else 1):
        return None
    if chunks == 1:
        return F.cross_entropy(logits[0].float(), targets, reduction="sum")

    (trained, kind), = chosen

    def part(hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        logits = _finished(model, decoder, kind(last_hidden_state=hidden[None]), inputs["input_ids"])
        return F.cross_entropy(logits.float(), ids, reduction="sum")

    parts = zip(trained[0].tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    losses = [checkpoint(part, hidden, ids, use_reentrant=False) for hidden, ids in parts]
    return torch.stack(losses).sum()


def _finished(model: Any, decoder: torch.nn.Module, out: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """Logits ``[K, V]`` of the hidden states ``[1, K, H]`` in ``out``: the model's own forward pass, with ``out`` for what its decoder gives."""
    own = decoder.__dict__.get("forward")  # an engine's or a library's replacement, if there is one
    decoder.forward = lambda *args, **kwargs: out  # type: ignore[method-assign]
    try:
        return model(input_ids=input_ids[:1, :1], use_cache=False).logits[0]  # type: ignore[no-any-return]
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own  # type: ignore[method-assign]
