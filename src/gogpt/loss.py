"""The loss on trained positions only."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule
from torch.utils.checkpoint import checkpoint

from gogpt.engines import unwrapped
from gogpt.fused import PlainHead, linear_cross_entropy, plain_head
from gogpt.memory import CHUNK_BYTES
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


def model_inputs(model: Any, batch: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Keyword arguments of the forward pass, as training has them."""
    return forward_inputs(batch, dtype, getattr(base_of(model).config, "_attn_implementation", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What a micro-batch ``[B, T]`` trains, as a list: position ``places[index[e]]`` of the flattened rows predicts ``targets[e]``, ``weights[e]`` times.

    ``places``: ``[K]``, ascending, each once; ``index``, ``targets``, ``weights``: ``[E]``, by ascending place. ``plain``: K = E and every weight is 1.
    """

    places: torch.Tensor
    index: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    count: int
    plain: bool


def entries_of(batch: Mapping[str, Any]) -> Entries:
    """Of rows with ``at``, ``targets`` and ``weights`` (see ``trees.Forest``), or with unshifted ``labels`` ``[B, T]``: position t predicts ``labels[t + 1]``."""
    if "at" in batch:
        at, targets, weights = batch["at"], batch["targets"], batch["weights"]
        places, index = torch.unique_consecutive(at, return_inverse=True)
        return Entries(places=places, index=index, targets=targets, weights=weights.float(), count=int(batch["trained"]),
                       plain=len(places) == len(at) == int(batch["trained"]))
    labels = batch["labels"]
    next_ones = F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX).flatten()
    places = (next_ones != IGNORE_INDEX).nonzero().flatten()
    return Entries(places=places, index=torch.arange(len(places), device=labels.device), targets=next_ones[places],
                   weights=torch.ones(len(places), device=labels.device), count=len(places), plain=True)


def summed_loss(model: Any, batch: Mapping[str, Any], dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    """Sum of the cross-entropy over the trained tokens of a micro-batch, in float32, and their number (of shared rows: those of all examples).

    The head runs only on positions that predict a trained token: K of them give logits ``[K, V]``, in chunks, whose gradient is made while they are there
    (``fused.head``); of a head that is more than one product, in chunks of CHUNK_BYTES that are computed again in the backward pass. Inside an engine (DDP, DeepSpeed, FSDP2), whose wrapper must
    see one whole forward pass, it runs on every position at which some row predicts one, ``[B, K', V]``, and in one piece. Without any
    trained token the sum is 0 and still has a gradient.
    """
    entries = entries_of(batch)
    inputs = model_inputs(model, batch, dtype)
    length = inputs["input_ids"].shape[1]
    if entries.count and takes_positions(model) and (decoder := decoder_of(model)) is not None:
        loss = _loss_at(model, decoder, inputs, entries)
        if loss is not None:
            return loss, entries.count
    columns = torch.unique(entries.places % length)
    if takes_positions(model) and 0 < columns.numel() < length:
        logits = model(**inputs, logits_to_keep=columns).logits
        logits = logits[entries.places // length, torch.searchsorted(columns, entries.places % length)]
    else:
        logits = model(**inputs).logits.flatten(0, 1)[entries.places]
    return cross_entropy(logits, entries), entries.count


def cross_entropy(logits: torch.Tensor, entries: Entries) -> torch.Tensor:
    """Of logits ``[K, V]`` at the entries' places: the weighted sum over their targets, in float32."""
    logits = logits.float()
    if entries.plain:
        return F.cross_entropy(logits, entries.targets, reduction="sum")
    # A position's log-sum-exp is the same for all of its targets.
    losses = logits.logsumexp(-1)[entries.index] - logits[entries.index, entries.targets]
    return (losses * entries.weights).sum()


def decoder_of(model: Any) -> torch.nn.Module | None:
    """What stands before the head, of a model that is in no engine; None of others."""
    if unwrapped(model) is not model or isinstance(model, FSDPModule):
        return None
    base = base_of(model)
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    return decoder if isinstance(decoder, torch.nn.Module) and decoder is not base else None


def _loss_at(model: Any, decoder: torch.nn.Module, inputs: dict[str, Any], entries: Entries) -> torch.Tensor | None:
    """The summed loss of ``entries``; None where the model does not lend itself to it.

    Between decoder and head the hidden states of their places take the place of all, ``[1, K, H]``, and what follows is the model's own forward
    pass: tied or adapted heads, scaled and capped logits are what they are in it.
    """
    num_places = len(entries.places)
    head = head_of(model)
    chunks = num_places + 1 if head is not None else min(num_places, math.ceil(num_places * int(base_of(model).config.get_text_config().vocab_size) * 4 / CHUNK_BYTES))
    chosen: list[tuple[torch.Tensor, Any]] = []  # the hidden states, and the class of what the decoder gives

    def choose(module: Any, args: Any, out: Any) -> Any:
        hidden = getattr(out, "last_hidden_state", None)
        if hidden is not None and hidden.shape[:2] == inputs["input_ids"].shape and not chosen:
            trained = hidden.flatten(0, 1).index_select(0, entries.places)[None]
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
        return cross_entropy(logits.flatten(0, 1)[entries.places], entries)
    if logits.shape[:2] != (1, num_places if chunks == 1 else 1):
        return None
    if head is not None:
        return linear_cross_entropy(chosen[0][0][0], head.weight, head.bias, entries.index, entries.targets, entries.weights, scale=head.scale, softcap=head.softcap)
    if chunks == 1:
        return cross_entropy(logits[0], entries)

    (trained, kind), = chosen

    def part(hidden: torch.Tensor, some: Entries) -> torch.Tensor:
        return cross_entropy(_finished(model, decoder, kind(last_hidden_state=hidden[None]), inputs["input_ids"]), some)

    parts = zip(trained[0].tensor_split(chunks), split_entries(entries, chunks), strict=True)
    losses = [checkpoint(part, hidden, some, use_reentrant=False) for hidden, some in parts]
    return torch.stack(losses).sum()


_heads: WeakKeyDictionary[torch.nn.Module, tuple[torch.nn.Module, PlainHead | None]] = WeakKeyDictionary()
"""Of each model the head that was looked at, and what it was found to be."""


def head_of(model: Any) -> PlainHead | None:
    """The head as one product, where it is proven to be that and gradients that come before any loss scale cannot be lost (float16); None else."""
    base = base_of(model)
    head = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if head is None or (torch.is_autocast_enabled() and torch.get_autocast_dtype(next(base.parameters()).device.type) == torch.float16):
        return None
    known = _heads.get(base)
    if known is None or known[0] is not head:
        known = _heads[base] = (head, plain_head(model))
    found = known[1]
    if found is None or found.weight.dtype == torch.float16 or head._forward_hooks or head._forward_pre_hooks:
        return None
    return found if found.weight is head.weight else None


def split_entries(entries: Entries, chunks: int) -> Iterator[Entries]:
    """The entries of each of ``chunks`` parts of the places, cut as ``tensor_split`` cuts these."""
    first = 0
    for places in entries.places.tensor_split(chunks):
        last = first + len(places)
        a, b = torch.searchsorted(entries.index, torch.tensor([first, last], device=entries.index.device)).tolist()
        yield Entries(places=places, index=entries.index[a:b] - first, targets=entries.targets[a:b], weights=entries.weights[a:b],
                      count=entries.count, plain=entries.plain)
        first = last


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
