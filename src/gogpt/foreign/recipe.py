"""Another tool's configuration as a GoGPT recipe: what has a counterpart, and what has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gogpt.errors import GogptError
from gogpt.foreign.document import ForeignFile
from gogpt.foreign.marks import COMMON, NAMES
from gogpt.foreign.settings import Reader, finite, flag, sources, whole, words
from gogpt.templates import declared

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant", "cosine_with_min_lr": "cosine"}

TAKEN: Mapping[str, frozenset[str]] = {
    "llamafactory": frozenset({"stage", "do_train", "mask_history", "train_on_prompt", "bf16", "fp16", "pure_bf16", "dataset_dir", "max_samples", "optim", "plot_loss", "overwrite_output_dir", "overwrite_cache", "val_size"}),
    "axolotl": frozenset({"train_on_inputs", "bf16", "fp16", "tf32", "batch_size", "optimizer", "dataset_prepared_path", "pad_to_sequence_len"}),
    "swift": frozenset({"loss_scale", "bf16", "fp16", "torch_dtype"}),
    "trl": frozenset({"assistant_only_loss", "completion_only_loss", "bf16", "fp16", "packing_strategy", "dataset_train_split", "dtype", "env"}),
}
"""Keys beside those of NAMES and COMMON that are taken into account, or of which a recipe has no need."""

LEFT = frozenset({"report_to", "save_only_model", "ddp_timeout", "deepspeed", "nan_filter", "resume", "workers", "attention", "save_strategy"})


def template_of(file: ForeignFile) -> str | None:
    """GoGPT's name for the template that the configuration asks for: auto where it is the tokenizer's own; None where there is none to name."""
    facts, document = file.facts, file.document
    if file.tool == "trl":
        path = document.get("chat_template_path")
        return str(path) if isinstance(path, str) and path.endswith((".jinja", ".jinja2")) else "auto"
    name = facts.template
    if facts.template_fits or name is None or str(name).startswith("tokenizer_default"):
        kinds = {str(s.get("type")) for s in sources(document)} if file.tool == "axolotl" else set()
        return "alpaca" if kinds and all(k.startswith("alpaca") for k in kinds) else "auto"
    try:
        return declared(name).name
    except GogptError:
        return None


def train_on(file: ForeignFile) -> str:
    read, document = Reader(file.tool, file.document), file.document
    if file.tool == "llamafactory":
        return "all" if read.on("train_on_prompt") else "last" if read.on("mask_history") else "assistant"
    if file.tool == "axolotl":
        return "all" if read.on("train_on_inputs") else "assistant"
    if file.tool == "swift":
        scale = str(document.get("loss_scale") or "default")
        return "all" if scale == "all" else "last" if scale.startswith("last_round") else "assistant"
    return "assistant" if read.on("assistant_only_loss") or flag(document.get("completion_only_loss")) else "all"


def targets_of(file: ForeignFile) -> str | list[str]:
    value = Reader(file.tool, file.document).get("targets")
    found = words(value)
    if not found or found in (("all",), ("all-linear",), ("True",)) or value is True:
        return "all-linear"
    return str(value) if isinstance(value, str) and any(c in value for c in "*^$|()\\") else list(found)


def warmup_of(file: ForeignFile) -> float:
    facts = file.facts
    return float(facts.warmup_steps) if facts.warmup_steps else facts.warmup_ratio or 0.0


def batch_of(file: ForeignFile) -> tuple[int, int]:
    """Sequences of an optimizer step over all processes, and of one forward pass."""
    facts = file.facts
    micro, world = facts.micro_batch_size or 1, facts.world_size or 1
    accumulation = facts.accumulation or max(1, -(-16 // (micro * world)))  # ms-swift: so that the batch is at least 16
    return micro * accumulation * world, micro


def to_recipe(file: ForeignFile) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The recipe, and the keys without a counterpart, each with why. Paths are absolute."""
    facts, read = file.facts, Reader(file.tool, file.document)
    batch, micro = batch_of(file)
    method: dict[str, Any] = {"kind": facts.method if facts.method in ("lora", "qlora", "full", "freeze") else "lora"}
    if method["kind"] in ("lora", "qlora"):
        rank = whole(read.get("rank")) or 8
        method |= {"rank": rank, "alpha": finite(read.get("alpha")) or 2.0 * rank, "dropout": finite(read.get("dropout")) or 0.0, "targets": targets_of(file)}
        if saved := words(read.get("saved")):
            method["modules_to_save"] = list(saved)
    if method["kind"] == "freeze":
        method["trainable_layers"] = whole(read.get("layers")) or 2
    evaluation: Any = facts.eval_share if 0 < facts.eval_share < 1 else 0.0
    if facts.eval:
        evaluation = [{"path": p} for p in facts.eval]
    train: dict[str, Any] = {
        "learning_rate": facts.learning_rate, "schedule": SCHEDULES.get(facts.schedule or "linear", "cosine"), "warmup": warmup_of(file),
        "batch_size": batch, "micro_batch_size": micro, "seed": whole(read.get("seed")) or 0, "precision": facts.precision,
        "weight_decay": finite(read.get("weight_decay")) or 0.0, "max_grad_norm": 1.0 if facts.clipping is None else facts.clipping,
        "gradient_checkpointing": bool(flag(read.get("checkpointing"))),
    }
    train |= {"max_steps": facts.max_steps} if facts.max_steps else {"epochs": facts.epochs or 3.0}
    limit = whole(file.document.get("max_samples")) if file.tool == "llamafactory" else None
    recipe = {
        "model": facts.model or "", "data": {
            "train": [{"path": p, **({"limit": limit} if limit else {})} for p in facts.train], "eval": evaluation, "template": template_of(file) or "auto",
            "max_length": facts.max_length or 2048, "overlong": "drop", "train_on": train_on(file), "packing": facts.packing},
        "method": method, "train": train, "output": str(read.get("output") or "runs/migrated"),
    }
    if facts.learning_rate is None:
        del train["learning_rate"]
    return recipe, _left_out(file)


def _left_out(file: ForeignFile) -> list[tuple[str, str]]:
    tool = file.tool
    known = {k for what, keys in {**COMMON, **NAMES[tool]}.items() if what not in LEFT for k in keys} | TAKEN[tool]
    out = [(key, "has no counterpart in a recipe, or GoGPT decides it itself") for key in file.document if key not in known and key not in file.facts.unknown]
    out += [(key, "is not a key of " + file.facts.release) for key in file.facts.unknown]
    if file.facts.schedule and file.facts.schedule not in SCHEDULES:
        out.append((file.facts.key("schedule"), f"{file.facts.schedule}: taken as cosine"))
    if file.facts.template and template_of(file) is None:
        out.append((file.facts.key("template"), f"{file.facts.template}: no declared template of that name; taken as auto"))
    if file.facts.overlong != "drops":
        out.append((file.facts.key("max_length"), "longer conversations are dropped and counted, not cut"))
    return out


