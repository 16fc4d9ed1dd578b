"""Names and shapes of a model's tensors from its config.json alone, for architectures that are built as Llama is."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from gogpt.errors import GogptError
from gogpt.modelfiles import Checkpoint

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape of a llama-like model, from config.json alone. Raises GogptError MOD500 for other architectures."""
    kind = str(config.get("model_type"))
    try:
        h, inner, layers, vocab, heads = (int(config[k]) for k in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "num_attention_heads"))
    except (KeyError, TypeError, ValueError) as problem:
        raise GogptError("MOD500", "config.json does not give the shapes", where="config.json", got=str(problem), fix="give the model with its weights") from problem
    if min(h, inner, layers, vocab, heads) < 1:
        raise GogptError("MOD500", "config.json does not give the shapes", where="config.json", got="a size below 1", fix="give the model with its weights")
    if kind not in LLAMA_LIKE:
        raise GogptError("MOD500", f"the shapes of a model of type {kind} cannot be told without its weights", where="config.json",
                         expected=", ".join(LLAMA_LIKE), fix="give the model with its safetensors files")
    dim = int(config.get("head_dim") or h // heads)
    kv = int(config.get("num_key_value_heads") or heads) * dim
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, h), "model.norm.weight": (h,)}
    if not config.get("tie_word_embeddings", False):
        out["lm_head.weight"] = (vocab, h)
    matrices = {"self_attn.q_proj": (heads * dim, h), "self_attn.k_proj": (kv, h), "self_attn.v_proj": (kv, h), "self_attn.o_proj": (h, heads * dim),
                "mlp.gate_proj": (inner, h), "mlp.up_proj": (inner, h), "mlp.down_proj": (h, inner)}
    biased = {n for n in matrices if config.get("attention_bias" if "attn" in n else "mlp_bias") and kind in ("llama", "qwen3")}
    if kind == "qwen2":
        biased = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    if kind == "qwen3":
        biased = {n for n in biased if "attn" in n}
    for layer in (f"model.layers.{i}." for i in range(layers)):
        for name, shape in matrices.items():
            out[f"{layer}{name}.weight"] = shape
            if name in biased:
                out[f"{layer}{name}.bias"] = shape[:1]
        norms = {"input_layernorm": h, "post_attention_layernorm": h} | ({"self_attn.q_norm": dim, "self_attn.k_norm": dim} if kind == "qwen3" else {})
        out |= {f"{layer}{name}.weight": (width,) for name, width in norms.items()}
    return out


class Shapes(Checkpoint):
    """A checkpoint that may be a config.json alone."""

    @cached_property
    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        stored = Checkpoint(self.folder).tensors
        return stored or {name: (shape, "BF16") for name, shape in shapes_of(self.text_config).items()}
