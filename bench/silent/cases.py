"""A case: the files and the commands with which one tool is given one fault, or its healthy twin.

Everything is text, so that a case has a digest, can be written anywhere, and can be run by hand. ``@MODELS@`` in a file
or a command stands for the folder of tiny models (world.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

GOGPT, TRL, LLAMAFACTORY = "gogpt", "trl", "llamafactory"
TOOLS = (GOGPT, TRL, LLAMAFACTORY)
STEPS = 12
"""Optimizer steps of a run, where a fault does not say otherwise."""

MODELS = "@MODELS@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command. ``words``: what stands behind the tool's name, or ``("python", FILE)``: a file of the case, run in the tool's own Python.

    ``files`` are written first, over what is there.
    """

    words: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    kill_after: int | None = None
    """kill the command (SIGKILL) when so many optimizer steps are done"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Commands in order, of which the last is the judged one: what comes before only prepares it and must end with exit code 0."""

    steps: tuple[Step, ...]
    model: str = "tiny"
    """the folder of tiny models that it uses; its special ids are what the probe counts"""
    leak: bool = False
    """measure whether the documents of a packed row see each other"""
    timeout: float = 120.0
    """seconds for each command"""
    planned: int = STEPS
    """optimizer steps of the last command"""

    @property
    def key(self) -> str:
        """A digest of all that is written and run."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """A fault that a tool cannot be given."""

    why: str


Rows = Sequence[Mapping[str, Any]]


def jsonl(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def text(data: Rows | str) -> str:
    return data if isinstance(data, str) else jsonl(data)


def _document(base: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """Changes over the base: parts that are mappings are merged, None takes a key out."""
    merged = dict(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = {k: v for k, v in {**merged[key], **value}.items() if v is not None}
        else:
            merged[key] = value
    return yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)


# -- GoGPT -----------------------------------------------------------------------------------------


def gogpt_files(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None) -> dict[str, str]:
    base = {
        "model": f"{MODELS}/{model}",
        "data": {"train": "data.jsonl", "max_length": 256, "packing": False, "workers": 1, **({"eval": "test.jsonl"} if test is not None else {})},
        "method": {"kind": "lora", "rank": 4, "alpha": 8},
        "train": {"max_steps": STEPS, "learning_rate": 1e-3, "schedule": "linear", "warmup": 1, "batch_size": 4, "micro_batch_size": 4},
        "output": "run",
    }
    files = {"recipe.yaml": _document(base, changes), "data.jsonl": text(data)}
    if test is not None:
        files["test.jsonl"] = text(test)
    return files


def gogpt(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None, **given: Any) -> Case:
    return Case(steps=(Step(words=("train", "recipe.yaml"), files=gogpt_files(data, changes, model=model, test=test)),), model=model, **given)


# -- TRL -------------------------------------------------------------------------------------------


def trl_files(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None) -> dict[str, str]:
    base = {
        "model_name_or_path": f"{MODELS}/{model}", "dataset_name": "data", "max_length": 256, "assistant_only_loss": True, "dtype": "float32",
        "use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_target_modules": "all-linear",
        "max_steps": STEPS, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 1,
        "per_device_train_batch_size": 4, "gradient_checkpointing": False, "bf16": False, "use_cpu": True,
        "logging_steps": 1, "disable_tqdm": True, "report_to": "none", "save_strategy": "no", "output_dir": "run",
    }
    files = {"sft.yaml": _document(base, changes), "data/train.jsonl": text(data)}
    if test is not None:
        files["data/test.jsonl"] = text(test)
    return files


def trl(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None, **given: Any) -> Case:
    return Case(steps=(Step(words=("sft", "--config", "sft.yaml"), files=trl_files(data, changes, model=model, test=test)),), model=model, **given)


# -- LLaMA-Factory ---------------------------------------------------------------------------------

MESSAGES: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
}
"""OpenAI messages, as an entry of dataset_info.json."""


def lf_files(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None,
             info: Mapping[str, Any] = MESSAGES) -> dict[str, str]:
    base = {
        "stage": "sft", "do_train": True, "model_name_or_path": f"{MODELS}/{model}", "template": "chatml",
        "dataset": "train", "dataset_dir": "data", "cutoff_len": 256, "overwrite_cache": True,
        "finetuning_type": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_target": "all",
        "max_steps": STEPS, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 1,
        "per_device_train_batch_size": 4, "disable_gradient_checkpointing": True, "use_cpu": True,
        "logging_steps": 1, "disable_tqdm": True, "report_to": "none", "save_strategy": "no", "output_dir": "run",
    }
    named = {"train": {"file_name": "train.jsonl", **info}}
    files = {"data/train.jsonl": text(data)}
    if test is not None:
        named["test"] = {"file_name": "test.jsonl", **info}
        files["data/test.jsonl"] = text(test)
    return {"train.yaml": _document(base, changes), "data/dataset_info.json": json.dumps(named, indent=1), **files}


def llamafactory(data: Rows | str, changes: Mapping[str, Any], *, model: str = "tiny", test: Rows | str | None = None,
                 info: Mapping[str, Any] = MESSAGES, **given: Any) -> Case:
    return Case(steps=(Step(words=("train", "train.yaml"), files=lf_files(data, changes, model=model, test=test, info=info)),), model=model, **given)


Cases = Mapping[str, Case]


def same(data: Rows | str, *, model: str = "tiny", test: Rows | str | None = None, gogpt_: Mapping[str, Any] | None = None,
         trl_: Mapping[str, Any] | None = None, lf_: Mapping[str, Any] | None = None, **given: Any) -> dict[str, Case]:
    """The same data and model for all three, each with its own changes to the usual configuration."""
    return {
        GOGPT: gogpt(data, gogpt_ or {}, model=model, test=test, **given),
        TRL: trl(data, trl_ or {}, model=model, test=test, **given),
        LLAMAFACTORY: llamafactory(data, lf_ or {}, model=model, test=test, **given),
    }
