"""Shared by all tests: a tiny tokenizer and a two-layer model made in the process, recipes, and the command line.

Tests that read ../shared are skipped, and say so, in a clone with nothing beside it; everything they cover for
real tokenizers and data is covered for the tiny ones here as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# The engines must never look for a network, and two test processes must not fight for two cores.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in [n for n in os.environ if n.startswith("GOGPT_")]:
    del os.environ[name]
os.environ["GOGPT_CACHE"] = str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "gogpt")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SMOLLM2 = ROOT / "models" / "SmolLM2-135M-Instruct"

CORPUS = [
    "The quick brown fox jumps over the lazy dog. A user asks; the assistant answers.",
    "### Instruction: Write a response that appropriately completes the request. ### Response:",
    "Below is an instruction that describes a task. You are a helpful assistant, system message, user question.",
    "你好，请用一句话介绍北京。北京是中国的首都。 one two three four five 1 2 3 4 5 6 7 8 9 0",
    "What is the capital of France? The capital of France is Paris. Name a colour. Blue, red, green.",
] * 4

CHAT_TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|begin_of_text|>", "<|start_header_id|>",
            "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]


def make_tokenizer(folder: Path, *, vocab: int = 420, dummy_prefix: bool = False, bos: bool = False,
                   chat_template: str | None = CHAT_TEMPLATE, eos: str = "<|im_end|>", pad: str | None = "<|endoftext|>") -> None:
    """A tiny tokenizer in a folder: byte-level BPE, or SentencePiece-like (``dummy_prefix``) with byte fallback."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    if dummy_prefix:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        alphabet: list[str] = []
        specials = ["<unk>", *SPECIALS, *[f"<0x{i:02X}>" for i in range(256)]]
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        specials = SPECIALS
    trainer = trainers.BpeTrainer(vocab_size=vocab + (300 if dummy_prefix else 0), special_tokens=specials,
                                  initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    if dummy_prefix:
        # Byte pieces are ordinary pieces of the model, not special tokens: take them out of the added ones.
        data = json.loads(tokenizer.to_str())
        data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    if bos:
        number = tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos}
    if pad:
        config["pad_token"] = pad
    if bos:
        config["bos_token"] = "<s>"
    if chat_template:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def make_model(folder: Path, *, rows: int | None = None, seed: int = 0, **changes: Any) -> None:
    """A two-layer Llama (hidden 32) with random weights beside the tokenizer in ``folder``."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from gogpt.tokenize import Tokenizer

    torch.manual_seed(seed)
    size = rows or Tokenizer(folder).size
    usual = {"vocab_size": size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": False}
    config = LlamaConfig(**{**usual, **changes})
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a byte-level tokenizer and a ChatML chat template. Read only."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tokenizer(folder)
    make_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a Llama-2-like tokenizer: dummy prefix, byte fallback, <s> added. Read only."""
    folder = tmp_path_factory.mktemp("tiny-llama") / "model"
    make_tokenizer(folder, dummy_prefix=True, bos=True, chat_template=None, eos="</s>", pad=None)
    make_model(folder)
    return folder


WORDS = ["red", "blue", "green", "one", "two", "three", "four", "five", "north", "south", "east", "west", "sun", "moon", "star", "tree", "stone", "river"]


def rows(count: int, *, start: int = 0, turns: int = 1) -> list[dict[str, Any]]:
    """``count`` different conversations as OpenAI messages."""
    out = []
    for i in range(start, start + count):
        messages = []
        for turn in range(turns if i % 3 else 1):
            a, b, c = (WORDS[(i * k + turn) % len(WORDS)] for k in (1, 5, 7))
            messages += [{"role": "user", "content": f"Question {i}.{turn}: what follows {a} and {b}?"},
                         {"role": "assistant", "content": f"After {a} and {b} comes {c} {'and so on ' * (i % 4)}."}]
        out.append({"messages": messages})
    return out


SYSTEM = "You are a helpful assistant, a user asks, the assistant answers: one two three four five, " * 3


def under_a_system_text(count: int = 24) -> list[dict[str, Any]]:
    """Conversations that all begin with one system text, longer than they are."""
    return [{"messages": [{"role": "system", "content": SYSTEM}, *row["messages"]]} for row in rows(count, turns=2)]


def write_jsonl(path: Path, items: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in items), encoding="utf-8")
    return path


@dataclass
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def gogpt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The command line, in this process: ``gogpt("check", recipe, "--format", "json")``."""
    from gogpt.cli import run

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("LANG", "C.UTF-8")

    def call(*words: object) -> Ran:
        capsys.readouterr()
        code = run([str(w) for w in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err, captured.err
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def recipe(tmp_path: Path, tiny: Path) -> Callable[..., Path]:
    """Writes a healthy recipe for the tiny model and returns its path; keyword arguments replace whole parts."""
    import yaml

    def make(items: list[Any] | None = None, /, *, name: str = "recipe.yaml", **parts: Any) -> Path:
        write_jsonl(tmp_path / "data.jsonl", rows(24, turns=2) if items is None else items)
        document: dict[str, Any] = {
            "model": str(tiny),
            "data": {"train": "data.jsonl", "max_length": 256, "eval": 0.1},
            "method": {"kind": "lora", "rank": 4, "alpha": 8},
            "train": {"epochs": 1, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 2, "warmup": 0.1},
            "output": "run",
        }
        for key, value in parts.items():
            if isinstance(value, dict) and isinstance(document.get(key), dict):
                document[key] = {**document[key], **value}
            else:
                document[key] = value
        path = tmp_path / name
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return make


def read_metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared beside this clone: its real tokenizers, data and oracles are not there")


@pytest.fixture(scope="session")
def tiny64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose widths are multiples of 64, so that every linear module of it can be held in 4 bits. Read only."""
    folder = tmp_path_factory.mktemp("tiny64") / "model"
    make_tokenizer(folder)
    make_model(folder, hidden_size=64, intermediate_size=128)
    return folder
