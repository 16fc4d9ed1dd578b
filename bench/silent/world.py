"""The tiny models that the cases start from: made once, the same bytes for every tool.

A model is a two-layer Llama (hidden size 32) with random weights and a byte-level tokenizer of a few hundred tokens, with a ChatML
chat template that marks the answers (``{% generation %}``). Variants differ from ``tiny`` in the one thing that is their name.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

VERSION = 1
"""Raised when a model here changes: it is part of every case's key."""

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>")
NEW_TOKENS = ("<lookup>", "</lookup>", "<answer>", "</answer>")

CORPUS = [
    "The quick brown fox jumps over the lazy dog. A user asks; the assistant answers in a sentence or two.",
    "Below is an instruction that describes a task. You are a helpful assistant, system message, user question.",
    "What is the capital of France? The capital of France is Paris. Name a colour. Blue, red, green.",
    "Question one: which way is north of the river, and what follows the moon and the star? After the stone comes a tree.",
    "one two three four five 1 2 3 4 5 6 7 8 9 0",
] * 4


def _template(stop: str, *, inside: bool = True, bos: str = "") -> str:
    """ChatML with the answers marked; ``stop`` is what ends a turn, trained (``inside``) or not."""
    answer = ("{%- generation -%}{{- message['content']" + (f" + '{stop}'" if inside and stop else "") + " -}}{%- endgeneration -%}"
              + (f"{{{{- '{stop}' -}}}}" if stop and not inside else "") + "{{- '\\n' -}}")
    return (
        (f"{{{{- '{bos}' -}}}}" if bos else "")
        + "{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}{{- '<|im_start|>assistant\\n' -}}" + answer
        + "{%- else -%}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '" + stop + "\\n' -}}{%- endif -%}{%- endfor -%}"
        + "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )


def _tokenizer(folder: Path, *, template: str, pad: str = "<|endoftext|>", bos: bool = False) -> int:
    """Writes tokenizer.json and tokenizer_config.json; the number of ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=480, special_tokens=list(SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": pad, "chat_template": template}
    if bos:
        config["bos_token"] = "<s>"
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return int(tokenizer.get_vocab_size())


def _weights(folder: Path, rows: int, *, seed: int = 0) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    ids = {name: SPECIALS.index(name) for name in ("<|im_end|>", "<|endoftext|>", "<s>")}
    config = LlamaConfig(vocab_size=rows, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=512, tie_word_embeddings=False, eos_token_id=ids["<|im_end|>"],
                         pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<s>"])
    LlamaForCausalLM(config).save_pretrained(folder)


def _change_weights(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def _copy(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder / "tiny", folder / name))


def _put_nan(tensors: Any) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")


def _take_out(tensors: Any) -> None:
    del tensors["model.layers.1.mlp.down_proj.weight"], tensors["model.layers.1.mlp.up_proj.weight"]


def _add_tokens(folder: Path) -> None:
    """As transformers does it: add_tokens, resize_token_embeddings."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(NEW_TOKENS))
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make(folder: Path) -> None:
    usual = _template("<|im_end|>")
    rows = _tokenizer(folder / "tiny", template=usual)
    _weights(folder / "tiny", rows)
    for name, given in {
        "pad_is_eos": {"template": usual, "pad": "<|im_end|>"},
        "stop_outside": {"template": _template("<|im_end|>", inside=False)},
        "no_stop": {"template": _template("")},
        "two_bos": {"template": _template("<|im_end|>", bos="<s>"), "bos": True},
    }.items():
        _tokenizer(folder / name, **given)
        _weights(folder / name, rows)
    _tokenizer(folder / "few_rows", template=usual)
    _weights(folder / "few_rows", rows - 60)
    _tokenizer(folder / "other", template=usual)
    _weights(folder / "other", rows, seed=1)
    _change_weights(_copy(folder, "nan"), _put_nan)
    _change_weights(_copy(folder, "missing"), _take_out)
    _add_tokens(_copy(folder, "new_tokens"))
    cut = _copy(folder, "cut_off") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])


def make_models(folder: Path) -> Path:
    """The folder of models, made if it is not there."""
    made = folder / f"models-{VERSION}"
    if not made.is_dir():
        partial = folder / f"models-{VERSION}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _make(partial)
        partial.rename(made)
    return made
