"""A step with our functions against transformers' own modules: times as ratios, saved bytes, and how far gradients differ.

    PYTHONPATH=src OMP_NUM_THREADS=1 python bench/fused.py

Shapes of SmolLM2-135M (hidden 576, 9 heads over 3 key heads, MLP 1,536, vocabulary 49,152) with few layers, random weights, float32; one packed row, of which a
share trains. Every round takes each way once, forward and backward: transformers' modules with the head and F.cross_entropy on trained positions; our modules
with the same head; our modules with linear_cross_entropy. Saved bytes are those that autograd keeps beside the weights, each storage once: of one layer (the
difference of two models that differ by a layer) and of the whole step. Times are CPU seconds of the process, in which a busy machine shows little.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from gogpt.attention import DOCUMENTS
from gogpt.fused import fuse, keep_memory, linear_cross_entropy, plain_head, unfuse
from gogpt.fused.products import Weights, linear

VOCAB = 49_152
WAYS = ("transformers", "modules", "modules and head")


def build(layers: int, method: str) -> Any:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
                                         num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True))
    model.set_attn_implementation(DOCUMENTS)
    if method == "full":
        return model
    adapted: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return adapted


def row(tokens: int, documents: int, trained: float) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Inputs of the decoder, the trained positions and their targets."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCAB, (1, tokens), generator=draw)
    owner = torch.arange(tokens) * documents // tokens
    places = torch.cat([torch.arange(int((owner == d).sum())) for d in range(documents)])
    at = (torch.rand(tokens - 1, generator=draw) < trained).nonzero().flatten()
    return {"input_ids": ids, "position_ids": places[None], "attention_mask": owner[None, None, None, :], "use_cache": False}, at, ids[0, at + 1]


def forward(model: Any, inputs: dict[str, torch.Tensor], at: torch.Tensor, targets: torch.Tensor, *, own_head: bool) -> torch.Tensor:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = base.get_decoder()(**inputs).last_hidden_state[0].index_select(0, at)
    if not own_head:
        return F.cross_entropy(base.lm_head(hidden).float(), targets, reduction="sum") / len(at)
    entries = torch.arange(len(at))
    return linear_cross_entropy(hidden, base.lm_head.weight, None, entries, targets, torch.ones(len(at))) / len(at)


def saved_bytes(model: Any, run: Callable[[], Any]) -> int:
    """Of tensors kept for the backward pass, each storage once; weights are none."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes(), tensor  # held too: its address is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = run()
    del out
    return sum(size for size, _ in held.values())


def steps(asked: argparse.Namespace, method: str) -> None:
    data = row(asked.tokens, asked.documents, asked.trained)
    model, more = build(asked.layers, method), build(asked.layers + 1, method)
    wanted = [p for p in model.parameters() if p.requires_grad]
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    grads: dict[str, list[torch.Tensor]] = {}
    kept: dict[str, tuple[int, int]] = {}
    for turn in range(asked.rounds + 1):
        for way in WAYS:
            if way == "transformers":
                unfuse(model), unfuse(more)
            elif way == "modules":
                fuse(model), fuse(more)
            own_head = way == "modules and head"
            if turn == 0:
                whole, taller = (saved_bytes(m, lambda m=m, h=own_head: forward(m, *data, own_head=h)) for m in (model, more))
                kept[way] = whole, taller - whole
            for parameter in wanted:
                parameter.grad = None
            started = time.process_time()
            forward(model, *data, own_head=own_head).backward()
            if turn:  # the first round pays for warming up
                seconds[way].append(time.process_time() - started)
            grads[way] = [p.grad.clone() for p in wanted if p.grad is not None]
    assert plain_head(model) is not None
    for way in WAYS:
        ratio = statistics.median(a / b for a, b in zip(seconds[WAYS[0]], seconds[way], strict=True))
        off = max(float((a - b).norm() / a.norm().clamp_min(1e-12)) for a, b in zip(grads[WAYS[0]], grads[way], strict=True))
        print(f"{method}, {asked.tokens} tokens, {asked.layers} layers, {way}: {statistics.median(seconds[way]):.2f} s, ratio {ratio:.2f}; saved {kept[way][0] / 2**20:.0f} MiB, "
              f"of a layer {kept[way][1] / 2**20:.1f} MiB ({kept[way][1] / kept[WAYS[0]][1]:.2f}); gradients differ by {off:.1e}")


def adapters(rounds: int) -> None:
    """A LoRA layer, forward and backward: as PEFT has it, in one function, and with the adapter added to its matrix, forward and again backward."""
    for tokens in (128, 512, 2048):
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(tokens, 576, generator=draw, requires_grad=True)
        weight = torch.randn(1536, 576, generator=draw)
        a, b = torch.randn(16, 576, generator=draw, requires_grad=True), torch.randn(1536, 16, generator=draw, requires_grad=True)
        g = torch.randn(tokens, 1536, generator=draw)
        layer = Weights(weight=weight, a=a, b=b, scale=2.0)
        taken: dict[str, list[float]] = {"PEFT": [], "ours": [], "added": []}
        for turn in range(rounds + 1):
            for way, times in taken.items():
                started = time.process_time()
                if way == "added":
                    with torch.no_grad():
                        F.linear(x, torch.addmm(weight, b, a, alpha=2.0))
                        torch.mm(g, torch.addmm(weight, b, a, alpha=2.0))
                        torch.mm(torch.mm(g, b).mul_(2.0).t(), x), torch.mm(g.t(), torch.mm(x, a.t())).mul_(2.0)
                else:
                    out = linear(x, layer, torch.float32) if way == "ours" else F.linear(x, weight) + F.linear(F.linear(x, a), b) * 2.0
                    torch.autograd.grad(out, (x, a, b), g)
                if turn:
                    times.append(time.process_time() - started)
        least = {way: min(times) for way, times in taken.items()}
        print(f"LoRA layer 576 -> 1536, rank 16, {tokens} tokens: ratio to PEFT's in one function {least['PEFT'] / least['ours']:.2f}, "
              f"with the adapter added to its matrix {least['PEFT'] / least['added']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1832)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--trained", type=float, default=0.42)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["full", "lora"])
    asked = parser.parse_args()
    keep_memory()
    for method in asked.methods:
        steps(asked, method)
    adapters(10)


if __name__ == "__main__":
    main()
