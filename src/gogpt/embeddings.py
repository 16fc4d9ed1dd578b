"""Rows for new tokens in a model's embedding matrices, on its safetensors files.

No weight is loaded as a model, and nothing but the new rows is held in memory: the files with the embeddings are copied
tensor by tensor with the rows put in, the others are linked (or copied, on another disk).
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from gogpt.errors import GogptError
from gogpt.modelfiles import DTYPE_BYTES, EMBEDDING, Checkpoint

INDEX = "model.safetensors.index.json"

Init = Literal["mean-of-pieces", "mean"]

CHUNK = 16 << 20
"""Bytes copied at a time."""
BLOCK = 4096
"""Rows of a matrix that are averaged at a time."""

Floats = npt.NDArray[np.float64]
RAW: dict[str, Any] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


# -- numbers ---------------------------------------------------------------------------------------


def as_floats(raw: npt.NDArray[Any], dtype: str) -> Floats:
    """Stored values as float64. bfloat16 is the upper half of a float32, which numpy does not know."""
    if dtype == "BF16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64)


def as_stored(values: Floats, dtype: str) -> npt.NDArray[Any]:
    """float64 as it is stored, rounded once to the nearest (ties to even)."""
    if dtype != "BF16":
        return np.asarray(values, dtype=RAW[dtype])
    single = values.astype(np.float32)
    # Rounded to float32 and again to bfloat16, a value could end beside its nearest. So: towards zero, and the last bit
    # set where that was not exact; what is cut off then still says on which side of the middle the value lies.
    beyond = np.abs(single.astype(np.float64)) > np.abs(values)
    single = np.where(beyond, np.nextafter(single, np.float32(0)), single).astype(np.float32)
    bits = single.view(np.uint32) | (single.astype(np.float64) != values).astype(np.uint32)
    return np.asarray((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, dtype=np.uint16)


# -- files -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    """bytes of the file's data part"""


@dataclass(frozen=True)
class Shard:
    """One safetensors file, by its header."""

    file: Path

    @cached_property
    def _header(self) -> tuple[dict[str, Any], int]:
        with self.file.open("rb") as f:
            size = struct.unpack("<Q", f.read(8))[0]
            return json.loads(f.read(size)), 8 + size

    @cached_property
    def data_start(self) -> int:
        return self._header[1]

    @cached_property
    def metadata(self) -> dict[str, str] | None:
        return self._header[0].get("__metadata__")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """In the order of the data."""
        found = [Tensor(name=k, dtype=v["dtype"], shape=tuple(v["shape"]), start=v["data_offsets"][0], end=v["data_offsets"][1])
                 for k, v in self._header[0].items() if k != "__metadata__"]
        return {t.name: t for t in sorted(found, key=lambda t: t.start)}

    def matrix(self, name: str) -> npt.NDArray[Any]:
        """The stored values ``[rows, ...]``, on disk until they are asked for (a bias is a matrix of one column)."""
        t = self.tensors[name]
        shape = t.shape if len(t.shape) > 1 else (*t.shape, 1)
        return np.memmap(self.file, dtype=RAW[t.dtype], mode="r", offset=self.data_start + t.start, shape=shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Names of the tensors with a row for each token, and the shard of each. ``tied``: one matrix serves as both."""

    names: tuple[str, ...]
    shards: dict[str, Shard]
    rows: int
    tied: bool


def find_embeddings(checkpoint: Checkpoint) -> Embeddings:
    """Raises GogptError MOD508 where the matrices cannot be found or are no plain numbers."""
    folder = checkpoint.folder
    shapes = checkpoint.tensors

    def refused(message: str, got: str) -> GogptError:
        return GogptError("MOD508", message, where=str(folder), got=got, expected="float weights in safetensors files, one embedding matrix",
                          fix="give the base in Hugging Face format with safetensors weights, not quantised; or extend its tokenizer alone")

    if not shapes:
        raise refused("the weights are not in safetensors files", ", ".join(sorted(p.name for p in folder.glob("*"))[:8]))
    inputs = [n for n in checkpoint.token_tensors if EMBEDDING.search(n)]
    if len(inputs) != 1:
        raise refused("the input embedding cannot be told", ", ".join(inputs) or "no tensor with a usual name")
    rows = shapes[inputs[0]][0][0]
    names = tuple(checkpoint.token_tensors)
    heads = names[1:]
    odd = [f"{n} is {shapes[n][1]}" for n in names if shapes[n][1] not in RAW]
    if odd:
        raise refused("the embeddings are no plain numbers", ", ".join(odd))
    tied = not any(n.endswith(".weight") for n in heads)
    if tied and checkpoint.text_config.get("tie_word_embeddings") is False:
        raise refused("the model has an output head of its own, but its matrix was not found", f"input {inputs[0]}, tie_word_embeddings: false")
    shards = {n: shard for shard in map(Shard, weight_files(folder)) for n in names if n in shard.tensors}
    return Embeddings(names=names, shards=shards, rows=rows, tied=tied)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that belong to the model."""
    index = folder / INDEX
    if index.is_file():
        return [folder / n for n in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]
    return sorted(folder.glob("*.safetensors"))


def resize(base: Path, found: Embeddings, out: Path, *, first: int, pieces: Sequence[Sequence[int]], rows: int, init: Init) -> list[str]:
    """Write the weights of ``base`` to ``out`` with ``rows`` rows in each matrix: those before ``first`` as they are, then
    one for each of ``pieces`` (ids of the base), then the base's own beyond (padding), then the base's mean.

    Returns the names of the files that were written anew. Raises GogptError ENV110 through the caller.
    """
    anew = []
    files = weight_files(base)
    for file in files:
        mine = [n for n in found.names if found.shards[n].file == file]
        if mine:
            anew.append(file.name)
            _rewrite(Shard(file), out / file.name, mine, first=first, pieces=pieces, rows=rows, init=init)
        else:
            _link(file, out / file.name)
    index = base / INDEX
    if index.is_file():
        document = json.loads(index.read_text(encoding="utf-8"))
        grown = sum((rows - found.rows) * _row_bytes(found.shards[n].tensors[n]) for n in found.names)
        if isinstance(document.get("metadata"), dict) and isinstance(document["metadata"].get("total_size"), int):
            document["metadata"]["total_size"] += grown
        (out / INDEX).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return anew


def _row_bytes(tensor: Tensor) -> int:
    return int(np.prod(tensor.shape[1:], dtype=np.int64)) * DTYPE_BYTES[tensor.dtype]


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:
        shutil.copyfile(file, target)


def _rewrite(shard: Shard, target: Path, mine: Sequence[str], *, first: int, pieces: Sequence[Sequence[int]], rows: int, init: Init) -> None:
    header: dict[str, Any] = {} if shard.metadata is None else {"__metadata__": shard.metadata}
    at = 0
    for name, tensor in shard.tensors.items():
        size = rows * _row_bytes(tensor) if name in mine else tensor.end - tensor.start
        shape = (rows, *tensor.shape[1:]) if name in mine else tensor.shape
        header[name] = {"dtype": tensor.dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with shard.file.open("rb") as source, target.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, tensor in shard.tensors.items():
            if name not in mine:
                _copy(source, out, shard.data_start + tensor.start, tensor.end - tensor.start)
                continue
            width = _row_bytes(tensor)
            start = shard.data_start + tensor.start
            _copy(source, out, start, first * width)
            for block in new_rows(shard.matrix(name), tensor.dtype, first, pieces, init):
                out.write(block.tobytes())
            after = first + len(pieces)
            kept = max(0, tensor.shape[0] - after)
            _copy(source, out, start + after * width, kept * width)
            missing = rows - after - kept
            if missing > 0:
                out.write(as_stored(mean_row(shard.matrix(name)[:first], tensor.dtype), tensor.dtype).tobytes() * missing)


def _copy(source: IO[bytes], out: IO[bytes], at: int, size: int) -> None:
    source.seek(at)
    while size > 0:
        data = source.read(min(size, CHUNK))
        if not data:
            raise OSError("the weight file ends before its header says")
        out.write(data)
        size -= len(data)


def mean_row(matrix: npt.NDArray[Any], dtype: str) -> Floats:
    """The mean of all rows, in float64."""
    total = sum((as_floats(matrix[i : i + BLOCK], dtype).sum(axis=0) for i in range(0, len(matrix), BLOCK)), np.zeros(matrix.shape[1:]))
    return np.asarray(total / max(1, len(matrix)))


def new_rows(matrix: npt.NDArray[Any], dtype: str, first: int, pieces: Sequence[Sequence[int]], init: Init) -> Iterator[npt.NDArray[Any]]:
    """Rows of the new tokens as they are stored, some at a time. The mean of a token's pieces is taken in float64 and rounded once."""
    everything = as_stored(mean_row(matrix[:first], dtype), dtype) if init == "mean" else None
    for at in range(0, len(pieces), BLOCK):
        block = pieces[at : at + BLOCK]
        if everything is not None:
            yield np.repeat(everything[None], len(block), axis=0)
        else:
            yield as_stored(np.stack([as_floats(matrix[list(ids)], dtype).mean(axis=0) for ids in block]), dtype)
