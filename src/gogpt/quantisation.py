"""QLoRA's base: which linear modules are held in 4 bits, what that takes, and the note by which it is made again.

The format is that of QLoRA (arXiv 2305.14314): each block of 64 weights of a matrix, row by row, has one scale; double
quantisation holds the scales in 8 bits, with one float32 for each 256 of them.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gogpt.config import MethodConfig, RunConfig
from gogpt.errors import GogptError
from gogpt.facts import ModelFacts
from gogpt.modelfiles import DTYPE_BYTES, Checkpoint

BLOCK = 64
"""Weights that share one scale (bitsandbytes' default, and the only one that transformers can ask for)."""

SCALES = 256
"""Scales that share one float32 under double quantisation."""

TABLE = 16
"""Values that 4 bits can stand for: a table of float32 that each module keeps; that of 8-bit scales has 256."""

BITSANDBYTES = "bitsandbytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a base is held in 4 bits. Two bases of one checkpoint are the same where this is the same.

    ``dtype``: what the weights are rounded to before they are quantised. ``skipped``: linear modules of the layers that stay
    as they are, by full name.
    """

    quant_type: str
    double_quant: bool
    dtype: str
    skipped: tuple[str, ...] = ()
    block: int = BLOCK

    @property
    def name(self) -> str:
        return f"{self.quant_type}{' (double)' if self.double_quant else ''}"

    def to_dict(self) -> dict[str, Any]:
        return {"quant_type": self.quant_type, "double_quant": self.double_quant, "block": self.block, "dtype": self.dtype,
                "skipped": list(self.skipped)}


def split_modules(checkpoint: Checkpoint) -> tuple[dict[str, tuple[int, int]], dict[str, tuple[int, int]]]:
    """Linear modules of the layers that are quantised, and those that stay as they are, with (rows, columns).

    A matrix whose rows are no whole number of blocks stays: bitsandbytes 0.50.2 gives other weights for it on a CPU with AVX-512
    (measured: errors of up to 2.3 where 4 bits cost at most 0.6).
    """
    modules = checkpoint.linear_modules()
    transposed = checkpoint.config.get("model_type") == "gpt2"  # its Conv1D keeps [in, out]; bitsandbytes quantises [out, in]
    whole = {name: shape for name, shape in modules.items() if shape[0 if transposed else 1] % BLOCK == 0}
    return whole, {name: shape for name, shape in modules.items() if name not in whole}


def quantisation_of(config: RunConfig, folder: Path, dtype: str) -> Quantisation | None:
    """How a recipe holds its base; None where it is not quantised. ``dtype``: of the weights that stay."""
    if config.method.kind != "qlora":
        return None
    method = config.method
    return Quantisation(quant_type=method.quant_type, double_quant=method.double_quant, dtype=dtype,
                        skipped=tuple(sorted(split_modules(Checkpoint(folder))[1])))


def quantised_bytes(shape: tuple[int, int], *, double_quant: bool) -> int:
    """Bytes of one matrix in 4 bits: the weights, their scales and the tables."""
    blocks = math.ceil(math.prod(shape) / BLOCK)
    scales = blocks + 4 * math.ceil(blocks / SCALES) + 4 * 256 + 4 if double_quant else 4 * blocks
    return math.ceil(math.prod(shape) / 2) + scales + 4 * TABLE


def weight_bytes(checkpoint: Checkpoint, method: MethodConfig, size: int) -> tuple[int, int]:
    """(bytes of the base's weights, parameters of them that are held in 4 bits). ``size``: bytes of a weight that is not;
    norms and biases of a quantised base are float32."""
    whole = split_modules(checkpoint)[0] if method.kind == "qlora" else {}
    four = sum(quantised_bytes(shape, double_quant=method.double_quant) for shape in whole.values())
    rest = sum(math.prod(shape) * (DTYPE_BYTES["F32"] if whole and len(shape) == 1 else size)
               for name, (shape, _) in checkpoint.tensors.items() if name.removesuffix(".weight") not in whole)
    return four + rest, sum(math.prod(shape) for shape in whole.values())


def read_quantisation(note: Mapping[str, Any]) -> Quantisation | None:
    """From the note beside an adapter; None where its base was not quantised. Raises ValueError, KeyError, TypeError."""
    held = note.get("quantisation")
    if held is None:
        return None
    if int(held["block"]) != BLOCK or held["quant_type"] not in ("nf4", "fp4") or held["dtype"] not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"quantisation {json.dumps(held)[:200]} is not known to this version")
    return Quantisation(quant_type=str(held["quant_type"]), double_quant=bool(held["double_quant"]), dtype=str(held["dtype"]),
                        skipped=tuple(str(name) for name in held["skipped"]))


def own_quantisation(checkpoint: Checkpoint) -> str:
    """How a checkpoint is quantised by its own config.json: ``gptq``, ``awq``, ``bitsandbytes`` ...; "" where it is not."""
    settings = checkpoint.config.get("quantization_config")
    if not isinstance(settings, dict):
        return ""
    return str(settings.get("quant_method") or ("bitsandbytes" if settings.get("load_in_4bit") or settings.get("load_in_8bit") else "unknown"))


def check_base(config: RunConfig, folder: Path) -> None:
    """Raises GogptError CFG233 where a module that is held in 4 bits shall be trained whole."""
    if config.method.kind != "qlora":
        return
    checkpoint = Checkpoint(folder)
    if not checkpoint.tensors:
        raise GogptError("CFG233", "method qlora needs weights in safetensors files: what is quantised is planned from their headers",
                         where=str(folder), fix="convert the model (transformers: save_pretrained), or method.kind: lora")
    asked = set(config.method.modules_to_save)
    names = sorted({name.rsplit(".", 1)[-1] for name in split_modules(checkpoint)[0] if asked & set(name.split("."))})
    if names:
        raise GogptError("CFG233", "method.modules_to_save names modules that are held in 4 bits, which cannot be trained whole",
                         where="recipe", got=", ".join(names), expected="embed_tokens, lm_head or a norm", fix="adapt them: method.targets")


def check_bitsandbytes(where: str) -> None:
    """Raises GogptError ENV111 where the package that quantises is not installed."""
    try:
        importlib.metadata.version(BITSANDBYTES)
    except importlib.metadata.PackageNotFoundError as problem:
        raise GogptError("ENV111", "a base in 4 bits needs the package bitsandbytes", where=where,
                         fix="pip install 'gogpt[quant]', or method.kind: lora") from problem


def quantised_facts(facts: ModelFacts, config: RunConfig, folder: Path) -> ModelFacts:
    """What is quantised, and by whom."""
    checkpoint = Checkpoint(folder)
    whole, rest = split_modules(checkpoint) if config.method.kind == "qlora" else ({}, {})
    return replace(facts, quantised_already=own_quantisation(checkpoint), quantised_modules=len(whole),
                   unquantised_modules=tuple(f"{name} ({shape[0]} x {shape[1]})" for name, shape in rest.items()))


def check_method(config: RunConfig) -> None:
    """Settings that qlora cannot do, or that only qlora can. Raises GogptError CFG233, ENV111."""
    method = config.method
    defaults = type(method).model_fields
    if method.kind != "qlora":
        said = [f"method.{key}: {getattr(method, key)}" for key in ("quant_type", "double_quant") if getattr(method, key) != defaults[key].default]
        if said:
            raise GogptError("CFG233", f"{', '.join(said)}: method {method.kind} quantises nothing", where="recipe",
                             expected="method.kind: qlora", fix="take it out, or choose qlora")
        return
    if config.model.dtype not in ("auto", "float32") and config.train.precision == "fp32":
        raise GogptError("CFG233", f"model.dtype: {config.model.dtype} with train.precision: fp32: the norms of a quantised base are float32, "
                         "and nothing would cast between the two", where="recipe", expected="model.dtype: auto",
                         fix="take model.dtype out, or train.precision: bf16")
    check_bitsandbytes("recipe: method.kind: qlora")
