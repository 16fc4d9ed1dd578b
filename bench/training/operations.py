"""What a step needs at least: its operations, and the bytes that stay. From config.json and the lengths of the examples alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LORA_RANK, LORA_ALPHA = 16, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder with gated MLPs and without biases (the Llama family). ``matrices``: (in, out) of each linear module of one layer."""

    layers: int
    hidden: int
    vocab: int
    heads: int
    head_dim: int
    matrices: tuple[tuple[int, int], ...]
    tied: bool

    @property
    def body(self) -> int:
        """Weights of the layers' matrices."""
        return self.layers * sum(i * o for i, o in self.matrices)

    @property
    def norms(self) -> int:
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        return self.body + self.norms + self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def adapter(self) -> int:
        """Weights of rank-16 matrices beside every matrix of the layers."""
        return self.layers * LORA_RANK * sum(i + o for i, o in self.matrices)


def shape_of(config: Mapping[str, Any]) -> Shape:
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    heads = int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or hidden // heads)
    q, kv = heads * head_dim, int(config.get("num_key_value_heads") or heads) * head_dim
    return Shape(layers=int(config["num_hidden_layers"]), hidden=hidden, vocab=int(config["vocab_size"]), heads=heads, head_dim=head_dim,
                 matrices=((hidden, q), (hidden, kv), (hidden, kv), (q, hidden), (hidden, inner), (hidden, inner), (inner, hidden)),
                 tied=bool(config.get("tie_word_embeddings", False)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Floating-point operations (a multiplication and an addition are two) of one optimizer step."""

    body: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        return self.body + self.attention + self.head

    def of_computed(self, computed: int, represented: int) -> float:
        """Where common prefixes are computed once: body and attention in proportion to the tokens computed (attention by this rule is a
        little too low, since what is left out stands in front, where a token sees few others). The head's positions stay."""
        return (self.body + self.attention) * computed / represented + self.head


def useful(shape: Shape, lengths: Iterable[int], trained: int, method: str) -> Operations:
    """What the gradient of ``trained`` tokens in examples of these lengths takes, computed token by token without sharing anything.

    A weight costs 2 operations a token forward, 2 for the gradient of its input and, where it trains, 2 for its own: 6 for full, 4 for what
    LoRA freezes and 6 for its adapter. Attention: a token's products with the tokens up to itself, queries with keys and probabilities
    with values, 2 operations each forward, twice that backward. The head only at positions that predict a trained token. Norms, softmax and
    the optimizer are not counted, nor is anything that is computed again.
    """
    lengths = list(lengths)
    tokens = sum(lengths)
    pairs = sum(n * (n + 1) // 2 for n in lengths)
    width = shape.heads * shape.head_dim
    per_weight = 6 if method == "full" else 4
    body = per_weight * shape.body * tokens + (0 if method == "full" else 6 * shape.adapter * tokens)
    return Operations(body=body, attention=3 * 2 * 2 * shape.layers * width * pairs, head=per_weight * shape.vocab * shape.hidden * trained)


def standing_bytes(shape: Shape, method: str) -> int:
    """Weights in float32, gradients of what trains, and AdamW's two moments of it."""
    if method == "full":
        return shape.parameters * 4 * 4
    return shape.parameters * 4 + shape.adapter * 4 * 4


def is_close(losses: Sequence[float], reference: Sequence[float]) -> float:
    """The largest relative difference at any step that both took."""
    return max((abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=False)), default=0.0)
