"""What lies in a checkpoint, by names, sizes and safetensors headers: nothing of it is loaded, and no pickle is opened."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.safetensors", "adapter_model.bin")
STATES = ("optimizer.pt", "optimizer.bin", "optimizer", "optimizer_0", "pytorch_model_fsdp_0")
SHARD = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_\d+_(model|optim)_states\.pt$")


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A folder of a checkpoint. ``ranks``: numbers of its ZeRO shards; ``zero_stage`` 3: the weights are in shards, too."""

    path: Path
    missing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    zero_stage: int | None = None
    consolidated: bool = True
    latest_missing: str | None = None


def newest(folder: Path) -> Path | None:
    """The newest ``checkpoint-N`` (Trainer) of a folder, by its number."""
    found = [(int(p.name.rpartition("-")[2]), p) for p in folder.glob("checkpoint-*") if p.is_dir() and p.name.rpartition("-")[2].isdigit()]
    return max(found)[1] if found else None


def holds_shards(folder: Path) -> bool:
    return any(SHARD.search(p.name) for pattern in ("*_states.pt", "global_step*/*_states.pt") for p in folder.glob(pattern))


def look_at(folder: Path) -> Checkpoint:
    """A checkpoint as its files show it. Raises OSError."""
    out = Checkpoint(path=folder)
    weights = [p for pattern in WEIGHTS for p in sorted(folder.glob(pattern)) if not p.name.endswith(".index.json")]
    latest = folder / "latest"
    tag = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else ""
    tags = [p for p in folder.glob("global_step*") if p.is_dir()]
    shards = folder / tag if tag and (folder / tag).is_dir() else max(tags, key=lambda p: (len(p.name), p.name), default=folder)
    if tag and not (folder / tag).is_dir():
        out.latest_missing = tag
    files = [(p, found) for p in sorted(shards.glob("*_states.pt")) if (found := SHARD.search(p.name))]
    out.ranks = tuple(sorted({int(m[1]) for _, m in files if m[2] == "optim"}))
    if files:
        out.zero_stage = 3 if any(m[2] == "model" for _, m in files) else 2
    out.consolidated = bool(weights) or out.zero_stage != 3
    if (folder / "trainer_state.json").is_file() and weights and not (files or tags):
        states = [name for name in STATES if (folder / name).exists()]
        gone = [*([] if states else ["optimizer"]), *([] if (folder / "scheduler.pt").exists() or (folder / "scheduler.bin").exists() else ["scheduler"])]
        out.missing = tuple(gone)
    every = [*weights, *(p for p, _ in files), *shards.glob("mp_rank_*_model_states.pt"), *(folder / n for n in STATES if (folder / n).is_file())]
    out.empty = tuple(str(p.relative_to(folder)) for p in dict.fromkeys(every) if _is_empty(p))
    return out


def _is_empty(path: Path) -> bool:
    """No bytes, or a safetensors file in which every tensor has no element (as shards of ZeRO-3 saved without gathering: peft#2892)."""
    try:
        if path.stat().st_size == 0:
            return True
        if path.suffix != ".safetensors":
            return False
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            header = json.loads(file.read(min(size, 1 << 27)))
        shapes = [t["shape"] for name, t in header.items() if name != "__metadata__"]
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
        return False  # damaged is another fault, told by whoever loads it
    return all(0 in shape for shape in shapes)
