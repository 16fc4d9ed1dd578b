"""Whether examples that begin alike may be trained as trees, and what it saves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.config import RunConfig
from gogpt.data.store import ExampleSet
from gogpt.errors import GogptError
from gogpt.modelfiles import Checkpoint
from gogpt.packing import Bins
from gogpt.trees import StepShape, grow, step_groups

OTHER_SCORES = ("attn_logit_softcapping", "attn_logit_softcap", "attention_chunk_size", "alibi", "is_encoder_decoder", "add_cross_attention")
"""Settings of a model under which its attention is more than a causal softmax of scaled products."""
EXPERTS = "a mixture of experts balances its load over the tokens that are computed"
NUM_SAMPLED = 6
"""Steps that are laid out to see what sharing saves."""
ENOUGH = 0.95
"""Computed over represented tokens: above it ``auto`` shares nothing."""


def why_not_causal(config: Mapping[str, Any]) -> str | None:
    """Why the layers of a model, by its configuration, are more than full causal attention and functions of single tokens; None where they are not."""
    if found := next((name for name in OTHER_SCORES if config.get(name)), None):
        return f"{found} is set"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return "it attends within a window"
    kinds = {str(kind) for name in ("layer_types", "layers_block_type") for kind in config.get(name) or ()}
    if kinds - {"full_attention"}:
        return f"it has layers of type {', '.join(sorted(kinds - {'full_attention'}))}"
    if state := next((name for name in config if name.startswith(("mamba_", "ssm_", "linear_", "conv_kernel"))), None):
        return f"{state}: its layers carry a state"
    return None


def why_apart(config: RunConfig, checkpoint: Checkpoint) -> str | None:
    """Why the examples of this recipe cannot be trained as trees; None where the gradient is the same."""
    if config.stage == "pretrain":
        return "stage pretrain: rows are cut from documents"
    if config.data.streaming:
        return "data.streaming: rows are made while reading"
    if not config.data.packing:
        return "data.packing is false"
    if config.method.kind in ("lora", "qlora") and config.method.dropout > 0:
        return "method.dropout: each example would draw its own"
    if config.model.attention == "flash_attention_2":
        return "model.attention: flash_attention_2 takes no mask"
    if checkpoint.has_experts:
        return EXPERTS
    return why_model_apart(checkpoint.text_config)


def why_model_apart(config: Mapping[str, Any]) -> str | None:
    """Why a model of this configuration cannot be trained on trees; None where it can."""
    if drops := next((k for k, v in config.items() if ("dropout" in k or k.endswith("_pdrop")) and isinstance(v, float) and v > 0 and "classifier" not in k), None):
        return f"the model drops out: {drops}"
    if any(config.get(k) for k in ("num_experts", "num_local_experts", "n_routed_experts")):
        return EXPERTS
    return why_not_causal(config)


def quadratic_of(checkpoint: Checkpoint) -> float:
    """Tokens that a token must see for its attention to cost as much as its products with the weights: 6 N against 12 x layers x width of the heads x tokens."""
    hidden = checkpoint.number("hidden_size", "n_embd") or 0
    heads = checkpoint.number("num_attention_heads", "n_head") or 1
    width = (checkpoint.number("head_dim") or hidden // heads) * heads
    layers = checkpoint.number("num_hidden_layers", "n_layer") or 0
    body = sum(math.prod(shape) for name, (shape, _) in checkpoint.tensors.items() if "embed" not in name and "lm_head" not in name and "wte" not in name)
    return body / (2 * layers * width) if layers and width else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What a few steps spread over the run look like: ``share``, computed over represented tokens; of the largest micro-batch the ``tokens`` computed and the ``places``
    at which something is predicted; ``turns``: the most micro-batches that a process has in a step."""

    share: float
    tokens: int
    places: int
    turns: int


def sample_steps(bins: Bins, order: npt.NDArray[np.int64], examples: ExampleSet, shape: StepShape, batch_size: int) -> Sampled:
    """Lays out up to NUM_SAMPLED steps."""
    steps = math.ceil(len(order) / batch_size)
    represented = computed = turns = 0
    largest = (0, 0)
    for step in sorted({round(k * (steps - 1) / max(1, NUM_SAMPLED - 1)) for k in range(NUM_SAMPLED)}) if steps else ():
        rows = [bins[int(r)] for r in order[step * batch_size : (step + 1) * batch_size]]
        some = {i: examples[i] for row in rows for i in row}
        groups = step_groups(rows, some, shape)
        forests = [grow([some[i] for i in members], shared) for members, shared in groups]
        represented += sum(f.tokens for f in forests)
        computed += sum(f.computed for f in forests)
        turns = max(turns, math.ceil(len(groups) / shape.processes / shape.rows))
        largest = max([largest, *((f.computed, np.unique(f.at).size) for f in forests)])
    return Sampled(share=computed / represented if represented else 1.0, tokens=largest[0] * shape.rows, places=largest[1] * shape.rows, turns=turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """``share``: computed over represented tokens, 1 where nothing is shared. ``why``: in words, why it is not ``on``; "" where it is."""

    on: bool
    share: float = 1.0
    why: str = ""


def decide(config: RunConfig, checkpoint: Checkpoint, sampled: Callable[[bool], Sampled]) -> tuple[Sharing, Sampled | None]:
    """Whether the run shares prefixes, and its sampled steps (None where steps are not laid out). ``sampled``: they, with or without sharing.

    Raises GogptError CFG234."""
    asked = config.train.shared_prefixes
    why = "train.shared_prefixes: off" if asked == "off" else why_apart(config, checkpoint)
    if why is not None and asked == "on":
        raise refused(why)
    laid_out = config.data.packing and config.stage == "sft" and not config.data.streaming
    if why is not None:
        return Sharing(on=False, why=why), sampled(False) if laid_out else None
    found = sampled(True)
    if asked == "auto" and found.share > ENOUGH:
        return Sharing(on=False, why=f"common prefixes are {1 - found.share:.1%} of the tokens, less than {1 - ENOUGH:.0%}"), sampled(False)
    return Sharing(on=True, share=found.share), found


def refused(why: str) -> GogptError:
    return GogptError("CFG234", f"train.shared_prefixes: on, but prefixes cannot be shared here: {why}", where="recipe",
                      expected="full causal attention, no dropout, packed conversations", fix="train.shared_prefixes: auto, which trains the examples apart")
