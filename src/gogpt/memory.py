"""Bytes of one process at the peak of a step, from shapes, term by term. docs/memory.md has the formula beside what was measured.

Elements that a decoder layer keeps for its backward pass, a token (H hidden, Q and K the widths of query and of key heads, I of the MLP):

==========================================  =======================================================
``train.fused``                             2 H (inputs of both norms) + 2 Q (query, result) + 2 K
                                            + 2 I (gate, up) + query heads (log-sum-exp)
transformers' own modules                   6 H (each norm's input, normed input and result)
                                            + 2 Q + 2 K + 4 I (gate, its activation, up, product)
``train.gradient_checkpointing``            H, and one layer whole while it is computed again
==========================================  =======================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gogpt.config import RunConfig
from gogpt.modelfiles import Checkpoint, count_trainable
from gogpt.quantisation import split_modules, weight_bytes

WEIGHT_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNTIME = 640 << 20
"""Resident before the model is loaded, on a CPU: Python, torch, transformers and the run's data (bench/plan.py measures it). A GPU's allocator has none of it."""
SLACK = 0.35
"""Of activations, on a CPU: blocks that the C library freed and could not use again (bench/plan.py measures what comes out)."""
CHUNK_BYTES = 1 << 28
"""Of float32 logits at once, at most. Fewer and larger chunks write the head's gradient fewer times; a head that is more than one product computes each chunk again in
the backward pass (``loss``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The largest micro-batch: ``tokens`` computed, in rows of ``length``, at ``places`` of which something is predicted. ``again``: a step has several, so that
    gradients stand while the next one is computed. ``by_stretches``: attention without a mask."""

    tokens: int
    length: int
    places: int
    again: bool
    by_stretches: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Estimated bytes of one process at the peak of a step. ``gradients``: those that stand at that moment; ``activations``: what the backward pass keeps, and what it
    works on; ``runtime``: the process without a model (0 on a GPU)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    runtime: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    hidden: int
    layers: int
    query: int
    key: int
    heads: int
    inner: int
    vocab: int


def _sizes(checkpoint: Checkpoint) -> _Sizes:
    hidden = checkpoint.number("hidden_size", "n_embd") or 0
    heads = checkpoint.number("num_attention_heads", "n_head") or 1
    head_dim = checkpoint.number("head_dim") or (hidden // heads if heads else 0)
    kv = checkpoint.number("num_key_value_heads") or heads
    return _Sizes(hidden=hidden, layers=checkpoint.number("num_hidden_layers", "n_layer") or 0, query=heads * head_dim, key=kv * head_dim, heads=heads,
                  inner=checkpoint.number("intermediate_size", "n_inner") or 4 * hidden, vocab=checkpoint.number("vocab_size") or 0)


def layer_elements(checkpoint: Checkpoint, *, fused: bool, rank: int = 0) -> int:
    """Elements that one layer keeps, a token; ``rank``: of the adapters on its linear layers (7, or as many as its checkpoint has)."""
    s = _sizes(checkpoint)
    adapted = round(len(checkpoint.linear_modules()) / max(1, s.layers)) if rank else 0
    own = 2 * s.hidden + 2 * s.query + 2 * s.key + 2 * s.inner + s.heads if fused else 6 * s.hidden + 2 * s.query + 2 * s.key + 4 * s.inner
    return own + adapted * rank


def activations(config: RunConfig, checkpoint: Checkpoint, work: Work, size: int, *, fused: bool) -> tuple[int, int]:
    """Bytes that stand when the backward pass begins, and bytes that it works on at its end (one layer's gradients). ``size``: bytes of an element."""
    s = _sizes(checkpoint)
    lora = config.method.kind in ("lora", "qlora")
    layer = work.tokens * layer_elements(checkpoint, fused=fused, rank=config.method.rank if lora else 0) * size
    trained = s.layers if config.method.kind != "freeze" else min(s.layers, config.method.trainable_layers)
    kept = s.layers * work.tokens * s.hidden * size if config.train.gradient_checkpointing else trained * layer
    passing = work.tokens * (3 * s.inner + 3 * s.hidden) * size  # a layer's gradients on their way
    mask = 0 if work.by_stretches else math.ceil(work.tokens / max(1, work.length)) * work.length**2 * size
    # The head: hidden states of trained places and their gradients, and the logits of a chunk, which become their gradient in place.
    chunk = min(work.places * s.vocab * 4, CHUNK_BYTES)
    head = 2 * work.places * s.hidden * size + chunk
    again = layer if config.train.gradient_checkpointing else 0
    return kept + work.tokens * s.hidden * size + mask + max(head, again + passing), passing + again


def estimate_memory(config: RunConfig, checkpoint: Checkpoint, dtype: str, work: Work, *, fused: bool, runtime: int = 0) -> Memory:
    """Bytes at the peak of a step.

    weights: parameters x bytes of their dtype; of modules in 4 bits what ``quantisation.quantised_bytes`` says, and the largest matrix written out.
    optimizer: AdamW 8 bytes a trainable parameter, SGD 0, Adafactor about 0. Gradients, 4 bytes a trainable parameter, come while activations go: the
    peak is where the backward pass begins, with the head's gradient alone, or where it ends, with all of them, whichever is more; with several micro-batches
    a step those of the ones before stand all the while. What an engine shards, each process holds its part of.
    """
    trainable = count_trainable(checkpoint, config.method)
    size = 4 if config.train.precision == "fp32" or (dtype == "float32" and config.train.precision == "auto") else 2
    weights, in_4bit = weight_bytes(checkpoint, config.method, WEIGHT_BYTES[dtype])
    unpacked = max((math.prod(s) for s in split_modules(checkpoint)[0].values()), default=0) * WEIGHT_BYTES[dtype] if in_4bit else 0
    state = {"adamw": 8, "sgd": 0, "adafactor": 0}[config.train.optimizer]
    parallel, world = config.parallel, config.parallel.world_size
    whole = parallel.engine == "fsdp" or parallel.stage == 3
    lora = config.method.kind in ("lora", "qlora")
    every = trainable * 4 / (world if whole or parallel.stage == 2 else 1)
    s = _sizes(checkpoint)
    first = 0 if lora else min(every, s.vocab * s.hidden * 4)
    begin, end = activations(config, checkpoint, work, size, fused=fused)
    if runtime:  # on a CPU
        begin, end = round(begin * (1 + SLACK)), round(end * (1 + SLACK))
    if work.again or parallel.engine != "ddp" or world > 1:  # engines keep their own buffers of them
        gradients, acts = every + (first if work.again else 0), begin
    elif begin + first >= end + every:
        gradients, acts = first, begin
    else:
        gradients, acts = every, end
    return Memory(weights=math.ceil((weights + (trainable * 4 if lora else 0)) / (world if whole else 1)), gradients=math.ceil(gradients),
                  optimizer=math.ceil(trainable * state / (world if whole or parallel.stage >= 1 else 1)), activations=math.ceil(acts + unpacked), runtime=runtime)
