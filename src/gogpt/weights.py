"""Adapter and model folders as facts: their safetensors read with numpy, a sample of each tensor, no engine."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gogpt.errors import GogptError
from gogpt.extension import read_extension
from gogpt.facts import NUM_FIRST, AdapterFacts, Tally, WeightsFacts
from gogpt.modelfiles import BASE_NOTE, EMBEDDING, HEAD, Checkpoint, weights_fingerprint
from gogpt.tokenize import Tokenizer

SAMPLE = 1 << 14
"""Elements of a large tensor that are looked at: so many at each of four places."""
NUM_PLACES = 4
CHUNK = 1 << 22
ROWS = 4096
"""Rows of a matrix that are read at once, or looked at as a sample."""
NEAR_SAMPLE = 0.2
"""Distance from the mean of the sample, in median distances, below which a row is looked at again: with d columns of like variance the mean
of 4,096 rows is off by 1/64 of it."""
AT_MEAN = 0.02
"""Distance from the mean, in median distances, below which a row is the mean: what bfloat16 rounds (1/512 of a value) stays below."""

KINDS: Mapping[str, tuple[str, int]] = {"F64": ("<f8", 8), "F32": ("<f4", 4), "F16": ("<f2", 2), "BF16": ("<u2", 2)}
"""dtype of safetensors -> of numpy, bytes. Of others (quantised weights) nothing is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor in a file. ``start``: byte in the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape)) if self.shape else 1


def stored_in(file: Path) -> list[Stored]:
    """The tensors of a safetensors file, by its header. Raises ValueError with what is wrong with the file."""
    with file.open("rb") as f:
        first = f.read(8)
        if not first:
            raise ValueError(f"{file.name} has 0 bytes")
        if first == b"version ":
            raise ValueError(f"{file.name} is a git-lfs pointer, not the weights")
        try:
            size = struct.unpack("<Q", first)[0]
            if size > 100_000_000:
                raise ValueError(f"a header of {size} bytes")
            header = json.loads(f.read(size))
            out = [Stored(name=k, file=file, dtype=str(v["dtype"]), shape=tuple(map(int, v["shape"])), start=8 + size + int(v["data_offsets"][0]),
                          size=int(v["data_offsets"][1]) - int(v["data_offsets"][0])) for k, v in header.items() if k != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError, struct.error) as problem:
            raise ValueError(f"{file.name} is no safetensors file: {problem}") from problem
    end = max((t.start + t.size for t in out), default=0)
    if file.stat().st_size < end:
        raise ValueError(f"{file.name} is cut: {file.stat().st_size} bytes, its header promises {end}")
    return out


def _values(raw: bytes, dtype: str) -> npt.NDArray[np.float32]:
    found = np.frombuffer(raw, dtype=KINDS[dtype][0])
    if dtype == "BF16":
        return (found.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def pieces(tensor: Stored, *, whole: bool = False) -> Iterator[npt.NDArray[np.float32]]:
    """Values of a tensor: all of a small one, else (or unless ``whole``) stretches at its beginning, its end and between."""
    if tensor.dtype not in KINDS or not tensor.size:
        return
    width = KINDS[tensor.dtype][1]
    with tensor.file.open("rb") as f:
        if whole or tensor.elements <= SAMPLE * NUM_PLACES:
            for at in range(0, tensor.size, CHUNK):
                f.seek(tensor.start + at)
                yield _values(f.read(min(CHUNK, tensor.size - at)), tensor.dtype)
            return
        for i in range(NUM_PLACES):
            f.seek(tensor.start + width * ((tensor.elements - SAMPLE) * i // (NUM_PLACES - 1)))
            yield _values(f.read(width * SAMPLE), tensor.dtype)


def _finite(tensor: Stored) -> bool:
    return all(bool(np.isfinite(p).all()) for p in pieces(tensor))


def is_zero(tensor: Stored) -> bool:
    """Whether every value is zero: a sample first, and the whole tensor where the sample is."""
    if tensor.dtype not in KINDS or not tensor.elements or any(p.any() for p in pieces(tensor)):
        return False
    return not any(p.any() for p in pieces(tensor, whole=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A matrix in a file, read row by row."""

    stored: Stored

    def at(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """[len(rows), columns]; ``rows`` in order, so that the file is read forward."""
        count, columns = self.stored.shape
        kind = KINDS[self.stored.dtype][0]
        found = np.memmap(self.stored.file, dtype=np.uint8, mode="r", offset=0)
        raw = found[self.stored.start : self.stored.start + self.stored.size].view(kind).reshape(count, columns)
        return _values(raw[rows].tobytes(), self.stored.dtype).reshape(len(rows), columns)

    def distances(self, rows: npt.NDArray[np.int64], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        parts = [rows[i : i + ROWS] for i in range(0, len(rows), ROWS)]
        return np.concatenate([np.linalg.norm(self.at(part) - mean, axis=1) for part in parts]) if parts else np.empty(0)

    def mean(self) -> npt.NDArray[np.float64]:
        count, columns = self.stored.shape
        total = np.zeros(columns)
        for i in range(0, count, ROWS):
            total += self.at(np.arange(i, min(i + ROWS, count))).sum(axis=0, dtype=np.float64)
        return total / count


def rows_at_mean(folder: Path, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of ``ids`` (sorted, each once) whose row of the input embedding is the mean of all rows, as transformers'
    resize_token_embeddings leaves a new one (mean_resizing: drawn from a normal distribution of tiny covariance around the mean).

    Measured with transformers 5.23: such rows lie at 2e-5 to 4e-5 of the median distance from the mean, in a random model of 32 columns
    as in SmolLM2-135M; the nearest other row at 0.65 and 0.83 of it. The exact mean is only read where a row is near that of a sample.
    """
    try:
        tensors, _ = _model_tensors(folder)
    except (ValueError, OSError):
        return np.empty(0, dtype=np.int64)  # MOD500 tells what is wrong with the files
    found = next((t for t in tensors if EMBEDDING.search(t.name) and len(t.shape) == 2 and t.dtype in KINDS and t.elements), None)
    if found is None:
        return np.empty(0, dtype=np.int64)
    matrix, count = _Rows(stored=found), found.shape[0]
    ids = ids[(ids >= 0) & (ids < count)]
    sample = np.unique(np.linspace(0, count - 1, min(count, ROWS)).astype(np.int64))
    about = matrix.at(sample).mean(axis=0, dtype=np.float64)
    usual = float(np.median(matrix.distances(sample, about)))
    near = ids[matrix.distances(ids, about) < NEAR_SAMPLE * usual]
    if not near.size or usual == 0:
        return near[:0]
    return near[matrix.distances(near, matrix.mean()) < AT_MEAN * usual]


def _tally(names: list[str]) -> Tally:
    return Tally(count=len(names), first=tuple(sorted(names)[:NUM_FIRST]))


# -- adapters --------------------------------------------------------------------------------------


def is_adapter_folder(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _object(file: Path, code: str) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"a {type(data).__name__}, not an object")
    except (OSError, ValueError) as problem:
        raise GogptError(code, f"{file.name} cannot be read: {problem}", where=str(file), fix="save or download it again") from problem
    return data


def adapter_facts(folder: Path, base: str | None = None) -> AdapterFacts:
    """Raises GogptError EXP704 (a configuration that cannot be read), MOD500 (``base`` is no model folder)."""
    config = _object(folder / "adapter_config.json", "EXP704")
    targets = config.get("target_modules")
    named = base or str(config.get("base_model_name_or_path") or "") or None
    found = _base_folder(named, folder, asked=base is not None)
    rank = int(config["r"]) if isinstance(config.get("r"), int) else 0
    known: dict[str, Any] = {
        "path": str(folder), "kind": str(config.get("peft_type", "unknown")), "rank": rank, "targets": tuple(sorted(map(str, targets))) if isinstance(targets, list) else (),
        "target_pattern": targets if isinstance(targets, str) else None, "base": named, "base_found": str(found) if found else None,
        "base_differs": _differs(folder, found)}
    try:
        tensors = _adapter_tensors(folder)
    except (ValueError, OSError) as problem:
        return AdapterFacts(**known, problem=str(problem))
    matrices = [t for t in tensors if ".lora_A" in t.name or ".lora_B" in t.name]
    b = [t for t in matrices if ".lora_B" in t.name]
    empty = [t.name for t in tensors if not t.elements]
    fixed = known["kind"] == "LORA" and not config.get("rank_pattern") and rank
    wrong = [t.name for t in matrices if t.elements and len(t.shape) == 2 and fixed and t.shape[0 if ".lora_A" in t.name else 1] != rank]
    modules = {module_of(t.name) for t in tensors}
    without = [w for w in known["targets"] if not any(m == w or m.endswith("." + w) for m in modules)] if matrices else []
    return AdapterFacts(
        **known, tensors=len(tensors), empty=_tally(empty), lora_b=len(b), zero_b=_tally([t.name for t in b if is_zero(t)]),
        non_finite=_tally([t.name for t in tensors if not _finite(t)]), wrong_rank=_tally(wrong), targets_without=tuple(without),
        strangers=_tally(strangers(tensors, Checkpoint(found)) if found and not empty else []))


def _adapter_tensors(folder: Path) -> list[Stored]:
    file = folder / "adapter_model.safetensors"
    if not file.is_file():
        if (folder / "adapter_model.bin").is_file():
            raise ValueError("adapter_model.bin is a pickle, which is not opened; save it as safetensors")
        raise ValueError("adapter_model.safetensors is missing")
    tensors = stored_in(file)
    if not tensors:
        raise ValueError("adapter_model.safetensors holds no tensor")
    return tensors


def _base_folder(named: str | None, folder: Path, *, asked: bool) -> Path | None:
    if named is None:
        return None
    found = next((p for p in (Path(named).expanduser(), folder / named, folder.parent / named) if (p / "config.json").is_file()), None)
    if found is None and asked:
        raise GogptError("MOD500", "there is no such model folder", where=named, expected="a folder with config.json", fix="check --base")
    return found


def _differs(folder: Path, base: Path | None) -> str:
    note = folder / BASE_NOTE
    if base is None or not note.is_file():
        return ""
    then = _object(note, "EXP704")
    return "" if then.get("fingerprint") == weights_fingerprint(base) else f"its weights have another fingerprint than {BASE_NOTE} notes"


def module_of(key: str) -> str:
    """The module that a key of an adapter belongs to, by PEFT's prefixes and endings."""
    name = key.removeprefix("base_model.model.")
    for part in (".lora_", ".modules_to_save", ".token_adapter", ".original_module"):
        name = name.partition(part)[0]
    return name.removesuffix(".weight").removesuffix(".bias").removesuffix(".base_layer")


def strangers(tensors: list[Stored], base: Checkpoint) -> list[str]:
    """Modules of an adapter that the base does not have, or that have other rows and columns there."""
    shapes = {n.removesuffix(".weight"): shape for n, (shape, _) in base.tensors.items()}
    if not shapes:
        return []
    kinds = {n.removesuffix(".weight"): kind for n, (_, kind) in base.tensors.items()}
    if base.text_config.get("tie_word_embeddings"):
        shapes.setdefault("lm_head", next(iter(base.token_tensors.values()), ()))
    out = []
    for tensor in tensors:
        module = module_of(tensor.name)
        shape = shapes.get(module)
        if shape is None or (kinds.get(module, "F32") in KINDS and len(shape) == 2 and len(tensor.shape) == 2 and (
                (".lora_A" in tensor.name and tensor.shape[1] not in shape) or (".lora_B" in tensor.name and tensor.shape[0] not in shape))):
            out.append(module)
    return list(dict.fromkeys(out))


# -- models ----------------------------------------------------------------------------------------


def weights_facts(folder: Path) -> WeightsFacts:
    """Raises GogptError MOD500 (config.json, the index), TOK410 (a tokenizer that cannot be read)."""
    checkpoint = Checkpoint(folder)
    text = checkpoint.text_config
    tied = bool(text.get("tie_word_embeddings", False))
    note = read_extension(folder)
    tokenizer = _tokenizer(folder)
    known: dict[str, Any] = {
        "path": str(folder), "model_type": str(checkpoint.config.get("model_type", "unknown")), "vocab_size": checkpoint.number("vocab_size"), "tied": tied,
        "tokenizer_size": tokenizer.size if tokenizer else None, "chat_template": bool(tokenizer.chat_template) if tokenizer else None,
        "special_ids": _special_ids(folder, checkpoint, tokenizer) if tokenizer else {},
        "added_tokens": 0 if note is None else note.num_new_tokens, "added_trained": note is None or note.trained}
    try:
        tensors, missing = _model_tensors(folder)
    except (ValueError, OSError) as problem:
        return WeightsFacts(**known, problem=str(problem))
    embeddings = [t for t in tensors if EMBEDDING.search(t.name)]
    empty = [t.name for t in tensors if not t.elements]
    return WeightsFacts(
        **known, tensors=len(tensors), missing=_tally(missing), empty=_tally(empty),
        zero=_tally([t.name for t in tensors if len(t.shape) == 2 and is_zero(t)]), non_finite=_tally([t.name for t in tensors if not _finite(t)]),
        sampled=sum(min(t.elements, SAMPLE * NUM_PLACES) for t in tensors if t.dtype in KINDS),
        embedding_rows=embeddings[0].shape[0] if embeddings and embeddings[0].shape else None, head=_head(tensors, embeddings, tied, checkpoint))


def _model_tensors(folder: Path) -> tuple[list[Stored], list[str]]:
    """Tensors that are there, and names that the index has and no file does."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    wanted: dict[str, str] = {}
    if index.is_file():
        wanted = {str(k): str(v) for k, v in dict(_object(index, "MOD500").get("weight_map") or {}).items()}
        if gone := sorted(set(wanted.values()) - {f.name for f in files}):
            raise ValueError(f"{len(gone)} of {len(set(wanted.values()))} weight files are missing ({', '.join(gone[:3])})")
        files = [f for f in files if f.name in set(wanted.values())]
    if not files:
        raise ValueError("only pickles (.bin), which are not opened" if any(folder.glob("*.bin")) else "no weights are in the folder")
    tensors = [t for f in files for t in stored_in(f)]
    have = {t.name for t in tensors}
    return tensors, [n for n in wanted if n not in have]


def _head(tensors: list[Stored], embeddings: list[Stored], tied: bool, checkpoint: Checkpoint) -> str:
    """Only of architectures for causal language modelling, whose head has a usual name."""
    architectures = [str(a) for a in checkpoint.config.get("architectures") or []]
    if not embeddings or not all(a.endswith("ForCausalLM") for a in architectures) or not architectures:
        return ""
    heads = [t for t in tensors if HEAD.search(t.name) and t.name.endswith(".weight")]
    if not heads:
        said = "tie_word_embeddings" in checkpoint.text_config  # where it is not, the architecture's own default holds
        return "missing" if said and not tied else ""
    same = heads[0].shape == embeddings[0].shape and heads[0].dtype == embeddings[0].dtype and all(
        np.array_equal(a, b) for a, b in zip(pieces(heads[0]), pieces(embeddings[0]), strict=True))
    return "differs" if tied and not same else ""


def _tokenizer(folder: Path) -> Tokenizer | None:
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tekken.json", "tokenizer_config.json")):
        return None
    return Tokenizer(folder)


def _special_ids(folder: Path, checkpoint: Checkpoint, tokenizer: Tokenizer) -> dict[str, str]:
    """Where neither configuration's id is the tokenizer's, or one is beyond its vocabulary."""
    out = {}
    for name, own in (("eos_token_id", tokenizer.eos_id), ("bos_token_id", tokenizer.bos_id)):
        said = {"config.json": checkpoint.text_config.get(name), "generation_config.json": tokenizer.generation_config.get(name)}
        ids = {file: [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int) and i >= 0] for file, value in said.items() if value is not None}
        beyond = {file: v for file, v in ids.items() if any(i >= tokenizer.size for i in v)}
        together = [i for v in ids.values() for i in v]
        if beyond or (name == "eos_token_id" and own is not None and together and own not in together):
            told = ", ".join(f"{file} {v if len(v) != 1 else v[0]}" for file, v in (beyond or ids).items())
            out[name] = f"{told}; tokenizer {own}, {tokenizer.size} ids"
    return out


__all__ = ["Stored", "adapter_facts", "is_adapter_folder", "is_zero", "module_of", "pieces", "rows_at_mean", "stored_in", "strangers", "weights_facts"]
