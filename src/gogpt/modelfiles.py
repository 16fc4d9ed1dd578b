"""What a checkpoint's files say, without loading a weight: config.json and the safetensors headers."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gogpt.config import MethodConfig, ModelConfig, RunConfig
from gogpt.errors import GogptError
from gogpt.extension import NOTE as EXTENSION_NOTE
from gogpt.extension import read_extension
from gogpt.facts import ModelFacts
from gogpt.tokenize import Tokenizer

SMALL_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "tokenizer*"]
DTYPE_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

BASE_NOTE = "gogpt_base.json"
"""Beside an adapter: the base that it was trained on."""

WEIGHTS = ("*.safetensors", "*.bin")

EMBEDDING = re.compile(r"(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")
"""The input embedding, by the names that architectures give it."""

HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output_projection|output)\.(weight|bias)$")
"""The output head. Only where it has a row for each row of the embedding."""

ALIBI = ("bloom", "mpt")
"""These derive positions from a two-dimensional mask; packed documents would be counted as one."""


def find_tokenizer(model: str | ModelConfig) -> Path:
    """The folder of a tokenizer: a local folder that holds one (a model, or a tokenizer alone), or a hub id.

    Raises GogptError MOD500.
    """
    model = ModelConfig(path=model) if isinstance(model, str) else model
    folder = Path(model.path)
    if model.path.strip() and folder.is_dir() and ((folder / "tokenizer.json").is_file() or not (folder / "config.json").is_file()):
        return folder
    return find_model(model)


def find_model(model: ModelConfig, *, weights: bool = False) -> Path:
    """The folder of a model: local, or from the hub (its small files, or with its weights).

    Raises GogptError MOD500.
    """
    if not model.path.strip():
        raise GogptError("MOD500", "the path of the model is empty", got=repr(model.path), fix="name a model folder or a hub id")
    try:
        return _find_model(model, weights=weights)
    except OSError as problem:  # a name that is too long, a folder that may not be read
        raise GogptError("MOD500", f"the model cannot be looked for: {problem.strerror}", where=model.path[:200], fix="check the path") from problem


def _find_model(model: ModelConfig, *, weights: bool) -> Path:
    model = model.model_copy(update={"path": model.path.removeprefix("hub:")})
    path = Path(model.path)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise GogptError("MOD500", "the folder holds no config.json", where=model.path,
                             got=", ".join(sorted(p.name for p in path.glob("*"))[:8]) or "an empty folder",
                             expected="a model in Hugging Face format", fix=_nested_hint(path))
        if weights:
            check_weights(path)
        return path
    if path.exists() or path.is_absolute() or not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", model.path):
        near = _near_folder(path)
        raise GogptError("MOD500", "there is no such model folder" if not path.exists() else "a file, not a model folder",
                         where=model.path, fix=f"did you mean {near}?" if near else
                         "paths in a recipe are relative to the recipe; a hub id looks like owner/name")
    try:
        from huggingface_hub import snapshot_download

        patterns = None if weights else SMALL_FILES
        ignore = ["*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.msgpack", "*.h5"] if weights else None
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=patterns, ignore_patterns=ignore))
    except Exception as problem:  # many kinds (offline, 404, gated); all mean that the model is not to be had
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        near = _near_folder(path)
        raise GogptError("MOD500", f"no such folder, and the model cannot be had from the hub: {reason}", where=model.path,
                         fix=(f"did you mean the folder {near}? Or " if near else "") +
                         "check the id (or the path, relative to the recipe), the connection, and for gated models `hf auth login`") from problem


def _near_folder(path: Path) -> str | None:
    names = [p.name for p in path.parent.glob("*") if p.is_dir()] if path.parent.is_dir() else []
    return next(iter(difflib.get_close_matches(path.name, names, n=1)), None)


def _nested_hint(path: Path) -> str:
    if (path / "adapter_config.json").is_file():
        return "this is an adapter: merge it first (gogpt merge), or name its base model"
    inner = sorted(p.parent for p in path.glob("*/config.json"))
    return f"did you mean {inner[0]}?" if inner else "give the folder that holds config.json and the weights"


@dataclass(frozen=True)
class Checkpoint:
    """Names, shapes and dtypes of a checkpoint's tensors, and its config."""

    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        try:
            data = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise GogptError("MOD500", f"config.json cannot be read: {problem}", where=str(self.folder / "config.json"),
                             fix="download it again") from problem
        if not isinstance(data, dict):
            raise GogptError("MOD500", "config.json is no object", where=str(self.folder / "config.json"),
                             got=f"a {type(data).__name__}", expected='{"model_type": ...}', fix="download it again")
        return data

    @cached_property
    def text_config(self) -> dict[str, Any]:
        """The language model's part of the config (models with other parts nest it)."""
        inner = self.config.get("text_config")
        return {**self.config, **inner} if isinstance(inner, dict) else self.config

    def number(self, *names: str) -> int | None:
        for name in names:
            value = self.text_config.get(name)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        return None

    @cached_property
    def tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Tensor name -> (shape, dtype) from the safetensors headers; empty where there are none."""
        files = sorted(self.folder.glob("*.safetensors"))
        index = self.folder / "model.safetensors.index.json"
        if index.is_file():
            try:
                wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError, TypeError) as problem:
                raise GogptError("MOD500", f"the weight index cannot be read: {problem}", where=str(index),
                                 expected='{"weight_map": {"tensor": "file"}}', fix="download it again") from problem
            if missing := sorted(wanted - {f.name for f in files}):
                raise GogptError("MOD500", f"{len(missing)} of {len(wanted)} weight files are missing", where=str(self.folder),
                                 got=", ".join(missing[:4]), fix="download them again")
            files = [f for f in files if f.name in wanted]
        out: dict[str, tuple[tuple[int, ...], str]] = {}
        for file in files:
            out.update(_header(file))
        return out

    @cached_property
    def token_tensors(self) -> dict[str, tuple[int, ...]]:
        """Tensors with a row for each token: the input embedding first, then an output head that is not tied to it."""
        inputs = {n: shape for n, (shape, _) in self.tensors.items() if EMBEDDING.search(n)}
        rows = {shape[0] for shape in inputs.values()}
        return {**inputs, **{n: shape for n, (shape, _) in sorted(self.tensors.items()) if HEAD.search(n) and shape[0] in rows}}

    @property
    def has_experts(self) -> bool:
        """A mixture of experts: a batch uses some of the weights."""
        return any(".experts." in name for name in self.tensors)

    @cached_property
    def layer_pattern(self) -> re.Pattern[str]:
        return re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")

    def linear_modules(self) -> dict[str, tuple[int, int]]:
        """Full name -> (rows, columns) of the weights that PEFT's all-linear would adapt: matrices in the
        layers, the output head left out."""
        return {
            name.removesuffix(".weight"): (shape[0], shape[1])
            for name, (shape, _) in self.tensors.items()
            if len(shape) == 2 and name.endswith(".weight") and self.layer_pattern.search(name)
        }


def _header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    try:
        with file.open("rb") as f:
            first = f.read(8)
            if first == b"version ":  # of git-lfs
                raise GogptError("MOD500", "a git-lfs pointer, not the weights", where=str(file), got=f"{file.stat().st_size} bytes",
                                 fix="git lfs pull, or download the file itself")
            size = struct.unpack("<Q", first)[0]
            if size > 100_000_000:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(f.read(size))
            tensors = {k: (tuple(map(int, v["shape"])), str(v["dtype"])) for k, v in header.items() if k != "__metadata__"}
            end = 8 + size + max((int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"), default=0)
        if file.stat().st_size < end:
            raise ValueError(f"{file.stat().st_size} bytes, the header promises {end}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as problem:
        raise GogptError("MOD500", f"not a whole safetensors file: {problem}", where=str(file), fix="download it again") from problem
    return tensors


def weights_fingerprint(folder: Path) -> str:
    """SHA-256 over the safetensors headers and 64 KiB at 64 evenly spaced places of each file: tells two
    checkpoints of one shape apart in a moment, however large they are."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(json.dumps(sorted((k, v) for k, v in _header(file).items())).encode())
        with file.open("rb") as f:
            for i in range(64):
                f.seek(max(0, size - (1 << 16)) * i // 63)
                digest.update(f.read(1 << 16))
    return digest.hexdigest()


def check_weights(folder: Path) -> None:
    """Whether a local model has weights, and every safetensors file of them is whole. Raises GogptError MOD500."""
    if not Checkpoint(folder).tensors and not any(p for kind in WEIGHTS for p in folder.glob(kind)):
        raise GogptError("MOD500", "the folder holds no weights", where=str(folder),
                         got=", ".join(sorted(p.name for p in folder.glob("*"))[:8]), expected=" or ".join(WEIGHTS),
                         fix="download the model again, with its weights")


def match_targets(targets: str | tuple[str, ...], modules: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which modules each LoRA target names, by PEFT's rules: ``all-linear``; a list matches whole names or
    their ends; another string is a regular expression over the whole name."""
    if targets == "all-linear":
        return {"all-linear": list(modules)}
    if isinstance(targets, str):
        try:
            return {targets: [m for m in modules if re.fullmatch(targets, m)]}
        except re.error as problem:
            raise GogptError("MOD502", f"the LoRA targets are no valid regular expression: {problem}", where="recipe: method.targets",
                             got=repr(targets), fix="name modules as a list, or targets: all-linear") from problem
    return {t: [m for m in modules if m == t or m.endswith("." + t)] for t in targets}


def count_new(checkpoint: Checkpoint, method: MethodConfig) -> int:
    """Parameters that ``method.new_tokens`` adds to those of lora or freeze."""
    shapes = checkpoint.token_tensors
    named = [n for n in shapes if set(n.split(".")) & set(method.modules_to_save)] if method.kind in ("lora", "qlora") else []
    if method.new_tokens == "all":
        return sum(math.prod(shape) for name, shape in shapes.items() if name not in named)
    note = read_extension(checkpoint.folder) if method.new_tokens == "rows" else None
    return 0 if note is None else sum(note.num_new_tokens * math.prod(shape[1:]) for shape in shapes.values())


def count_trainable(checkpoint: Checkpoint, method: MethodConfig) -> int:
    """Trainable parameters under a method, from shapes alone."""
    tensors = checkpoint.tensors
    if method.kind == "full":
        return sum(math.prod(shape) for shape, _ in tensors.values())
    if method.kind == "freeze":
        last = max((int(m.group(1)) for n in tensors if (m := checkpoint.layer_pattern.search(n))), default=-1)
        first = last - method.trainable_layers + 1
        last_layers = sum(math.prod(shape) for name, (shape, _) in tensors.items() if is_last_layers(name, checkpoint, first))
        return last_layers + count_new(checkpoint, method)
    modules = checkpoint.linear_modules()
    named = {m for found in match_targets(method.targets, modules).values() for m in found}
    saved = sum(math.prod(shape) for name, (shape, _) in tensors.items()
                if any(part in name.split(".") for part in method.modules_to_save))
    return sum(method.rank * (modules[m][0] + modules[m][1]) for m in named) + saved + count_new(checkpoint, method)


def is_last_layers(name: str, checkpoint: Checkpoint, first: int) -> bool:
    """Whether ``freeze`` trains this tensor: the layers from ``first`` on, and the final norm."""
    match = checkpoint.layer_pattern.search(name)
    if match:
        return int(match.group(1)) >= first
    parts = name.split(".")
    return any(p in ("norm", "ln_f", "final_layernorm", "final_layer_norm") for p in parts)


def trains_new(checkpoint: Checkpoint, method: MethodConfig) -> bool:
    """Whether a method trains the rows of tokens that were added."""
    if method.kind == "full" or method.new_tokens != "none":
        return True
    matrices = {n.split(".")[-2] for n in checkpoint.token_tensors}
    return method.kind in ("lora", "qlora") and bool(matrices) and matrices <= set(method.modules_to_save)


def check_new_tokens(method: MethodConfig, folder: Path) -> None:
    """Raises GogptError CFG232 where ``method.new_tokens`` cannot be done with this model."""
    if method.new_tokens == "none" or method.kind == "full":
        return
    checkpoint = Checkpoint(folder)

    def refused(message: str, *, got: str, fix: str) -> GogptError:
        return GogptError("CFG232", f"method.new_tokens: {method.new_tokens} cannot be done: {message}", where=str(folder), got=got, fix=fix)

    if not checkpoint.token_tensors:
        raise refused("the embedding of this model cannot be told", got="no tensor with a usual name in safetensors files",
                      fix="name the modules yourself: method.modules_to_save")
    if method.new_tokens == "all":
        return
    if read_extension(folder) is None:
        raise refused("the model does not say which tokens were added", got=f"no {EXTENSION_NOTE} in the folder", fix="extend it with gogpt tokenizer extend, or "
                      "take method.new_tokens: all (every row), or none")
    if method.kind == "freeze":
        raise refused("freeze trains whole matrices", got="method.kind: freeze", fix="method.kind: lora, or method.new_tokens: all")
    twice = [n for n in checkpoint.token_tensors if set(n.split(".")) & set(method.modules_to_save)]
    if twice:
        raise refused("method.modules_to_save trains the whole matrix already", got=", ".join(twice), fix="take one of the two out")
    if biases := [n for n in checkpoint.token_tensors if n.endswith(".bias")]:
        # peft 0.21.2: TrainableTokensLayer computes F.linear without the bias, in silence.
        raise refused("PEFT would leave the bias of the output head out", got=biases[0], fix="method.new_tokens: all")


def packing_unsafe(checkpoint: Checkpoint, max_length: int) -> str | None:
    """Why a block-diagonal attention mask would not keep packed documents apart here; None when it does."""
    config = checkpoint.text_config
    kind = str(config.get("model_type", ""))
    if kind in ALIBI or config.get("alibi"):
        return f"{kind} counts positions with ALiBi over the whole row"
    if not config.get("num_attention_heads") and not config.get("n_head"):
        return f"{kind} has no attention heads in its configuration"
    layers = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(layers, list):
        odd = sorted({str(x) for x in layers} - {"full_attention", "sliding_attention", "attention"})
        if odd:
            return f"{kind} has layers of type {', '.join(odd)}, which carry state across documents"
    window = config.get("sliding_window")
    uses = config.get("use_sliding_window", True) and (not isinstance(layers, list) or "sliding_attention" in layers)
    if isinstance(window, int) and uses and window < max_length:
        return f"{kind} attends within a window of {window} tokens, fewer than a row of {max_length}"
    return None


def model_facts(config: RunConfig, folder: Path, tokenizer: Tokenizer) -> ModelFacts:
    """Facts of the base model under a recipe's method. Raises GogptError MOD500."""
    checkpoint = Checkpoint(folder)
    if Path(config.model.path).is_dir():
        check_weights(folder)
    modules = checkpoint.linear_modules()
    matched = match_targets(config.method.targets, modules) if config.method.kind in ("lora", "qlora") else {}
    embeddings = [shape[0] for name, shape in checkpoint.token_tensors.items() if EMBEDDING.search(name)]
    note = read_extension(folder)
    known = bool(checkpoint.tensors)
    names = {part for n in checkpoint.tensors for part in n.split(".")[:-1] if not part.isdigit()}
    if checkpoint.text_config.get("tie_word_embeddings"):
        names.add("lm_head")  # a module all the same, whose weight is stored once
    saved = {m: int(m.rsplit(".", 1)[-1] in names) for m in config.method.modules_to_save} if known and matched else {}
    vocab = checkpoint.number("vocab_size") or 0
    total = sum(math.prod(shape) for shape, _ in checkpoint.tensors.values())
    return ModelFacts(
        path=str(folder),
        model_type=str(checkpoint.config.get("model_type", "unknown")),
        num_parameters=total,
        # Without safetensors headers (only .bin weights, say) the count is settled after loading.
        trainable_parameters=count_trainable(checkpoint, config.method) if known else -1,
        embedding_rows=embeddings[0] if embeddings else vocab or None,
        tokenizer_size=tokenizer.size,
        max_position_embeddings=checkpoint.number("max_position_embeddings", "n_positions"),
        num_layers=checkpoint.number("num_hidden_layers", "n_layer") or 0,
        hidden_size=checkpoint.number("hidden_size", "n_embd") or 0,
        vocab_size=vocab,
        targets={t: len(found) for t, found in matched.items()} if known else {},
        linear_modules=tuple(sorted({m.rsplit(".", 1)[-1] for m in modules})),
        packing_unsafe=packing_unsafe(checkpoint, config.data.max_length),
        saved_modules=saved, modules=tuple(sorted(names)),
        added_tokens=0 if note is None else note.num_new_tokens,
        added_trained=note is not None and (note.trained or trains_new(checkpoint, config.method)),
        learned_positions=any(re.search(r"(?:^|\.)(?:wpe|embed_positions|position_embeddings)\.weight$", n) for n in checkpoint.tensors),
    )
