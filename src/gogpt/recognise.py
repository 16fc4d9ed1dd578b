"""What an object is: decided by its content, not by its name. Nothing is opened that would run code."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gogpt.data.decoding import is_packed
from gogpt.data.sources import ROW_FILES, TEXT_FILES, find_files
from gogpt.errors import GogptError
from gogpt.foreign.marks import TOOL_NAMES, tools_of
from gogpt.foreign.script import find_launch
from gogpt.parallel import is_deepspeed
from gogpt.yaml12 import parse_yaml

HEAD = 1 << 20
"""Bytes of a file that are looked at; a larger one is data or a log."""

KINDS: Mapping[str, str] = {
    "recipe": "a recipe of GoGPT (YAML with model, data, output)", "llamafactory": "a configuration of LLaMA-Factory", "axolotl": "of Axolotl", "swift": "of ms-swift",
    "trl": "of TRL", "script": "a launch script of one of these", "deepspeed": "a DeepSpeed file (JSON)", "accelerate": "a configuration of accelerate",
    "data": "data (rows in JSON, JSON lines, CSV, Parquet, Arrow, or text)", "adapter": "an adapter folder (adapter_config.json)",
    "model": "a model folder (config.json)", "tokenizer": "a tokenizer folder", "run": "a run folder or checkpoint (recipe.yaml, trainer_state.json)",
    "events": "TensorBoard events", "log": "a log",
}
"""What is looked for, in words."""

RECIPE_KEYS = ("model", "data", "method", "train", "parallel", "checks", "output", "stage")
ACCELERATE_KEYS = frozenset({"compute_environment", "distributed_type", "machine_rank", "num_machines", "num_processes", "mixed_precision", "main_training_function",
                             "rdzv_backend", "same_network", "downcast_bf16"})
STATE_KEYS = frozenset({"log_history", "global_step", "max_steps", "num_train_epochs"})
STEP_KEYS = frozenset({"loss", "lr", "learning_rate", "grad_norm", "step", "global_step", "current_steps", "total_steps", "percentage"})
LEAST = 2
"""Points below which a mapping is no configuration of another tool."""
SURE = 4
"""Points from which there is no doubt: the part of a recipe and another key, or a key that only one tool has."""
_LOGGED = re.compile(r"\{'(?:loss|train_loss|eval_loss|train_runtime)':|\bit/s\]|\bs/it\]|Traceback \(most recent|^\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """``kinds``: of KINDS, the likeliest first; a folder can be several (a run that holds an adapter). ``why``: what says so. ``sure``: False for
    what is taken as that because it can be nothing else that is known here: a JSON document as data, a mapping with one key of a recipe."""

    kinds: tuple[str, ...]
    why: str = ""
    sure: bool = True


def recognise(path: Path, name: str) -> Recognised:
    """Raises GogptError CFG206: it is nothing that is known, or two things at once."""
    found = _folder(path) if path.is_dir() else _file(path, name)
    if found is None:
        raise unknown(path, name)
    return found


def unknown(path: Path, name: str, *, got: str | None = None, fix: str | None = None) -> GogptError:
    return GogptError("CFG206", "this is nothing that can be checked", where=name, got=got or _described(path), expected="; ".join(KINDS.values()),
                      fix=fix or "give the file or the folder itself")


def _described(path: Path) -> str:
    if path.is_dir():
        inside = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
        return ", ".join(inside[:8]) or "an empty folder"
    return f"a file of {path.stat().st_size} bytes"


# -- folders ---------------------------------------------------------------------------------------


def _folder(path: Path) -> Recognised | None:
    def has(*names: str) -> bool:
        return any((path / n).is_file() for n in names)

    kinds: list[str] = []
    if has("run.json", "metrics.jsonl", "trainer_state.json", "trainer_log.jsonl") or any(path.glob("checkpoint-*/trainer_state.json")) or any(path.glob("global_step*/*.pt")):
        kinds.append("run")
    if has("adapter_config.json"):
        kinds.append("adapter")
    elif has("config.json") and (config := _json(path / "config.json")) is not None and {"model_type", "architectures"} & set(config):
        kinds.append("model")
    if kinds in ([], ["run"]) and (path / "final").is_dir() and (inner := _folder(path / "final")) is not None:
        return Recognised(kinds=tuple(dict.fromkeys(["run", *inner.kinds])), why="final/")
    if any(path.glob("*tfevents*")) or any(path.glob("runs/*/*tfevents*")):
        kinds.append("events" if not kinds else "run")
    if not kinds and has("tokenizer.json", "tokenizer.model", "tekken.json"):
        kinds.append("tokenizer")
    if not kinds:
        with contextlib.suppress(GogptError):
            if find_files(str(path)):
                kinds.append("data")
    return Recognised(kinds=tuple(dict.fromkeys(kinds))) if kinds else None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


# -- files -----------------------------------------------------------------------------------------


def _file(path: Path, name: str) -> Recognised | None:
    with path.open("rb") as f:
        head = f.read(HEAD)
    whole = path.stat().st_size <= HEAD
    if "tfevents" in path.name:
        return Recognised(kinds=("events",))
    if head[:4] == b"PAR1" or head[:6] == b"ARROW1" or is_packed(head):
        return Recognised(kinds=("data",))
    if path.suffix in (".safetensors", ".bin", ".pt", ".pth", ".gguf"):
        raise unknown(path, name, got=f"weights ({path.suffix})", fix=f"give the folder: {path.parent}")
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        if not whole and problem.start > len(head) - 4:
            text = head[: problem.start].decode("utf-8-sig")
        elif _suffix(path) in (*ROW_FILES, *TEXT_FILES):
            return Recognised(kinds=("data",))  # in another encoding, which the reader of data knows
        elif path.suffix in (".yaml", ".yml", ""):
            return Recognised(kinds=("recipe",), sure=False)  # and is refused there, with the byte
        else:
            return None
    return _text(path, name, text, whole)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _text(path: Path, name: str, text: str, whole: bool) -> Recognised | None:
    start = text.lstrip()
    if whole and start.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            return _json_document(path, name, json.loads(text))
    if start.startswith(("{", "[")) and _suffix(path) not in (".yaml", ".yml"):
        return _rows(text)
    if whole and find_launch(text) is not None:
        return Recognised(kinds=("script",))
    if path.suffix in (".yaml", ".yml", "") or (whole and ":" in start.partition("\n")[0] and _suffix(path) not in (*ROW_FILES, *TEXT_FILES, ".log", ".sh", ".bash")):
        return _yaml(path, name, text)
    if _LOGGED.search(text):
        return Recognised(kinds=("log",))
    if _suffix(path) in (*ROW_FILES, *TEXT_FILES):
        return Recognised(kinds=("data",))
    return None


def _json_document(path: Path, name: str, data: Any) -> Recognised:
    """One JSON object: a configuration, or else one row."""
    try:
        found = _mapping(path, name, data)
    except GogptError:
        if isinstance(data, dict) and tools_of(data) and tools_of(data)[0][1] >= LEAST:
            raise
        found = None
    if found is not None and (found.sure or found.kinds != ("recipe",)):
        return found
    is_step = isinstance(data, dict) and len(STEP_KEYS & set(data)) >= 2
    return Recognised(kinds=("log",)) if is_step else Recognised(kinds=("data",), sure=False)


def _rows(text: str) -> Recognised:
    """JSON lines or an array: rows of data, or the steps of a log."""
    first = text.lstrip().partition("\n")[0]
    with contextlib.suppress(ValueError, RecursionError):
        row = json.loads(first)
        if isinstance(row, dict) and len(STEP_KEYS & set(row)) >= 2:
            return Recognised(kinds=("log",))
    return Recognised(kinds=("data",), sure=not text.lstrip().startswith("["))


def _yaml(path: Path, name: str, text: str) -> Recognised | None:
    try:
        data = parse_yaml(text, name)[0]
    except GogptError:
        return Recognised(kinds=("log",)) if _LOGGED.search(text) else Recognised(kinds=("recipe",), sure=False)  # the recipe's reader tells the line
    if isinstance(data, dict):
        return _mapping(path, name, data)
    is_log = data is not None and path.suffix not in (".yaml", ".yml") and bool(_LOGGED.search(text))
    return Recognised(kinds=("log",)) if is_log else Recognised(kinds=("recipe",), sure=False)


def _mapping(path: Path, name: str, data: Any) -> Recognised | None:
    """A mapping: which configuration it is."""
    if not isinstance(data, dict):
        return None
    keys = {str(k) for k in data}
    if is_deepspeed(data):
        return Recognised(kinds=("deepspeed",), why="its keys are DeepSpeed's")
    if len(keys & STATE_KEYS) >= 2:
        return Recognised(kinds=("run",), why="a trainer_state.json")
    if len(keys & ACCELERATE_KEYS) >= 3:
        return Recognised(kinds=("accelerate",), why="its keys are accelerate's")
    own = _recipe_points(data)
    others = tools_of(data)
    best = others[0] if others else ("", 0)
    if own and own >= best[1]:
        return Recognised(kinds=("recipe",), sure=own >= SURE)
    if best[1] >= LEAST:
        return _tool(path, name, keys, others)
    near = [k for k in keys if difflib.get_close_matches(k, RECIPE_KEYS, n=1, cutoff=0.75)]
    if own or near or not keys:
        return Recognised(kinds=("recipe",), sure=False)
    raise unknown(path, name, got=f"a mapping with the keys {', '.join(sorted(keys)[:8])}", fix=_guess(keys))


def _recipe_points(data: Mapping[str, Any]) -> int:
    """Three for a part of a recipe (a mapping), one for another key of it."""
    points = sum(3 if isinstance(data.get(k), dict) else 1 for k in RECIPE_KEYS if k in data)
    return points if not isinstance(data.get("train"), bool) else 0


def _tool(path: Path, name: str, keys: set[str], others: Sequence[tuple[str, int]]) -> Recognised:
    first = others[0]
    if len(others) > 1 and others[1][1] == first[1]:
        both = [TOOL_NAMES[t] for t, points in others if points == first[1]]
        raise GogptError("CFG206", f"this can be a configuration of {' or of '.join(both)}", where=name, got=f"the keys {', '.join(sorted(keys)[:8])}",
                         expected="a key that only one of them has", fix="add one (LLaMA-Factory: stage; Axolotl: base_model; ms-swift: train_type; TRL: dataset_name)")
    return Recognised(kinds=(first[0],), sure=first[1] >= SURE, why=f"its keys are those of {TOOL_NAMES[first[0]]}")


def _guess(keys: set[str]) -> str:
    """The nearest kind, by its keys."""
    from gogpt.foreign.marks import MARKS

    known = {key: kind for kind, marks in MARKS.items() for key in marks} | dict.fromkeys(RECIPE_KEYS, "recipe") | dict.fromkeys(ACCELERATE_KEYS, "accelerate")
    for key in sorted(keys):
        if near := difflib.get_close_matches(key, known, n=1, cutoff=0.7):
            kind = known[near[0]]
            return f"the nearest is {TOOL_NAMES.get(kind, kind)}: is {key} meant to be {near[0]}?"
    return "no key is near one of theirs; a recipe has model, data and output (gogpt schema)"
