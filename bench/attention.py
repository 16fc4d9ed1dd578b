"""Packed rows under the explicit mask against one document at a time: the same rows, the same model, in turns.

    PYTHONPATH=src OMP_NUM_THREADS=1 python bench/attention.py

Shapes of SmolLM2-135M (hidden 576, 9 heads over 3 key heads) with few layers and a small vocabulary, random weights, float32. Every round
takes each way once, forward and backward; printed are the medians and their ratio, and how far the gradients of the two ways differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gogpt.attention import DOCUMENTS
from gogpt.batches import TENSORS
from gogpt.loss import summed_loss
from gogpt.packing import batch_rows, pack
from gogpt.records import Example, Origin

VOCAB = 512


def packed_rows(count: int, length: int, capacity: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """``count`` documents of ``length`` tokens on average, packed into rows of ``capacity``: one batch ``[1, T]`` each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(length // 2, length * 3 // 2, count)
    examples = []
    for n in sizes:
        ids = rng.integers(0, VOCAB, n).astype(np.int32)
        examples.append(Example(input_ids=ids, labels=ids, origin=Origin(path="random", row=1)))
    batches = [batch_rows([[examples[i] for i in b]], pad_id=0) for b in pack(sizes, capacity)]
    return [{name: torch.from_numpy(getattr(b, name)) for name in TENSORS} for b in batches]


def step(model: Any, batches: list[dict[str, torch.Tensor]]) -> tuple[float, torch.Tensor]:
    """Seconds of all batches, and the gradient of the first layer's queries."""
    model.zero_grad(set_to_none=True)
    started = time.perf_counter()
    for batch in batches:
        summed_loss(model, batch, torch.float32)[0].backward()
    return time.perf_counter() - started, model.model.layers[0].self_attn.q_proj.weight.grad.clone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--documents", type=int, default=24)
    parser.add_argument("--capacity", type=int, default=1024)
    parser.add_argument("--lengths", type=int, nargs="+", default=[80, 400])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=576, intermediate_size=1536, num_hidden_layers=asked.layers,
                                         num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=asked.capacity))
    for length in asked.lengths:
        batches = packed_rows(max(2, asked.documents * asked.lengths[0] // length), length, asked.capacity, seed=length)
        tokens = sum(int((b["document_ids"] >= 0).sum()) for b in batches)
        seconds: dict[str, list[float]] = {"sdpa": [], DOCUMENTS: []}
        gradients = {}
        for turn in range(asked.rounds + 1):
            for name, taken in seconds.items():
                model.set_attn_implementation(name)
                spent, gradients[name] = step(model, batches)
                if turn:  # the first round pays for warming up
                    taken.append(spent)
        masked, apart = (statistics.median(taken) for taken in seconds.values())
        off = float((gradients["sdpa"] - gradients[DOCUMENTS]).norm() / gradients["sdpa"].norm())
        print(f"documents of {length} tokens on average, {len(batches)} rows, {tokens} tokens: explicit mask {tokens / masked:.0f} tokens/s, by document "
              f"{tokens / apart:.0f}, ratio {masked / apart:.2f}; gradients differ by {off:.1e}")


if __name__ == "__main__":
    main()
