"""A base in 4 bits, through bitsandbytes: made as planned, held against the weights that it stands for, and taken back to
plain weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from transformers import BitsAndBytesConfig

from gogpt.errors import GogptError
from gogpt.modelfiles import Checkpoint
from gogpt.quantisation import Quantisation, split_modules

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

HEADS = ["lm_head", "embed_out", "output_projection"]
"""Output heads, by the names that architectures give them. They stay as they are, as in QLoRA."""

MOST_ERROR = 0.3
"""Of a module's output, relative: 4 bits cost about 0.09 (nf4) or 0.13 (fp4) of normally distributed weights."""


def bitsandbytes_config(quant: Quantisation, dtype: str) -> BitsAndBytesConfig:
    """``dtype``: what products are computed in."""
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=quant.quant_type, bnb_4bit_use_double_quant=quant.double_quant,
        bnb_4bit_compute_dtype=DTYPES[dtype], llm_int8_skip_modules=[*HEADS, *quant.skipped],
    )


def modules_in_4bit(model: Any) -> Iterator[tuple[str, Any]]:
    from bitsandbytes.nn import Linear4bit

    return ((name, module) for name, module in model.named_modules() if isinstance(module, Linear4bit))


def settle_quantised(model: Any, folder: Path, quant: Quantisation, dtype: str) -> None:
    """A base that was just quantised made fit for training and for inference alike, and proven.

    bitsandbytes 0.50.2 packs the weights anew for CPUs with AVX512-BF16 at the first forward pass without gradients: the scales
    are rounded to bfloat16 for good, and every later pass gives no gradient (measured: an evaluation between two steps was enough).
    """
    for _, module in modules_in_4bit(model):
        module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():
        if type(parameter).__name__ != "Params4bit":
            # A copy: what stays as a view of the mapped file would keep all of it in memory, the original weights too.
            parameter.data = parameter.data.to(DTYPES[dtype], copy=True)
    prove_quantised(model, folder)


def prove_quantised(model: Any, folder: Path) -> None:
    """Exactly the planned modules are in 4 bits, and those of the first and the last layer compute what the weights on the
    disk do, to the error that 4 bits cost. Raises GogptError MOD542."""
    checkpoint = Checkpoint(folder)
    planned = {_in_layers(checkpoint, name): name for name in split_modules(checkpoint)[0]}
    found = {_in_layers(checkpoint, name): module for name, module in modules_in_4bit(model)}
    if odd := sorted(set(planned) ^ set(found)):
        raise GogptError("MOD542", f"the base is not quantised as planned: {len(odd)} modules", where=str(folder), got=", ".join(odd[:4]),
                         expected=f"{len(planned)} linear modules of the layers in 4 bits", fix="method.kind: lora, for an architecture "
                         "that keeps its weights otherwise than its files name them")
    layers = sorted({int(m.group(1)) for name in planned if (m := checkpoint.layer_pattern.search(name))})
    generator = torch.Generator().manual_seed(0)
    for name, original in planned.items():
        match = checkpoint.layer_pattern.search(name)
        if match is None or int(match.group(1)) not in (layers[0], layers[-1]):
            continue
        module = found[name]
        rows = torch.randn(4, module.in_features, generator=generator).to(module.compute_dtype)
        with torch.no_grad():
            got = module(rows.to(module.weight.device)).float().cpu()
            weight = read_weight(checkpoint, original)
            weight = weight.T if weight.shape[1] != module.in_features else weight
            wanted = F.linear(rows.float(), weight, None if module.bias is None else module.bias.float().cpu())
            error = float((got - wanted).norm() / wanted.norm().clamp(min=1e-12))
        if not error <= MOST_ERROR and bool(weight.any()):
            raise GogptError("MOD542", f"the 4-bit weights of {original} do not stand for those of the base", where=str(folder),
                             got=f"outputs off by {error:.2f} of their size", expected=f"at most {MOST_ERROR}",
                             fix="another release of bitsandbytes, or method.kind: lora")


def _in_layers(checkpoint: Checkpoint, name: str) -> str:
    """A module's name from its layer on: what stands before it differs between files and models (``h.0``, ``transformer.h.0``)."""
    match = checkpoint.layer_pattern.search(name)
    return name[match.start():].lstrip(".") if match else name


def read_weight(checkpoint: Checkpoint, module: str) -> torch.Tensor:
    """The weight of a module as it lies on the disk, in float32."""
    key = f"{module}.weight"
    for file in sorted(checkpoint.folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            if key in tensors.keys():  # noqa: SIM118  (no mapping)
                return tensors.get_tensor(key).float()
    raise GogptError("MOD500", f"a weight is gone: {key}", where=str(checkpoint.folder), fix="download the model again")


def dequantise(model: Any) -> Any:
    """The base as it was trained, its 4-bit weights written out in float32; nothing about it says any longer that it was quantised."""
    for _, module in modules_in_4bit(model):
        module.weight.quant_state.dtype = torch.float32
    plain = model.dequantize(dtype=torch.float32).float()
    plain.is_loaded_in_4bit = False
    return plain
