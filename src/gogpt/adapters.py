"""What trains: LoRA through PEFT (on a base in 4 bits: QLoRA), the last layers (freeze), or everything."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

from gogpt.config import MethodConfig
from gogpt.errors import GogptError
from gogpt.extension import read_extension
from gogpt.modelfiles import (
    BASE_NOTE,
    EMBEDDING,
    HEAD,
    Checkpoint,
    is_last_layers,
    weights_fingerprint,
)
from gogpt.quantisation import Quantisation, read_quantisation


def add_method(model: PreTrainedModel, method: MethodConfig, folder: Path) -> Any:
    """The model with exactly the parameters of the method trainable; trainable ones are float32.

    Raises GogptError MOD502 where LoRA targets match no module.
    """
    if method.kind == "full":
        model.requires_grad_(True)
        return model
    model.requires_grad_(False)
    if method.kind == "freeze":
        checkpoint = Checkpoint(folder)
        names = [n for n, _ in model.named_parameters()]
        last = max((int(m.group(1)) for n in names if (m := checkpoint.layer_pattern.search(n))), default=-1)
        for name, parameter in model.named_parameters():
            tokens = method.new_tokens == "all" and bool(EMBEDDING.search(name) or HEAD.search(name))
            parameter.requires_grad = tokens or is_last_layers(name, checkpoint, last - method.trainable_layers + 1)
        return model
    if method.kind == "qlora":
        for parameter in model.parameters():
            if parameter.ndim == 1 and parameter.dtype in (torch.float16, torch.bfloat16):
                # Norms and biases, as peft.prepare_model_for_kbit_training does. Embedding and head stay: in float32 they would
                # take as much as all layers in 4 bits (vocabulary 152k, hidden 3,584: 2.2 GB each), and autocast rounds them anyway.
                parameter.data = parameter.data.float()
    targets: str | list[str] = method.targets if isinstance(method.targets, str) else list(method.targets)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=method.rank, lora_alpha=method.alpha, lora_dropout=method.dropout,  # type: ignore[arg-type]
        target_modules=targets, bias="none", **_token_settings(model, method, folder),
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as problem:  # PEFT's own class derives from it
        raise GogptError("MOD502", f"the LoRA targets match nothing: {problem}", where=str(folder),
                         fix="name modules of this model, or targets: all-linear") from problem
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            # Adapters in half precision lose small updates; they are small, so float32 costs nothing.
            parameter.data = parameter.data.float()
    return adapted


def _token_settings(model: PreTrainedModel, method: MethodConfig, folder: Path) -> dict[str, Any]:
    """LoraConfig's settings for ``modules_to_save`` and ``new_tokens``. A tied head follows the input embedding: PEFT wraps
    both with one set of rows, or with one copy of the matrix."""
    saved = list(method.modules_to_save)
    source, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is source.weight
    modules = [name.rsplit(".", 1)[-1] for name, module in model.named_modules() if module is source or (module is head and not tied)]
    note = read_extension(folder) if method.new_tokens == "rows" else None
    rows = {} if note is None else {"trainable_token_indices": dict.fromkeys(modules, note.ids)}
    if method.new_tokens == "all":
        saved = list(dict.fromkeys([*saved, *modules]))
    return {"modules_to_save": saved or None, "ensure_weight_tying": tied and method.new_tokens == "all", **rows}


def is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def base_note(base: Path, quant: Quantisation | None) -> dict[str, Any]:
    """The document of ``BASE_NOTE``."""
    held = {} if quant is None else {"quantisation": quant.to_dict()}
    return {"base": str(base), "fingerprint": weights_fingerprint(base), **held}


def read_base_note(folder: Path) -> dict[str, Any]:
    """What the note beside an adapter says; empty where there is none. Raises GogptError EXP704."""
    note = folder / BASE_NOTE
    if not note.is_file():
        return {}
    try:
        return dict(json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as problem:
        raise GogptError("EXP704", f"the note of the adapter's base cannot be read: {problem}", where=str(note),
                         fix="take the adapter from the run again") from problem


def quantisation_of_adapter(folder: Path) -> Quantisation | None:
    """How the base was held when the adapter was trained on it. Raises GogptError EXP704."""
    try:
        return read_quantisation(read_base_note(folder))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise GogptError("EXP704", f"the note of the adapter's base cannot be used: {problem}", where=str(folder / BASE_NOTE),
                         fix="take the adapter from the run again, or use the release that wrote it") from problem


def load_adapter(model: PreTrainedModel, folder: Path, base: Path) -> PeftModel:
    """Base + adapter. Raises GogptError EXP704 where they do not fit: other shapes, keys that name no module (PEFT
    leaves them out with a warning, and the model behaves as its base), or another base of the same shapes."""
    then = read_base_note(folder)
    if then and then.get("fingerprint") != weights_fingerprint(base):
        raise GogptError("EXP704", "the adapter was trained on another base: the weights differ", where=str(base),
                         expected=f"the weights of {then.get('base')} as they were", fix="name that base (--base)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = PeftModel.from_pretrained(model, str(folder))
        file = folder / "adapter_model.safetensors"
        if file.is_file():
            with safe_open(str(file), framework="pt") as saved:
                stray = sorted(set(saved.keys()) ^ set(get_peft_model_state_dict(adapted)))
            if stray:
                raise GogptError("EXP704", f"{len(stray)} keys of the adapter and of the model do not agree", where=str(folder),
                                 got=", ".join(stray[:3]), fix="use the base and the PEFT release that it was trained with")
        return adapted
    except GogptError:
        raise
    except Exception as problem:  # peft, torch and safetensors raise many kinds; all mean that it does not fit
        text = str(problem).strip().splitlines()
        raise GogptError("EXP704", f"the adapter does not fit the base: {text[0] if text else type(problem).__name__}",
                         where=str(folder), fix="name the base that it was trained on (--base)") from problem
