"""Packed rows under the explicit mask against one document at a time; and the head on all columns, on trained positions, in chunks.

    PYTHONPATH=src OMP_NUM_THREADS=1 python bench/attention.py

Shapes of SmolLM2-135M (hidden 576, 9 heads over 3 key heads) with few layers, random weights, float32; a small vocabulary for attention, its own
for the head. Every round takes each way once, forward and backward, on the same rows; printed are the medians and their ratio, how far gradients
differ, and for the head the bytes that the forward pass keeps for the backward pass.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gogpt import loss
from gogpt.attention import DOCUMENTS
from gogpt.batches import tensors_of
from gogpt.packing import batch_rows, pack
from gogpt.records import IGNORE_INDEX, Example, Origin

VOCAB, WHOLE_VOCAB = 512, 49_152
TRAINED = 0.3
"""Share of a row that the head's part trains, each row elsewhere."""


def packed_rows(count: int, length: int, capacity: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """``count`` documents of ``length`` tokens on average, packed into rows of ``capacity``: one batch ``[1, T]`` each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(length // 2, length * 3 // 2, count)
    examples = []
    for n in sizes:
        ids = rng.integers(0, VOCAB, n).astype(np.int32)
        examples.append(Example(input_ids=ids, labels=ids, origin=Origin(path="random", row=1)))
    batches = [batch_rows([[examples[i] for i in b]], pad_id=0) for b in pack(sizes, capacity)]
    return [tensors_of(b) for b in batches]


def step(model: Any, batches: list[dict[str, torch.Tensor]], of: str) -> tuple[float, torch.Tensor]:
    """Seconds of all batches, and the gradient of the weight ``of``."""
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    for batch in batches:
        loss.summed_loss(model, batch, torch.float32)[0].backward()
    return time.perf_counter() - started, model.get_parameter(of).grad.clone()


def build(vocab: int, layers: int, positions: int) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
                                        num_key_value_heads=3, max_position_embeddings=positions))


def attention(asked: argparse.Namespace) -> None:
    model = build(VOCAB, asked.layers, asked.capacity)
    for length in asked.lengths:
        batches = packed_rows(max(2, asked.documents * asked.lengths[0] // length), length, asked.capacity, seed=length)
        tokens = sum(int((b["document_ids"] >= 0).sum()) for b in batches)
        seconds: dict[str, list[float]] = {"sdpa": [], DOCUMENTS: []}
        gradients = {}
        for turn in range(asked.rounds + 1):
            for name, taken in seconds.items():
                model.set_attn_implementation(name)
                spent, gradients[name] = step(model, batches, "model.layers.0.self_attn.q_proj.weight")
                if turn:  # the first round pays for warming up
                    taken.append(spent)
        masked, apart = (statistics.median(taken) for taken in seconds.values())
        off = float((gradients["sdpa"] - gradients[DOCUMENTS]).norm() / gradients["sdpa"].norm())
        print(f"documents of {length} tokens on average, {len(batches)} rows, {tokens} tokens: explicit mask {tokens / masked:.0f} tokens/s, by document "
              f"{tokens / apart:.0f}, ratio {masked / apart:.2f}; gradients differ by {off:.1e}")


def head(asked: argparse.Namespace) -> None:
    """Four rows of 128 tokens, trained in different places."""
    model = build(WHOLE_VOCAB, 1, 128)
    rng = np.random.default_rng(0)
    rows = []
    for row in range(4):
        ids = rng.integers(0, WHOLE_VOCAB, 128).astype(np.int32)
        begin, many = 1 + row * 25, round(TRAINED * 128)
        labels = np.full(128, IGNORE_INDEX, dtype=np.int32)
        labels[begin : begin + many] = ids[begin : begin + many]
        rows.append([Example(input_ids=ids, labels=labels, origin=Origin(path="random", row=row + 1))])
    batch = batch_rows(rows, pad_id=0)
    batches = [tensors_of(batch)]
    own, usual = loss.decoder_of, loss.CHUNK_BYTES
    ways = {"columns": (lambda model: None, usual), "positions": (own, usual), "chunks of 40 positions": (own, 40 * WHOLE_VOCAB * 4)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    weights = {p.data_ptr() for p in model.parameters()}
    kept = dict.fromkeys(ways, 0)
    gradients = {}
    for turn in range(asked.rounds + 1):
        for name, (loss.decoder_of, loss.CHUNK_BYTES) in ways.items():
            with torch.autograd.graph.saved_tensors_hooks(lambda t, name=name: _counted(kept, name, t, weights), lambda t: t):  # type: ignore[misc]
                spent, gradients[name] = step(model, batches, "lm_head.weight")
            if turn:
                seconds[name].append(spent)
    loss.decoder_of, loss.CHUNK_BYTES = own, usual
    first = next(iter(ways))
    for name in ways:
        off = float((gradients[first] - gradients[name]).norm() / gradients[first].norm())
        print(f"head on {name}: ratio {statistics.median(seconds[first]) / statistics.median(seconds[name]):.2f}, kept {kept[name] / (asked.rounds + 1) / 2**20:.0f} MiB; "
              f"gradients differ by {off:.1e}")


def _counted(kept: dict[str, int], name: str, tensor: torch.Tensor, weights: set[int]) -> torch.Tensor:
    """What is kept beside the weights themselves."""
    if tensor.data_ptr() not in weights:
        kept[name] += tensor.numel() * tensor.element_size()
    return tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--capacity", type=int, default=1024)
    parser.add_argument("--lengths", type=int, nargs="+", default=[80, 400])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    attention(asked)
    head(asked)


if __name__ == "__main__":
    main()
