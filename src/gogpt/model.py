"""Load a base model; save a model with everything that serving it needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from gogpt.config import ModelConfig
from gogpt.errors import GogptError
from gogpt.templates import DeclaredTemplate, Template
from gogpt.tokenize import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

TOKENIZER_FILES = ("tokenizer.json", "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt",
                   "vocab.txt", "added_tokens.json")


def pick_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def load_base(model: ModelConfig, folder: Path, dtype: str) -> PreTrainedModel:
    """The base model in ``dtype``, on the CPU. ``folder``: its local files.

    Raises GogptError MOD500 (cannot be loaded), MOD506 (weights missing: transformers would go on with
    random ones and a warning).
    """
    attention = None if model.attention == "auto" else model.attention
    try:
        loaded, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], attn_implementation=attention, output_loading_info=True,
            trust_remote_code=model.trust_remote_code, revision=None,
        )
    except ImportError as problem:
        raise GogptError("ENV111", f"an optional package is missing: {str(problem).strip().splitlines()[0]}", where=str(folder),
                         fix="install it, or take out the setting that needs it (model.attention)") from problem
    except Exception as problem:  # transformers, huggingface_hub and safetensors raise many kinds
        text = str(problem).strip().splitlines()
        raise GogptError("MOD500", f"the model cannot be loaded: {text[0] if text else type(problem).__name__}",
                         where=str(folder), fix="check the folder with another tool, or download the model again") from problem
    missing = sorted(info.get("missing_keys") or [])
    mismatched = [str(m[0]) for m in info.get("mismatched_keys") or []]
    if missing or mismatched:
        raise GogptError(
            "MOD506", f"{len(missing) + len(mismatched)} weights of the model are not in the checkpoint",
            where=str(folder), got=", ".join((missing + mismatched)[:5]),
            expected="every weight of the architecture in config.json (a missing one would be random)",
            fix="download the checkpoint again, or use the config.json that belongs to it",
        )
    loaded.config.use_cache = False
    return loaded  # type: ignore[no-any-return]


def stop_token_ids(template: Template, tokenizer: Tokenizer) -> list[int]:
    """Ids that end generation: the template's stop markers, then the tokenizer's own, without repeats."""
    texts = (*template.stop, *tokenizer.stop_texts)
    ids = [found[0] for text in texts if len(found := tokenizer.ids(text)) == 1]
    return list(dict.fromkeys(ids))


def served_template(template: Template, tokenizer: Tokenizer) -> str:
    """The Jinja chat template to save: served without special tokens added, so a BOS that training got from
    the tokenizer is written by the template."""
    if isinstance(template, DeclaredTemplate):
        adds_bos = not template.bos_in_text and tokenizer.bos_prefix
        return template.jinja(leading_bos=(tokenizer.bos_token or "") if adds_bos else "")
    return template.jinja()


def save_tokenizer(tokenizer: Tokenizer, template: Template, out: Path, probe_texts: Sequence[str]) -> str:
    """The tokenizer's own files, with the chat template that was trained. Returns the class it loads as.

    transformers may put steps of its own in place of what tokenizer.json says (measured: SmolLM2, Llama 2). It is
    asked for the ids of ``probe_texts``; where they differ from those trained, the folder names the class that
    takes the file as it is, and is asked again. Raises GogptError TOK424 when they still differ.
    """
    for name in TOKENIZER_FILES:
        if (tokenizer.folder / name).is_file():
            shutil.copyfile(tokenizer.folder / name, out / name)
    tokenizer.backend.save(str(out / "tokenizer.json"))
    source = served_template(template, tokenizer)
    (out / "chat_template.jinja").write_text(source, encoding="utf-8")
    config = {k: v for k, v in tokenizer.config.items() if k not in ("chat_template", "auto_map")}
    for kind in dict.fromkeys((config.get("tokenizer_class"), "PreTrainedTokenizerFast")):
        if kind is None:
            continue
        config["tokenizer_class"] = kind
        _write_json(out / "tokenizer_config.json", config)
        different = _differs(out, tokenizer, probe_texts)
        if different is None:
            return str(kind)
    raise GogptError("TOK424", "transformers encodes a text otherwise than it was trained", where=str(out),
                     got=repr((different or "")[:80]), fix="report the tokenizer; until then serve with its tokenizer.json",
                     exit_code=1)


def _differs(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> str | None:
    from transformers import AutoTokenizer

    try:
        served = AutoTokenizer.from_pretrained(folder)
    except (ValueError, OSError, KeyError, ImportError, AttributeError):
        return "(the tokenizer class does not load)"
    for text in texts:
        if served.encode(text, add_special_tokens=False) != tokenizer.ids(text):
            return text
    return None


def save_generation_config(model_config: dict[str, Any], template: Template, tokenizer: Tokenizer, out: Path) -> None:
    """generation_config.json of the base, with the stop tokens that were trained first."""
    config = {**model_config}
    config["eos_token_id"] = stop_token_ids(template, tokenizer)
    if tokenizer.bos_id is not None:
        config.setdefault("bos_token_id", tokenizer.bos_id)
    if tokenizer.pad_id is not None:
        config.setdefault("pad_token_id", tokenizer.pad_id)
    _write_json(out / "generation_config.json", config)


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def forward_inputs(batch: dict[str, torch.Tensor], dtype: torch.dtype, attention: str | None) -> dict[str, Any]:
    """Keyword arguments of a forward pass for ``input_ids``, ``position_ids``, ``document_ids`` ``[B, T]``.

    One document a row, padded on the right: causal attention already keeps it from the padding. Several: an
    explicit additive mask ``[B, 1, T, T]`` is right for every attention implementation that takes one (without it,
    and with use_cache left on, documents leak into each other in silence: measured, logits differ by 24).
    FlashAttention takes no mask; it finds the documents by their restarting positions.
    """
    documents = batch["document_ids"]
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
    if int(documents.max()) <= 0:
        return inputs
    inputs["position_ids"] = batch["position_ids"]
    if attention is not None and "flash" in attention:
        return inputs
    same = documents[:, :, None] == documents[:, None, :]
    length = documents.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    allowed = same & causal & (documents >= 0)[:, :, None]
    mask = torch.zeros(allowed.shape, dtype=dtype, device=documents.device)
    # A finite minimum: rows of padding see nothing, and -inf everywhere would make their softmax NaN.
    mask.masked_fill_(~allowed, torch.finfo(dtype).min)
    inputs["attention_mask"] = mask[:, None]
    return inputs
