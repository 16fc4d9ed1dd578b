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
from transformers.pytorch_utils import Conv1D

from gogpt.errors import GogptError
from gogpt.modelfiles import Checkpoint
from gogpt.quantisation import BLOCK, Quantisation, split_modules

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

HEADS = ["lm_head", "embed_out", "output_projection"]
"""Output heads, by the names that architectures give them. They stay as they are, as in QLoRA."""

MOST_ERROR = 0.22
"""Of a weight, as a share of its block's scale: half the widest gap between two values that 4 bits stand for (nf4 0.14, fp4 0.17),
and room for rounding."""

SCALE_ERROR = 0.05
"""Of the largest scale of a matrix: what 8 bits may cost a smaller one."""

NUM_COLUMNS = 64
"""Columns of a matrix that are looked at."""


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
    """Exactly the planned modules are in 4 bits, and those of the first and the last layer compute with the weights on the disk,
    to the error that 4 bits cost. Raises GogptError MOD542."""
    checkpoint = Checkpoint(folder)
    planned = {_in_layers(checkpoint, name): name for name in split_modules(checkpoint)[0]}
    found = {_in_layers(checkpoint, name): module for name, module in modules_in_4bit(model)}
    if odd := sorted(set(planned) ^ set(found)):
        raise GogptError("MOD542", f"the base is not quantised as planned: {len(odd)} modules", where=str(folder), got=", ".join(odd[:4]),
                         expected=f"{len(planned)} linear modules of the layers in 4 bits", fix="method.kind: lora, for an architecture "
                         "that keeps its weights otherwise than its files name them")
    layers = sorted({int(m.group(1)) for name in planned if (m := checkpoint.layer_pattern.search(name))})
    for name, original in planned.items():
        match = checkpoint.layer_pattern.search(name)
        if match is None or int(match.group(1)) not in (layers[0], layers[-1]):
            continue
        error = weight_error(found[name], read_weight(checkpoint, original))
        if not error <= MOST_ERROR:
            raise GogptError("MOD542", f"the 4-bit weights of {original} do not stand for those of the base", where=str(folder),
                             got=f"off by up to {error:.2f} of their block's scale", expected=f"at most {MOST_ERROR}",
                             fix="another release of bitsandbytes, or method.kind: lora")


def weight_error(module: Any, weight: torch.Tensor) -> float:
    """Largest error of the weights that a 4-bit module computes with, as a share of the scale of their block.

    ``weight``: as it lies on the disk. Inputs that are 1 in one place and 0 elsewhere show columns of the matrix as the product
    sees it, whichever kernel that is.
    """
    weight = weight.T if issubclass(module.source_cls, Conv1D) else weight
    columns = torch.linspace(0, module.in_features - 1, min(NUM_COLUMNS, module.in_features)).long()
    one_hot = F.one_hot(columns, module.in_features).to(device=module.weight.device, dtype=module.compute_dtype)
    with torch.no_grad():
        seen = module(one_hot).float().cpu() - (0.0 if module.bias is None else module.bias.float().cpu())
    flat = F.pad(weight.reshape(-1), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).abs().amax(dim=1)
    if module.weight.quant_state.nested:  # a small scale beside a large one is lost in 8 bits: QLoRA's own error, and no fault
        flat = flat + SCALE_ERROR * flat.max()
    scales = flat.repeat_interleave(BLOCK)[: weight.numel()].view(weight.shape)[:, columns]
    return float(((seen.T - weight[:, columns]).abs() / scales.clamp(min=1e-30)).nan_to_num(nan=torch.inf).max())


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
    turned = []
    for name, module in modules_in_4bit(model):
        module.weight.quant_state.dtype = torch.float32
        if issubclass(module.source_cls, Conv1D):
            turned.append(name)
    plain = model.dequantize(dtype=torch.float32).float()
    for name in turned:  # GPT-2 keeps [in, out]; what comes out of 4 bits is [out, in], and would be saved so
        linear = plain.get_submodule(name)
        module = Conv1D(linear.out_features, linear.in_features)
        module.weight, module.bias = torch.nn.Parameter(linear.weight.data.T.contiguous()), linear.bias
        plain.set_submodule(name, module)
    plain.is_loaded_in_4bit = False
    return plain
