"""What a run was asked for: from the command line, from files that trainers write beside a run, from its model card. No pickle is opened."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gogpt.autopsy.records import Known, number, whole
from gogpt.errors import GogptError
from gogpt.yaml12 import parse_value, parse_yaml

ASKED: Mapping[str, tuple[str, type, str]] = {
    "train.schedule": ("schedule", str, "linear | cosine | constant"), "train.learning_rate": ("rate", float, "a number"),
    "train.max_steps": ("max_steps", int, "a whole number"), "train.epochs": ("epochs", float, "a number"),
    "train.warmup": ("warmup", float, "a number"), "train.precision": ("precision", str, "fp32 | bf16 | fp16"),
    "parallel.processes": ("world_size", int, "a whole number"),
}
"""Keys of a recipe that a run's records are held against."""
WORDS = {"schedule": ("linear", "cosine", "constant"), "precision": ("fp32", "bf16", "fp16")}


def read_asked(assignments: Sequence[str]) -> Known:
    """``key=value`` of the command line. Raises GogptError CFG202 for another key or kind of value, CFG204 for no assignment."""
    out = Known()
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise GogptError("CFG204", "not key=value", where="command line", got=assignment)
        if key not in ASKED:
            raise GogptError("CFG202", f"what a run left behind is not held against {key}", where="command line", expected=", ".join(ASKED))
        name, kind, wanted = ASKED[key]
        value = parse_value(text)
        value = float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value
        bad = not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, (int, float)) and not 0 <= value < 1e12)
        if bad or (kind is int and value < 1) or (name in WORDS and value not in WORDS[name]) or (name in ("epochs", "rate") and value == 0):
            raise GogptError("CFG202", f"{key} cannot be that", where="command line", got=text, expected=wanted)
        out.say(name, value, "command line")
    return out


SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}


def take(known: Known, data: Mapping[str, Any], source: str) -> None:
    """The keys of TrainingArguments (also in ms-swift's args.json, LLaMA-Factory's and Axolotl's YAML) that matter here."""
    steps = whole(data.get("max_steps"))
    if steps is not None and steps > 0:
        known.say("max_steps", steps, source)
    else:
        known.say("epochs", number(data.get("num_train_epochs", data.get("num_epochs"))), source)
    schedule = data.get("lr_scheduler_type", data.get("lr_scheduler"))
    if isinstance(schedule, str):
        name = schedule.rpartition(".")[2].lower()
        known.say("schedule", SCHEDULES.get(name, "other"), source)
    known.say("rate", number(data.get("learning_rate")), source)
    ratio, count = number(data.get("warmup_ratio")), number(data.get("warmup_steps"))
    if count or ratio:
        known.say("warmup", count or ratio, source)  # transformers 5: a share below 1 in warmup_steps
    known.say("accumulation", whole(data.get("gradient_accumulation_steps")), source)
    precision = next((p for p in ("fp16", "bf16") if data.get(p) is True or str(data.get(p)).lower() == "true"), None)
    known.say("precision", precision, source)
    known.say("world_size", whole(data.get("world_size", data.get("global_world_size"))), source)
    model = data.get("model_config")
    if isinstance(model, Mapping):
        known.say("vocab_size", whole(model.get("vocab_size")), source)


CARD = re.compile(r"^- (learning_rate|lr_scheduler_type|lr_scheduler_warmup_steps|lr_scheduler_warmup_ratio|training_steps|num_epochs|num_devices|"
                  r"gradient_accumulation_steps|mixed_precision_training): (.+)$", re.MULTILINE)


def take_card(known: Known, text: str, source: str) -> None:
    """The hyperparameters that transformers writes into a model card (modelcard.py), num_devices among them."""
    found = dict(CARD.findall(text))
    if not found:
        return
    take(known, {
        "learning_rate": found.get("learning_rate"), "lr_scheduler_type": found.get("lr_scheduler_type"), "max_steps": found.get("training_steps"),
        "num_train_epochs": found.get("num_epochs"), "warmup_ratio": found.get("lr_scheduler_warmup_ratio"),
        "warmup_steps": found.get("lr_scheduler_warmup_steps"), "gradient_accumulation_steps": found.get("gradient_accumulation_steps"),
        "world_size": found.get("num_devices"),
    }, source)
    if "num_devices" not in found:
        known.say("world_size", 1, source)  # the card names them where there are several


def take_files(known: Known, folder: Path, read: list[str], unread: dict[str, str]) -> None:
    """Files beside a run: args.json (ms-swift), YAML (LLaMA-Factory, Axolotl), README.md, config.json; training_args.bin stays closed."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml"), folder / "args.json"]):
        try:
            data = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else parse_yaml(path.read_text(encoding="utf-8"), str(path))[0]
        except (OSError, ValueError, GogptError) as problem:
            if path.exists():
                unread[str(path)] = str(problem).splitlines()[0]
            continue
        if isinstance(data, dict) and {"learning_rate", "num_train_epochs", "num_epochs", "max_steps", "lr_scheduler_type"} & set(data):
            take(known, data, path.name)
            read.append(str(path))
    card = folder / "README.md"
    with contextlib.suppress(OSError, ValueError):
        take_card(known, card.read_text(encoding="utf-8"), card.name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        known.say("vocab_size", whole(model.get("vocab_size")), "config.json")
    pickled = folder / "training_args.bin"
    if pickled.exists():
        unread[str(pickled)] = "a pickle, which can run code when it is opened"
    ranks = list(folder.glob("rng_state_*.pth"))
    if ranks or (folder / "rng_state.pth").exists():
        known.say("world_size", max(1, len(ranks)), "rng_state files")
